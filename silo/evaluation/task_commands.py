"""`silo eval tasks`: whether a datastore helps to choose the right answer, or harms it, as it may harm reasoning.

Thin: reads arguments, calls the library, prints and writes figures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from silo.evaluation.commands import Device, Out
from silo.evaluation.mixture_options import Gate, K, KnnWeight, NgramWeight, noting, write

if TYPE_CHECKING:
    from datastore.store import Datastore
    from silo.documents import Document
    from silo.evaluation.choices import Judged
    from silo.evaluation.items import Item
    from silo.generation import Silo
    from silo.settings import GenerationSettings

TASKS = ("exercises", "cloze", "domains")
Models = Annotated[list[str], typer.Option(help="A checkpoint folder or a hub id; may be repeated.")]
Documents = Annotated[list[str] | None, typer.Argument(help="Held-out documents, one domain each: DOMAIN=LOCATION.")]


def tasks(
    model: Models,
    locations: Documents = None,
    datastore: Annotated[Path | None, typer.Option(help="A datastore that one of the models wrote.")] = None,
    task: Annotated[list[str] | None, typer.Option(help=f"{', '.join(TASKS)}; all that there is text for.")] = None,
    predictor: Annotated[list[str] | None, typer.Option(help="lm, knn, ngram, pair, gate; all without it.")] = None,
    n: Annotated[int, typer.Option(min=1, help="Exercises, and documents of each domain that are asked about.")] = 200,
    shots: Annotated[int, typer.Option(min=0, help="Solved exercises before each.")] = 2,
    words: Annotated[list[str] | None, typer.Option(help="DOMAIN=word,word: what says it; else its name.")] = None,
    gate: Gate = None,
    k: K = 32,
    knn_weight: KnnWeight = None,
    ngram_weight: NgramWeight = None,
    stored: Annotated[bool, typer.Option(help="Ask about documents that lie in the datastore too.")] = False,
    seed: Annotated[int, typer.Option(help="Of choices and orders; not one that training exercises have.")] = 1,
    max_bytes: Annotated[int | None, typer.Option(min=1, help="Of each domain, at most.")] = None,
    out: Out = None,
    device: Device = "cpu",
) -> None:
    """Accuracy on exercises, on last words of sentences and on telling domains apart, with 95 % intervals over items.

    Nothing is tuned: shares are as served. The datastore goes with the model that wrote it; others stand alone.
    """
    from silo.evaluation.choices import judge

    domains = _domains(locations or [], max_bytes)
    items = _items(task, domains, _said(words or [], domains), n, shots, seed)
    rows: list[dict[str, Any]] = []
    joined = _joined(model, datastore, gate, device)
    for silo in joined:
        if silo.datastore is not None and not stored:
            _check_held_out(silo.datastore, domains)
        settings = _settings(silo, k, knn_weight, ngram_weight, predictor)
        for name, asked in items.items():
            by_predictor: dict[str, list[Judged]] = {}
            for named, (alone_or_joined, mixed) in settings.items():
                judged = by_predictor[named] = []
                with noting(f"{silo.lm.name}, {named}, {name}") as note:
                    for one in judge(alone_or_joined, asked, mixed):
                        judged.append(one)
                        note(f"{len(judged)} of {len(asked)}")
            rows += _rows(silo, name, by_predictor, settings, seed)
    _print(rows)
    config = {"command": "eval tasks", "locations": locations or [], "models": model, "n": n, "shots": shots}
    config |= {"words": words or [], "stored": stored, "max_bytes": max_bytes}
    write(out, config, rows, seed)


def _domains(locations: Sequence[str], max_bytes: int | None) -> "dict[str, list[Document]]":
    from silo.evaluation.commands import documents_at, named_location

    return {domain: list(documents_at(at, max_bytes)) for domain, at in map(named_location, locations)}


def _said(given: Sequence[str], domains: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """The words for each domain."""
    from silo.errors import BadRequest
    from silo.evaluation.items import words_of

    said = {domain: words_of(domain) for domain in domains}
    for text in given:
        domain, _, words = text.partition("=")
        if domain not in said or not words:
            raise BadRequest(f"--words is DOMAIN=word,word for one of {', '.join(said)}; got {text!r:.80}")
        said[domain] = tuple(word for word in words.split(",") if word)
    return said


def _items(
    wanted: Sequence[str] | None,
    domains: "Mapping[str, list[Document]]",
    said: Mapping[str, tuple[str, ...]],
    n: int,
    shots: int,
    seed: int,
) -> "dict[str, list[Item]]":
    """The items of each task. Raises BadRequest where one is asked for and there are none."""
    from silo.errors import BadRequest
    from silo.evaluation.items import cloze_items, domain_items, exercise_items

    names = wanted or [TASKS[0], *TASKS[1:2] * bool(domains), *TASKS[2:] * (len(domains) > 1)]
    if unknown := sorted(set(names) - set(TASKS)):
        raise BadRequest(f"tasks are {', '.join(TASKS)}; got {', '.join(unknown)}")
    made: dict[str, list[Item]] = {}
    if "exercises" in names:
        made["exercises"] = list(exercise_items(n, seed, shots))
    if "cloze" in names:
        made["cloze"] = [item for domain, some in domains.items() for item in cloze_items(domain, some, n, seed)]
    if "domains" in names:
        made["domains"] = domain_items(domains, said, n, seed)
    if empty := [name for name, items in made.items() if not items]:
        raise BadRequest(f"there is no item for {', '.join(empty)}; give held-out documents with sentences in them")
    return made


def _joined(models: Sequence[str], datastore: Path | None, gate: Path | None, device: str) -> "list[Silo]":
    """Each LM, and the datastore with the one that wrote it. Raises BadRequest where none of them did."""
    from datastore.store import Datastore
    from silo.errors import BadRequest
    from silo.gate import Gate
    from silo.generation import Silo, gate_of
    from silo.lm import LanguageModel

    store = None if datastore is None else Datastore.open(datastore)
    joined = []
    for model in models:
        lm = LanguageModel.load(model, device, to_measure=True)
        if store is None or datastore is None or store.manifest.encoder != lm.fingerprint:
            joined.append(Silo(lm))
        else:
            joined.append(Silo(lm, store, gate_of(model, datastore) if gate is None else Gate.load(gate)))
    if store is not None and all(silo.datastore is None for silo in joined):
        raise BadRequest(
            f"the datastore was written by {store.manifest.encoder_name!r}, which is none of the models; name it too"
        )
    return joined


def _check_held_out(store: "Datastore", domains: "Mapping[str, list[Document]]") -> None:
    """Raise BadRequest where a document that is asked about lies in ``store``."""
    from silo.errors import BadRequest

    held = {stored.facts.digest for stored in store.documents("live")}
    for domain, documents in domains.items():
        if known := [document.id for document in documents if document.digest in held]:
            raise BadRequest(
                f"{len(known)} documents of {domain!r} lie in the datastore, the first {known[0]!r}: they are not held "
                "out. Name others, or say --stored to measure what it knows by heart."
            )


def _settings(
    silo: "Silo", k: int, knn_weight: float | None, ngram_weight: float | None, wanted: Sequence[str] | None
) -> "dict[str, tuple[Silo, GenerationSettings]]":
    """How each predictor is asked: who, and with what shares. The LM alone is always one of them."""
    from silo.errors import BadRequest
    from silo.generation import Silo
    from silo.settings import GenerationSettings, KnnSettings, NgramSettings, Shares

    def mixed(knn: float | None, ngram: float | None) -> GenerationSettings:
        return GenerationSettings(max_tokens=0, knn=KnnSettings(k=k, weight=knn), ngram=NgramSettings(weight=ngram))

    shares = Shares.of(knn_weight, ngram_weight)
    found = {"lm": (Silo(silo.lm), mixed(None, None))}
    if silo.datastore is not None:
        found |= {
            "knn": (silo, mixed(shares.knn, 0.0)),
            "ngram": (silo, mixed(0.0, shares.ngram)),
            "pair": (silo, mixed(shares.knn, shares.ngram)),
        }
        if silo.gate is not None:
            found["gate"] = (silo, mixed(None, None))
        if missing := sorted(set(wanted or ()) - set(found)):
            raise BadRequest(f"{', '.join(found)} can be measured here; got {', '.join(missing)}")
    return {name: how for name, how in found.items() if not wanted or name in {"lm", *wanted}}


def _rows(
    silo: "Silo",
    task: str,
    by_predictor: "Mapping[str, list[Judged]]",
    settings: "Mapping[str, tuple[Silo, GenerationSettings]]",
    seed: int,
) -> list[dict[str, Any]]:
    """The figures of each predictor and rule, over all items and by group."""
    from silo.evaluation.choices import accuracy, lead, rules_for
    from silo.evaluation.recording import digest_of

    items = [one.item for one in by_predictor["lm"]]
    facts: dict[str, Any] = {"model": silo.lm.name, "fingerprint": silo.lm.fingerprint, "task": task}
    facts["items"] = digest_of(map(repr, items))
    groups = ["", *dict.fromkeys(item.group for item in items)]
    rows = []
    for name, judged in by_predictor.items():
        asked, mixed = settings[name]
        how: dict[str, Any] = {"predictor": name}
        if name != "lm" and asked.datastore is not None:
            how |= {"datastore": asked.datastore.id, "epoch": asked.datastore.epoch, "knn": asdict(mixed.knn)}
            how["shares"] = asdict(mixed.shares) if mixed.names_shares else {}
            how["gate"] = asked.gate.digest if name == "gate" and asked.gate is not None else ""
        for group in groups[:1] if len(groups) == 2 else groups:
            some = [i for i, item in enumerate(items) if group in ("", item.group)]
            here, alone = [judged[i] for i in some], [by_predictor["lm"][i] for i in some]
            for rule in rules_for(items):
                row = facts | how | {"group": group, "rule": rule} | asdict(accuracy(here, rule, seed))
                rows.append(row | ({} if name == "lm" else {"lead_over_lm": asdict(lead(here, alone, rule, seed))}))
    return rows


def _print(rows: Sequence[Mapping[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    whole = [row for row in rows if not row["group"]]
    columns = list(dict.fromkeys((row["model"], row["predictor"]) for row in whole))
    has_models = len({model for model, _ in columns}) > 1
    table = Table("accuracy", "by", "items", "chance", *(f"{m} {p}" if has_models else p for m, p in columns))
    lines = {(row["task"], row["rule"], row["model"], row["predictor"]): row for row in whole}
    for task, rule in dict.fromkeys((row["task"], row["rule"]) for row in whole):
        found = [lines.get((task, rule, *column)) for column in columns]
        first = next(row for row in found if row is not None)
        cells = ("" if r is None else "{:.3f} ({:.3f}–{:.3f})".format(r["accuracy"], *r["interval"]) for r in found)
        table.add_row(task, rule, str(first["n_items"]), f"{first['chance']:.3f}", *cells)
    Console().print(table)
