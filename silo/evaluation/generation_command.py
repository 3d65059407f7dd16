"""`silo eval generation`: what free generation is like with the datastore, beside the LM alone and people's text.

Thin: reads arguments, calls the library, prints and writes figures.
"""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from silo.evaluation.commands import Cache, Device, Out
from silo.evaluation.mixture_options import Gate, K, Model, Seed, noting, opened, setup, write
from silo.settings import DEFAULT_MAX_VERBATIM

if TYPE_CHECKING:
    from silo.settings import GenerationSettings

_HUMAN = "human, later"


def generation(
    text: Annotated[list[str], typer.Argument(help="Held-out documents, whose beginnings are the prompts.")],
    model: Model,
    datastore: Annotated[Path, typer.Option(help="A datastore that the model wrote; it is read.")],
    n_prompts: Annotated[int, typer.Option("--prompts", min=2, help="Documents to begin from, the first ones.")] = 64,
    prompt_tokens: Annotated[int, typer.Option(min=1, help="Of each, its first so many tokens.")] = 32,
    max_tokens: Annotated[int, typer.Option(min=4, help="To generate, and of people's text.")] = 128,
    temperature: Annotated[float, typer.Option(help="Of sampling; 0 is greedy.")] = 1.0,
    top_p: Annotated[float, typer.Option(help="Nucleus.")] = 0.95,
    max_verbatim: Annotated[
        int, typer.Option(min=0, help="Tokens in a row that may be copied from high-risk text; 0: no limit.")
    ] = DEFAULT_MAX_VERBATIM,
    mixture: Annotated[list[str] | None, typer.Option(help="lm, fixed, gate, knn or ngram; may be repeated.")] = None,
    passages: Annotated[
        str, typer.Option(help="What makes vectors of texts: minilm, a folder, or none to leave likeness out.")
    ] = "minilm",
    gate: Gate = None,
    k: K = 32,
    seed: Seed = 0,
    cache: Cache = None,
    out: Out = None,
    device: Device = "cpu",
) -> None:
    """Repetition, distinct n-grams and likeness to people's text of what the mixtures and the LM alone make freely."""
    from dataclasses import asdict, replace
    from itertools import chain

    from silo.corpora import read_documents
    from silo.evaluation.free_generation import comparing, continued, figures, prompts
    from silo.evaluation.mixtures import FIXED, GATE, LM, mixtures
    from silo.evaluation.recording import digest_of
    from silo.evaluation.resuming import Done
    from silo.generation import Silo
    from silo.passages import PassageEncoder

    store, served = opened(model, datastore, gate, k, None, None, device)
    settings = replace(
        served.settings,
        max_tokens=max_tokens,
        temperature=temperature,
        top_p=top_p,
        max_verbatim=max_verbatim or None,
        seed=seed,
    )
    has_gate = served.gate is not None
    compared = mixtures(settings, has_gate, mixture or [LM, FIXED, *([GATE] if has_gate else [])])
    encoder = None if passages == "none" else PassageEncoder.load(passages, device)
    documents = chain.from_iterable(read_documents(place) for place in text)
    asked, digests = prompts(served.lm, documents, n_prompts, prompt_tokens, max_tokens)
    compare = None if encoder is None else comparing(encoder.encode, asked, seed)
    silo = Silo(served.lm, store, served.gate)
    rows: list[dict[str, Any]] = []
    done = Done.of(cache, served, store, digests, prompt_tokens, encoder.fingerprint if encoder else "")

    def made(mixed: "GenerationSettings") -> dict[str, Any]:
        return figures(continued(silo, asked, mixed), asked, compare, seed)

    with noting("generation") as note:
        for name, mixed in compared.items():
            note(name)
            rows.append({"mixture": name} | done.part("made", partial(made, mixed), asdict(mixed)))
    rows.append({"mixture": _HUMAN} | figures([prompt.later for prompt in asked], asked, compare, seed))
    _print(rows)
    config: dict[str, Any] = {"command": "eval generation", "texts": text, "documents": digest_of(digests)}
    config |= {"prompt_tokens": prompt_tokens, "max_tokens": max_tokens, "max_verbatim": max_verbatim or None}
    config |= {"temperature": temperature, "top_p": top_p, "passage_encoder": encoder.fingerprint if encoder else ""}
    write(out, config | setup(store, served), rows, seed)


def _print(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    names = [name for name in rows[0] if f"{name}_interval" in rows[0]]
    table = Table("", *(row["mixture"] for row in rows))
    for name in names:
        cells = ((row[name], *row[f"{name}_interval"]) for row in rows)
        table.add_row(name.replace("_", "-"), *(f"{value:.3f} ({low:.3f}–{high:.3f})" for value, low, high in cells))
    table.add_row("ended early", *(str(row["n_ended"]) for row in rows))
    Console().print(table)
    if "likeness" in names:
        print(
            f"likeness to what people wrote, a score like MAUVE: {rows[0]['n_prompts']} texts of a kind in "
            f"{rows[0]['n_clusters']} clusters; compare within this table only"
        )
