"""`silo eval ppl` and `silo datastore fit-gate`: how well models predict text, and whom they should trust.

Thin: reads arguments, calls the library, prints and writes figures.
"""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from silo.evaluation.perplexity import Measured
    from silo.evaluation.protocol import Tuned

_SPLITS = ("train", "validation", "test", "datastore")
Locations = Annotated[list[str], typer.Argument(help="Documents, one domain each: DOMAIN=LOCATION or LOCATION.")]
Device = Annotated[str, typer.Option(help="A torch device: cpu, cuda, …")]
Cache = Annotated[Path | None, typer.Option(help="Keep what was seen of each document here, and do not look again.")]
Out = Annotated[Path | None, typer.Option(help="Write the recorded run here, as JSON.")]


def ppl(
    locations: Locations,
    model: Annotated[list[str], typer.Option(help="A checkpoint folder or a hub id; may be repeated.")],
    datastore: Annotated[Path | None, typer.Option(help="A datastore that the model wrote.")] = None,
    gate: Annotated[Path | None, typer.Option(help="A gate that was fitted with the model.")] = None,
    predictor: Annotated[list[str] | None, typer.Option(help="May be repeated; all without it.")] = None,
    tune: Annotated[Path | None, typer.Option(help="Tune on these documents, and freeze the choices here.")] = None,
    frozen: Annotated[Path | None, typer.Option(help="Choices to report with, that --tune froze.")] = None,
    k: Annotated[int, typer.Option(min=1, help="Most neighbors of the grid.")] = 128,
    n_probe: Annotated[int, typer.Option(min=1, help="Inverted lists scanned per token.")] = 16,
    merge: Annotated[bool, typer.Option(help="Join a domain's documents to one text, as the paper does.")] = False,
    max_bytes: Annotated[int | None, typer.Option(min=1, help="Stop a domain after so many bytes of text.")] = None,
    passages: Annotated[
        int, typer.Option(min=0, max=3, help="Passages that the LM reads first, as predictor ric; costs a window each.")
    ] = 0,
    cache: Cache = None,
    out: Out = None,
    device: Device = "cpu",
) -> None:
    """Bits per byte by domain, model and predictor, with 95 % intervals over documents.

    With a datastore, first --tune FILE on validation text, then --frozen FILE on the tests.
    """
    from silo.errors import BadRequest
    from silo.evaluation.in_context import RIC
    from silo.evaluation.perplexity import merged
    from silo.evaluation.protocol import check_may_tune, freeze

    if (tune is not None or frozen is not None) and (datastore is None or (tune is not None and frozen is not None)):
        raise BadRequest("--tune and --frozen, one of them, go with --datastore")
    if passages and datastore is None:
        raise BadRequest("--passages come from a datastore; give one with --datastore")
    if datastore is not None and len(model) != 1:
        raise BadRequest("a datastore is measured with the one model that wrote it; give one --model")
    if tune is not None:
        check_may_tune(locations, tune)
    found: list[dict[str, Any]] = []
    config: dict[str, Any] = {"command": "eval ppl", "locations": locations, "max_bytes": max_bytes, "merge": merge}
    for name in model:
        measured = _measured(name, datastore, gate, k, n_probe, cache, device)
        if passages:
            measured = replace(measured, retrieval=replace(RIC, n_passages=passages))
        wanted = predictor or list(measured.predictors)
        domains: dict[str, Tuned] = {}
        if frozen is not None:
            domains = _thawed(measured, frozen)
        for domain, location in map(named_location, locations):
            documents = documents_at(location, max_bytes)
            documents = merged(documents, domain) if merge else documents
            found += _rows(measured, domain, documents, wanted, domains, tune is not None, frozen is not None)
        if tune is not None:
            freeze(tune, measured.setup, domains)
    _print(found, model)
    _record(out, config | {"frozen": str(frozen or tune or "")}, found)


def fit_gate(
    gate: Annotated[Path, typer.Argument(help="The file to make.")],
    model: Annotated[str, typer.Option(help="A checkpoint folder or a hub id.")],
    datastore: Annotated[
        list[Path], typer.Option(help="A datastore of licensed text; twice, for sources that are asked and others.")
    ],
    licensed: Annotated[list[str], typer.Option(help="Licensed text to be predicted, none of it stored.")],
    max_bytes: Annotated[int | None, typer.Option(min=1, help="Of each --licensed.")] = None,
    seed: Annotated[int, typer.Option()] = 0,
    cache: Cache = None,
    device: Device = "cpu",
) -> None:
    """Fit a gate on licensed text: which predictor to trust, by what is known of each position."""
    from silo.evaluation.perplexity import look
    from silo.evaluation.traces import joined
    from silo.gate_fitting import FitSettings, check_licensed
    from silo.gate_fitting import fit_gate as fit

    asked = [document for location in licensed for document in documents_at(location, max_bytes)]
    measured = [_measured(model, store, None, 0, 0, cache, device) for store in datastore]
    trained_on = check_licensed(asked, [one.store for one in measured if one.store is not None])
    seen = joined([look(one, asked, str(path))[0] for one, path in zip(measured, datastore, strict=True)])
    first = measured[0]
    fitted = fit(
        seen,
        first.settings.components,
        first.lm.fingerprint,
        trained_on,
        FitSettings(seed=seed),
        len(measured),
        lambda epoch, train, held_out: print(f"epoch {epoch + 1}: {train:.4f}, held out {held_out:.4f} nats per token"),
    )
    fitted.save(gate)
    print(f"{gate}: fitted on {len(seen.lm_gold):,} tokens, held out {fitted.facts.settings['held_out_loss']:.4f}")


def _measured(
    model: str, datastore: Path | None, gate: Path | None, k: int, n_probe: int, cache: Path | None, device: str
) -> "Measured":
    from datastore.store import Datastore
    from silo.evaluation.perplexity import Measured
    from silo.evaluation.traces import TraceSettings
    from silo.evidence import Components
    from silo.gate import Gate
    from silo.lm import LanguageModel

    loaded = None if gate is None else Gate.load(gate)
    components = Components() if loaded is None else loaded.components
    settings = TraceSettings(components)
    if k:
        ks = sorted({*(n for n in settings.ks if n < k), k, components.k})
        settings = TraceSettings(components, tuple(ks), settings.factors, n_probe)
    store = None if datastore is None else Datastore.open(datastore)
    lm = LanguageModel.load(model, device, to_measure=store is None)
    return Measured(lm, store, loaded, settings, cache)


def _rows(
    measured: "Measured",
    domain: str,
    documents: Any,
    wanted: list[str],
    domains: "dict[str, Tuned]",
    is_tuning: bool,
    is_frozen: bool,
) -> list[dict[str, Any]]:
    """Figures of one domain; ``domains`` is added to where it is tuned."""
    from silo.errors import BadRequest
    from silo.evaluation.perplexity import figures, look, look_in_context, tuned
    from silo.evaluation.protocol import check_apart
    from silo.evaluation.recording import digest_of

    if is_frozen and domain not in domains:
        raise BadRequest(f"domain {domain!r} was not tuned; the frozen run has {', '.join(domains)}")
    documents = list(documents)
    if is_frozen:
        check_apart(domains, domain, (document.digest for document in documents))
    seen, digests = look(measured, documents, domain)
    after = look_in_context(measured, documents, domain) if {"ric", "ric+lm"} & {*wanted} else None
    if is_tuning:
        domains[domain] = tuned(measured, seen, digests, wanted, after)
    choices = domains[domain].choices if domain in domains else {}
    lm = {"model": measured.lm.name, "fingerprint": measured.lm.fingerprint, "domain": domain}
    store = {} if measured.store is None else {"datastore": measured.store.id, "epoch": measured.store.epoch}
    named = lm | store | {"documents": digest_of(digests), "gate": measured.setup.gate}
    return [named | row for row in figures(measured, seen, wanted, choices, after_passages=after)]


def _thawed(measured: "Measured", frozen: Path) -> "dict[str, Tuned]":
    from silo.evaluation.protocol import check_same, read_frozen

    setup, domains = read_frozen(frozen)
    check_same(setup, measured.setup)
    return domains


def documents_at(location: str, max_bytes: int | None) -> Any:
    """The documents at ``location`` until they have ``max_bytes`` bytes."""
    from silo.corpora import read_documents

    n_bytes = 0
    for document in read_documents(location):
        if max_bytes is not None and n_bytes >= max_bytes:
            return
        yield document
        n_bytes += len(document.text.encode("utf-8"))


def _print(rows: list[dict[str, Any]], models: list[str]) -> None:
    from rich.console import Console
    from rich.table import Table

    columns = list(dict.fromkeys((row["model"], row["predictor"]) for row in rows))
    heads = [predictor if len(models) == 1 and len(columns) > 1 else name for name, predictor in columns]
    table = Table("bits per byte", *heads)
    shown = {}
    for row in rows:
        low, high = row["bits_per_byte_interval"]
        text = f"{row['bits_per_byte']:.3f} ({low:.3f}–{high:.3f})"
        shown[row["domain"], row["model"], row["predictor"]] = text
    for domain in dict.fromkeys(row["domain"] for row in rows):
        table.add_row(domain, *(shown.get((domain, *column), "") for column in columns))
    Console().print(table)


def _record(out: Path | None, config: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    from silo.evaluation.recording import record, write_record

    if out is not None:
        write_record(out, record(json.loads(json.dumps(config)), rows, seed=0, now=datetime.now(UTC)))


def named_location(location: str) -> tuple[str, str]:
    """Domain and location. A file that is called after its split is named by the folder that it lies in."""
    name, separator, rest = location.partition("=")
    if separator:
        return name, rest
    path = Path(location)
    stem = path.name.split(".")[0]
    return (path.parent.name if stem in _SPLITS else stem), location
