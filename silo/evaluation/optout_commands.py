"""`silo eval optout`: what a series is worth to a new document of it, and what is left of a text that was removed.

Thin: reads arguments, calls the library, prints and writes figures.
"""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from silo.evaluation.commands import Cache, Device, Out
from silo.evaluation.mixture_options import (
    Gate,
    K,
    KnnWeight,
    Model,
    NgramWeight,
    Seed,
    Store,
    Work,
    noting,
    opened,
    quantiles,
    setup,
    write,
)

if TYPE_CHECKING:
    from datastore.store import Datastore
    from silo.documents import Document
    from silo.evaluation.leaving_out import HeldOut
    from silo.evaluation.removal import Probed, Removal


def optout(
    model: Model,
    datastore: Store,
    field: Annotated[str, typer.Option(help="What names a series: owner, title, source … or metadata.NAME.")] = "owner",
    pattern: Annotated[
        str, typer.Option(help="The part of it that does, as a regular expression; its first group, where it has one.")
    ] = "",
    series: Annotated[
        list[str] | None, typer.Option(help="A series by name; may be repeated. Else the largest.")
    ] = None,
    at_least: Annotated[int, typer.Option(min=2, help="Documents that a series has at least.")] = 3,
    n_series: Annotated[int, typer.Option(min=1, help="Series to leave out, the largest ones.")] = 3,
    held_out: Annotated[int, typer.Option(min=1, help="Documents of each that are held out in turn.")] = 4,
    steps: Annotated[int, typer.Option(min=1, help="Steps from all others of a series to none.")] = 4,
    removed: Annotated[int, typer.Option(min=1, help="Stored documents of each series to remove and probe.")] = 4,
    kept: Annotated[
        list[str] | None, typer.Option(help="Text that is not stored, for utility; else stored text that stays.")
    ] = None,
    n_kept: Annotated[int, typer.Option(min=1, help="Texts for utility.")] = 8,
    max_tokens: Annotated[int, typer.Option(min=2, help="Of each document, its first so many tokens.")] = 1024,
    generated: Annotated[int, typer.Option(min=1, help="Tokens to generate after the beginning of each.")] = 32,
    gate: Gate = None,
    k: K = 32,
    knn_weight: KnnWeight = None,
    ngram_weight: NgramWeight = None,
    seed: Seed = 0,
    work: Work = None,
    cache: Cache = None,
    out: Out = None,
    device: Device = "cpu",
) -> None:
    """Leave series out of a datastore, then remove stored text and look for it: probes, latency, utility."""
    from silo.evaluation.leaving_out import leave_out, summary
    from silo.evaluation.recording import digest_of
    from silo.evaluation.removal import ProbeSettings, remove
    from silo.evaluation.series import SeriesRule, choose, series_in

    store, served = opened(model, datastore, gate, k, knn_weight, ngram_weight, device)
    now = datetime.now(UTC)
    chosen = choose(series_in(store, SeriesRule(field, pattern), at_least), series or (), n_series)
    rows: list[dict[str, Any]] = []
    for name, documents in chosen.items():
        options: dict[str, Any] = {"n_held_out": held_out, "n_steps": steps, "max_tokens": max_tokens}
        found = []
        with noting(f"leaving out {name}") as note:
            for one in leave_out(served, store, documents, now=now, seed=seed, folder=work, cache=cache, **options):
                found.append(one)
                note(f"{len(found)} held out")
        rows.append({"experiment": "leave out", "series": name, "n_documents": len(documents)} | summary(found, seed))
        rows[-1]["held_out"] = [asdict(one) for one in found]
        _print_left_out(name, rows[-1], found)
    gone = [document for documents in chosen.values() for document in documents[:removed]]
    texts = _kept(store, kept or [], gone, n_kept, seed)
    probing = ProbeSettings(max_tokens, n_generated=generated)
    with noting(f"removing {len(gone)} documents") as note:
        options = {"now": now, "probing": probing, "seed": seed, "folder": work, "cache": cache, "note": note}
        removal = remove(served, store, gone, texts, **options)
    rows += _removal_rows(removal, seed)
    _print_removal(rows[len(chosen) :])
    used = [store.document(name).facts.digest for documents in chosen.values() for name in documents]
    config = {"command": "eval optout", "field": field, "pattern": pattern, "series": list(chosen), "steps": steps}
    config |= {
        "held_out": held_out,
        "at_least": at_least,
        "removed": gone,
        "probing": asdict(probing),
        "kept": kept or [],
    }
    config |= {"documents": digest_of([*used, *(text.digest for text in texts)])}
    write(out, config | setup(store, served), rows, seed)


def _kept(store: "Datastore", locations: list[str], gone: list[str], n: int, seed: int) -> "list[Document]":
    """Texts from ``locations``, or stored ones that stay, drawn by ``seed``."""
    from itertools import chain, islice

    import numpy as np

    from silo.corpora import read_documents
    from silo.errors import BadRequest
    from silo.evaluation.working_copies import live_document

    if locations:
        found = chain.from_iterable(read_documents(place) for place in locations)
        texts = list(islice((document for document in found if document.text.strip()), n))
        if not texts:
            raise BadRequest(f"no document of {', '.join(locations)} has a text; name others with --kept")
        return texts
    stays = [one.facts.id for one in store.documents("live") if one.n_entries and one.facts.id not in gone]
    drawn = np.random.default_rng(seed).permutation(stays)[:n].tolist()
    return [live_document(store, name) for name in drawn]


def _removal_rows(removal: "Removal", seed: int) -> list[dict[str, Any]]:
    from silo.evaluation.likelihood import difference, likelihood

    rows: list[dict[str, Any]] = []
    for one in removal.probes:
        stages = ("lm", "before", "at_once", "after", "in_bulk", "never")
        facts = {stage: _facts(getattr(one, stage)) for stage in stages}
        checks = {"largest_deviation_from_never": one.deviation, "is_as_never": one.is_as_never}
        rows.append({"experiment": "probe", "document": one.document, "form": one.form} | facts | checks)
    latency = {"sequential_ms": removal.sequential_ms, "bulk_ms": removal.bulk_ms}
    rows.append(
        {"experiment": "latency", "compaction_ms": removal.compaction_ms}
        | {name: list(values) for name, values in latency.items()}
        | {f"{name}_quantiles": quantiles(values) for name, values in latency.items()}
    )
    rows.append(
        {
            "experiment": "erasure",
            "n_live_entries_left": removal.n_live_entries,
            "are_files_equal": removal.are_files_equal,
            "is_as_never": all(one.is_as_never for one in removal.probes),
            "largest_deviation_from_never": max(one.deviation for one in removal.probes),
        }
    )
    if removal.kept_before:
        before, after = (likelihood(scores, seed) for scores in (removal.kept_before, removal.kept_after))
        change = difference(removal.kept_before, removal.kept_after, seed)
        facts = {"before": asdict(before), "after": asdict(after), "worth_of_what_was_removed": asdict(change)}
        rows.append({"experiment": "utility"} | facts)
    return rows


def _facts(probed: "Probed") -> dict[str, Any]:
    return {"logprob": probed.mean, "n_live_run": probed.n_live_run, "n_reproduced": probed.n_reproduced}


def _print_left_out(name: str, row: dict[str, Any], found: "Sequence[HeldOut]") -> None:
    from rich.console import Console
    from rich.table import Table

    heads = [f"{n_left} others" for n_left in found[0].n_left]
    table = Table(f"{name}: perplexity per token", *heads, "LM alone")
    for i, one in enumerate(found):
        scores = (*one.scores, one.alone)
        table.add_row(f"held out {i + 1}", *(f"{_perplexity(s.nats / s.n_tokens):.2f}" for s in scores))
    table.add_section()
    means = [point["perplexity_per_token"] for point in (*row["curve"], row["lm"])]
    table.add_row("all of them", *(f"{mean:.2f}" for mean in means))
    Console().print(table)
    low, high = row["worth_of_the_others"]["interval"]
    worth = row["worth_of_the_others"]["nats_per_token"]
    lost = "nothing was gained" if row["lost"] is None else f"{row['lost']:.0%} of what the datastore gains"
    print(f"the others are worth {worth:+.3f} nats per token, 95 % from {low:+.3f} to {high:+.3f}: {lost}")


def _print_removal(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    stages = {"lm": "LM alone", "before": "stored", "at_once": "at once", "after": "after all", "never": "never had"}
    probes = [row for row in rows if row["experiment"] == "probe"]
    table = Table("of the removed texts", *stages.values())
    for form in dict.fromkeys(row["form"] for row in probes):
        some = [row for row in probes if row["form"] == form]
        for field, said, how in (
            ("logprob", "nats per token, mean", lambda values: f"{sum(values) / len(values):+.3f}"),
            ("n_live_run", "tokens in a row live, most", lambda values: f"{max(values)}"),
            ("n_reproduced", "tokens in a row generated, most", lambda values: f"{max(values)}"),
        ):
            table.add_row(f"{form}: {said}", *(how([row[stage][field] for row in some]) for stage in stages))
        table.add_section()
    Console().print(table)
    by_name = {row["experiment"]: row for row in rows}
    erased, latency = by_name["erasure"], by_name["latency"]
    said = "to the bit" if erased["is_as_never"] else f"but for {erased['largest_deviation_from_never']:.2g} nats"
    files = "equal" if erased["are_files_equal"] else "differ from"
    print(f"{erased['n_live_entries_left']} entries left; every answer is that of a store that never had them, {said}")
    print(f"erased files {files} its files, byte for byte")
    for order in ("sequential", "bulk"):
        found = latency[f"{order}_ms_quantiles"]
        print(f"opt-outs, {order}: " + ", ".join(f"{name} {value:.1f} ms" for name, value in found.items()))
    print(f"compaction of all of them: {latency['compaction_ms']:.1f} ms")
    if "utility" in by_name:
        row = by_name["utility"]
        before, after = (row[stage]["perplexity_per_token"] for stage in ("before", "after"))
        low, high = row["worth_of_what_was_removed"]["interval"]
        print(f"kept text: perplexity {before:.2f} before, {after:.2f} after; 95 % from {low:+.4f} to {high:+.4f} nats")


def _perplexity(nats: float) -> float:
    import math

    return math.exp(nats) if nats < 700 else math.inf
