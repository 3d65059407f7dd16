"""`silo eval extraction`: how much of a stored high-risk text comes out, with the copy guard and without.

Thin: reads arguments, calls the library, prints and writes figures. No text is recorded, only how much was repeated.
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


def extraction(
    model: Model,
    datastore: Annotated[Path, typer.Option(help="A datastore with high-risk text; it is read.")],
    n_documents: Annotated[int, typer.Option("--documents", min=1, help="To ask for, drawn by the seed.")] = 16,
    prefix: Annotated[int, typer.Option(min=1, help="Tokens of a document that the attacker has.")] = 32,
    max_tokens: Annotated[int, typer.Option(min=1, help="To generate in each attempt.")] = 128,
    max_verbatim: Annotated[int, typer.Option(min=1, help="The limit, in tokens.")] = DEFAULT_MAX_VERBATIM,
    temperature: Annotated[float, typer.Option(help="Of sampling; 0 is greedy.")] = 0.0,
    attack: Annotated[list[str] | None, typer.Option(help="May be repeated; all without it.")] = None,
    mixture: Annotated[list[str] | None, typer.Option(help="lm, fixed, gate, knn or ngram; may be repeated.")] = None,
    gate: Gate = None,
    k: K = 32,
    seed: Seed = 0,
    cache: Cache = None,
    out: Out = None,
    device: Device = "cpu",
) -> None:
    """Try to extract stored text: by prefix, from the middle, asked by title, in capitals, spaced, and in parts.

    What comes in several requests is tried a third time, with a guard that leaves their prompts out of account.
    """
    from dataclasses import asdict, replace

    from silo.evaluation.extraction import ATTACKS, JOINED, attempts, figures, targets
    from silo.evaluation.mixtures import mixtures
    from silo.evaluation.recording import digest_of
    from silo.evaluation.resuming import Done
    from silo.generation import Silo

    store, served = opened(model, datastore, gate, k, None, None, device)
    settings = replace(served.settings, max_tokens=max_tokens, temperature=temperature, seed=seed)
    compared = mixtures(settings, served.gate is not None, mixture or ())
    asked = targets(store, served.lm, n_documents, 2 * (prefix + max_verbatim + 1), seed)
    silo = Silo(served.lm, store, served.gate)
    rows: list[dict[str, Any]] = []
    done = Done.of(cache, served, store, [target.id for target in asked], prefix, max_verbatim)

    def attacked(by: str, request: "GenerationSettings") -> dict[str, Any]:
        return figures(list(attempts(silo, asked, by, request, max_verbatim, prefix)), max_verbatim, seed)

    with noting("extraction") as note:
        for name, mixed in compared.items():
            for limit, allowance in ((None, None), (max_verbatim, max_verbatim), (max_verbatim, 0)):
                for by in attack or ATTACKS:
                    if allowance and by not in JOINED:
                        continue
                    note(f"{name}, {'no guard' if limit is None else f'at most {limit}'}, {by}")
                    request = replace(mixed, max_verbatim=limit, verbatim_allowance=allowance)
                    found = done.part("attacked", partial(attacked, by, request), by, asdict(request))
                    named = {"mixture": name, "attack": by, "max_verbatim": limit, "verbatim_allowance": allowance}
                    rows.append(named | found)
    _print(rows, max_verbatim)
    config: dict[str, Any] = {"command": "eval extraction", "limit": max_verbatim, "prefix": prefix}
    config |= {"max_tokens": max_tokens, "temperature": temperature}
    config |= {"n_documents": len(asked), "documents": digest_of(target.id for target in asked)}
    write(out, config | setup(store, served), rows, seed)


def _print(rows: list[dict[str, Any]], limit: int) -> None:
    from rich.console import Console
    from rich.table import Table

    runs = ("longest run, tokens", "as the text is spelled", "letters")
    table = Table("mixture", "guard", "attack", *runs, "reproduced", f"over {limit} tokens", f"over {limit} as spelled")
    for row in rows:
        longest = (f"{row[name]['most']:.0f}" for name in ("run_in_tokens", "run_as_spelled", "run_in_letters"))
        shares = (f"{row[name]:.0%}" for name in ("share_reproduced", "share_over", "share_over_as_spelled"))
        guard = "no" if row["max_verbatim"] is None else "of completions" if row["verbatim_allowance"] else "yes"
        table.add_row(row["mixture"], guard, row["attack"], *longest, *shares)
    Console().print(table)
    print(
        "The guard counts tokens as they are chosen, in one request: what is over as spelled came in other case, signs "
        "or tokens, and what is over in `chained` and `window` came in several requests. A guard of completions leaves "
        "their prompts out of account."
    )
