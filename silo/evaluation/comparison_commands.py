"""`silo eval gap` and `silo eval scaling`: what recorded figures come to, and how they change with a store's size.

Thin: reads arguments, calls the library, prints and writes figures.
"""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from silo.evaluation.commands import Device, Out


def gap(
    run: Annotated[Path, typer.Argument(help="A run that `silo eval ppl --out` recorded, with a datastore.")],
    reference: Annotated[list[str], typer.Option(help="NAME=RUN of a reference LM on the same documents; repeat it.")],
    predictor: Annotated[str, typer.Option(help="Whose gap is measured.")] = "gate",
    out: Out = None,
) -> None:
    """How much of the gap to each reference LM the datastore closes: per domain, capped, and as the paper averages."""
    from rich.console import Console
    from rich.table import Table

    from silo.evaluation.gap import gaps_of

    measured = _rows(run)
    rows: list[dict[str, Any]] = []
    for named in reference:
        name, _, path = named.rpartition("=")
        found, leads = gaps_of(measured, _rows(Path(path)), predictor)
        name = name or Path(path).stem
        table = Table(f"gap to {name}", "LM", predictor, name, "closed", "capped at 1", f"lead of {predictor}")
        for one, lead in zip(found.domains, leads, strict=True):
            closed = f"{one.closed:.2f}" if one.has_gap else "no gap"
            figures = (f"{nats:.3f}" for nats in (one.lm, one.mixed, one.reference))
            table.add_row(one.domain, *figures, closed, f"{one.capped:.2f}", f"{-lead:+.3f}")
        table.add_section()
        table.add_row("mean over domains, capped", "", "", "", "", f"{found.mean_capped:.2f}", _mean(leads))
        table.add_row("mean over domains, uncapped", "", "", "", f"{found.mean_uncapped:.2f}", "")
        table.add_row("of averaged perplexities, as in the paper", "", "", "", f"{found.by_mean_perplexity:.2f}", "")
        Console().print(table)
        lead_of = {f"nats_per_token_ahead_of_{name}": -sum(leads) / len(leads)}
        rows.append({"reference": name, "predictor": predictor} | asdict(found) | lead_of)
    _record(out, {"command": "eval gap", "run": str(run), "references": reference}, rows)


def scaling(
    validation: Annotated[str, typer.Argument(help="Documents that tune k, temperature and share, for each size.")],
    test: Annotated[str, typer.Argument(help="Documents that are reported on.")],
    model: Annotated[str, typer.Option(help="A checkpoint folder or a hub id.")],
    datastore: Annotated[Path, typer.Option(help="A datastore that the model wrote.")],
    sizes: Annotated[
        list[int] | None, typer.Option("--size", help="Entries; may be repeated. Else 7, up to 1.")
    ] = None,
    searched: Annotated[int, typer.Option(min=1, help="Neighbors of the one search.")] = 1024,
    n_probe: Annotated[int, typer.Option(min=1, help="Inverted lists scanned per token.")] = 32,
    max_bytes: Annotated[int | None, typer.Option(min=1, help="Of each of both, at most.")] = None,
    out: Out = None,
    device: Device = "cpu",
) -> None:
    """Perplexity of the kNN-LM against the datastore's size, over two decades, from one search of the whole store."""
    from rich.console import Console
    from rich.table import Table

    from datastore.store import SEGMENTS, Datastore
    from silo.evaluation.commands import documents_at
    from silo.evaluation.likelihood import likelihood
    from silo.evaluation.protocol import check_may_tune
    from silo.evaluation.recording import digest_of
    from silo.evaluation.scaling import Scaling, parts, slope
    from silo.evaluation.traces import TraceSettings, joined
    from silo.evaluation.tuning import logprobs, tune
    from silo.lm import LanguageModel

    if out is not None:
        check_may_tune([validation], out)
    store, lm = Datastore.open(datastore), LanguageModel.load(model, device)
    chosen = parts(store, sizes or sorted({max(1, round(store.n_entries / 10 ** (i / 3))) for i in range(7)}))
    settings = TraceSettings(ks=(4, 8, 16, 32), n_probe=n_probe, is_knn_only=True)
    bytes_per_entry = sum(p.stat().st_size for p in (store.path / SEGMENTS).glob("*/*")) / store.n_entries
    seen, digests = [], []
    for location in (validation, test):
        looked = Scaling(lm, store, chosen, settings, searched)
        documents = list(documents_at(location, max_bytes))
        digests.append(digest_of(document.digest for document in documents))
        by_document = list(looked.look(documents))
        seen.append([joined(list(of_size)) for of_size in zip(*by_document, strict=True)])
    rows: list[dict[str, Any]] = []
    scores = []
    table = Table("entries", "bytes", "nats per token", "perplexity", "k", "share", "short of k")
    for i, part in enumerate(chosen):
        choice = tune("knn", seen[0][i], settings)
        scores.append(seen[1][i].scores(logprobs(choice, seen[1][i], settings)))
        figures = likelihood(scores[-1])
        n_bytes, short = round(bytes_per_entry * part.n_entries), looked.n_short[i] / max(1, looked.n_positions)
        facts = {"n_entries": part.n_entries, "n_store_bytes": n_bytes, "short_of_k": float(short)}
        rows.append(facts | asdict(figures))
        rows[-1]["choice"] = asdict(choice)
        nats, perplexity = f"{figures.nats_per_token:.3f}", f"{figures.perplexity_per_token:.2f}"
        tuned = (str(choice.k), f"{choice.shares[1]:.2f}", f"{short:.1%}")
        table.add_row(f"{part.n_entries:,}", f"{n_bytes:,}", nats, perplexity, *tuned)
    Console().print(table)
    if len(chosen) > 1:
        line = slope([part.n_entries for part in chosen], scores)
        low, high = line.interval
        print(f"{line.nats_per_doubling:+.4f} nats per token for each doubling, 95 % from {low:+.4f} to {high:+.4f}")
        further = 10 * chosen[-1].n_entries
        print(f"extrapolated, not measured: {line.at(further):.3f} nats per token at {further:,} entries")
        rows.append({"slope": asdict(line), "extrapolated": {"n_entries": further, "nats_per_token": line.at(further)}})
    config = {"command": "eval scaling", "validation": validation, "test": test, "searched": searched}
    config |= {"model": lm.fingerprint, "datastore": store.id, "epoch": store.epoch, "n_probe": n_probe}
    config |= {"max_bytes": max_bytes, "validation_documents": digests[0], "test_documents": digests[1]}
    _record(out, config, rows)


def _rows(path: Path) -> list[dict[str, Any]]:
    from silo.errors import BadRequest

    try:
        rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["rows"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadRequest(f"{path} is no recorded run: {error}. Make one with `silo eval ppl --out`.") from error
    return rows


def _mean(leads: tuple[float, ...]) -> str:
    return f"{-sum(leads) / len(leads):+.3f}"


def _record(out: Path | None, config: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    from silo.evaluation.recording import record, write_record

    if out is not None:
        write_record(out, record(config, rows, seed=0, now=datetime.now(UTC)))
