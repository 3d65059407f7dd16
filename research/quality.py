"""The quality of each predictor on text that it was not tuned on, and the gaps to what was trained on it.

    python research/quality.py ../shared/corpora WORK --model pd-sw-by [--reference all=… --reference specialist=…]

One datastore of all high-risk domains; a gate fitted on licensed text, with two stores of licensed text, each of half
of the sources; everything else tuned on each domain's validation text and frozen; then the tests. Stores, traces and
the gate are kept in WORK, and a run that was stopped goes on. Documents of the stores that repeat a validation or test
text are left out. The figures go to ``research/results/quality*.json``.
"""

import argparse
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch

from datastore.records import EncodedDocument
from datastore.store import Datastore
from datastore.writer import Encoder, add, create
from silo.corpora import read_documents
from silo.documents import Document
from silo.encoding import encode_document
from silo.evaluation.gap import gaps_of
from silo.evaluation.in_context import RIC
from silo.evaluation.perplexity import Measured, figures, look, look_in_context, tuned
from silo.evaluation.protocol import check_apart, check_same, freeze, read_frozen
from silo.evaluation.recording import digest_of, record, write_record
from silo.evaluation.traces import TraceSettings, joined
from silo.fitting import fit, interleave
from silo.gate import Gate
from silo.gate_fitting import FitSettings, check_licensed, fit_gate
from silo.lm import LanguageModel
from silo.overlap import contaminated, read_evaluations

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Whatever is not there yet, in order."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("corpora", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--reference", action="append", default=[], help="NAME=CHECKPOINT")
    parser.add_argument("--store-bytes", type=int, default=1 << 40, help="of each domain in the datastore")
    parser.add_argument("--licensed-bytes", type=int, default=2_000_000, help="of each source in the gate's stores")
    parser.add_argument("--asked-bytes", type=int, default=150_000, help="of each source that teaches the gate")
    parser.add_argument("--eval-bytes", type=int, default=1 << 40, help="of each validation and each test text")
    parser.add_argument("--lists", type=int, default=2048, help="inverted lists of each store")
    parser.add_argument("--ric", action="store_true", help="measure the LM after passages too")
    parser.add_argument("--name", default="quality", help="of the results")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    bench = Bench(options)
    rows = bench.rows()
    config = {key: without_places(value) for key, value in vars(options).items()} | {"lm": bench.lm.fingerprint}
    write_record(RESULTS / f"{options.name}.json", record(config, rows, seed=0, now=datetime.now(UTC)))
    for named in options.reference:
        name, _, checkpoint = named.partition("=")
        reference = bench.reference_rows(checkpoint)
        gaps = {}
        for predictor in ("gate", "knn"):
            high = [row for row in rows if row["domain"] in bench.high]
            found, leads = gaps_of(high, reference, predictor)
            means = {key: getattr(found, key) for key in ("mean_capped", "mean_uncapped", "by_mean_perplexity")}
            domains = {
                one.domain: {"closed": one.closed, "nats_ahead": -lead}
                for one, lead in zip(found.domains, leads, strict=True)
            }
            gaps[predictor] = means | {"mean_nats_ahead": -sum(leads) / len(leads), "domains": domains}
        recorded = record(config | {"reference": name}, [*reference, {"gaps": gaps}], seed=0, now=datetime.now(UTC))
        write_record(RESULTS / f"{options.name}-{name}.json", recorded)
        print(name, json.dumps(gaps, indent=1))


def without_places(value: Any) -> str:
    """As it is recorded: folders by their names, wherever they lie on this machine."""
    if isinstance(value, list):
        parts = (one.partition("=") for one in value)
        return " ".join(f"{name}={Path(place).name}" for name, _, place in parts)
    return value.name if isinstance(value, Path) else str(value)


class Bench:
    """The stores, the gate and the texts of one LM."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.work, self.corpora = options, options.work, options.corpora
        self.lm = LanguageModel.load(options.model)
        self.high = sorted(path.name for path in (self.corpora / "high").iterdir())
        self.low = sorted(path.name for path in (self.corpora / "low").iterdir())
        asked = [self.place(kind, d, s) for kind, d in self.domains() for s in ("validation", "test")]
        self.held_apart = list(read_evaluations(asked))

    def domains(self) -> list[tuple[str, str]]:
        """All of them, the high-risk ones first."""
        return [("high", domain) for domain in self.high] + [("low", domain) for domain in self.low]

    def place(self, kind: str, domain: str, split: str) -> str:
        """Of a file of the corpora."""
        return str(self.corpora / kind / domain / f"{split}.jsonl.gz")

    def store(self, name: str, kind: str, domains: list[str], split: str, n_bytes: int) -> Datastore:
        """The store ``name``, made where it is not there; domains that it has already are not added again."""
        path, n_lists = self.work / name, self.options.lists
        if not path.exists():
            sources = [read_documents(self.place("low", domain, "train")) for domain in self.low]
            fitted = fit(self.lm, interleave(sources), n_lists)
            encoder = Encoder(self.lm.fingerprint, self.lm.name, self.lm.dimension, self.lm.vocab_size)
            tau, facts, now = fitted.knn_temperature, fitted.documents, datetime.now(UTC)
            create(path, encoder, fitted.keys, facts, n_lists=n_lists, knn_temperature=tau, now=now).close()
        store = Datastore.open(path)
        there = {document.facts.id for document in store.documents()}
        for domain in domains:
            documents = list(self.take(kind, domain, split, n_bytes))
            if not there & {document.id for document in documents}:
                done = add(store, self.encoded(documents))
                print(f"{name}: {domain}: {done.n_documents:,} documents, {done.n_entries:,} entries", flush=True)
        return store

    def encoded(self, documents: list[Document]) -> Iterator[EncodedDocument]:
        """Those that repeat no text that is asked."""
        for document in documents:
            if not contaminated(document.text, self.held_apart):
                yield encode_document(self.lm, document)

    def take(self, kind: str, domain: str, split: str, n_bytes: int) -> Iterator[Document]:
        """Documents of a domain until they have ``n_bytes`` bytes, in the order of their digests."""
        taken = 0
        for document in sorted(read_documents(self.place(kind, domain, split)), key=lambda one: one.digest):
            if taken >= n_bytes:
                return
            yield document
            taken += len(document.text.encode("utf-8"))

    def gate(self, settings: TraceSettings) -> Gate:
        """Fitted where it is not there: each licensed source asked with a store that has it and one that has not."""
        path = self.work / "gate.safetensors"
        if not path.exists():
            options = self.options
            stores = [
                self.store(f"licensed-{half}", "low", self.low[half::2], "train", options.licensed_bytes)
                for half in (0, 1)
            ]
            asked = [d for domain in self.low for d in self.take("low", domain, "validation", options.asked_bytes)]
            trained_on = check_licensed(asked, stores)
            measured = [Measured(self.lm, store, None, settings, self.work / "traces") for store in stores]
            seen = joined([look(one, asked, f"licensed text, store {i}")[0] for i, one in enumerate(measured)])
            fit_gate(
                seen, settings.components, self.lm.fingerprint, trained_on, FitSettings(), len(stores), print
            ).save(path)
        return Gate.load(path)

    def rows(self) -> list[dict[str, Any]]:
        """Figures on the tests of all domains, tuned on their validation texts."""
        settings, n_bytes = TraceSettings(), self.options.eval_bytes
        store = self.store("high", "high", self.high, "datastore", self.options.store_bytes)
        retrieval = RIC if self.options.ric else None
        measured = Measured(self.lm, store, self.gate(settings), settings, self.work / "traces", retrieval)
        frozen = self.work / f"{self.options.name}-frozen.json"
        if not frozen.exists():
            chosen = {}
            for kind, domain in self.domains():
                documents = list(self.take(kind, domain, "validation", n_bytes))
                seen, digests = look(measured, documents, f"{domain}, validation")
                after = look_in_context(measured, documents, f"{domain}, validation")
                chosen[domain] = tuned(measured, seen, digests, measured.predictors, after)
            freeze(frozen, measured.setup, chosen)
        setup, chosen = read_frozen(frozen)
        check_same(setup, measured.setup)
        rows: list[dict[str, Any]] = []
        for kind, domain in self.domains():
            documents = list(self.take(kind, domain, "test", n_bytes))
            seen, digests = look(measured, documents, f"{domain}, test")
            after = look_in_context(measured, documents, f"{domain}, test")
            check_apart(chosen, domain, digests)
            named = {"domain": domain, "documents": digest_of(digests), "datastore": store.id, "epoch": store.epoch}
            found = figures(measured, seen, measured.predictors, chosen[domain].choices, after_passages=after)
            rows += [named | {"model": self.lm.fingerprint, "gate": measured.setup.gate} | row for row in found]
            print(domain, " ".join(f"{row['predictor']} {row['nats_per_token']:.3f}" for row in found), flush=True)
        return rows

    def reference_rows(self, checkpoint: str) -> list[dict[str, Any]]:
        """Figures of another LM, alone, on the high-risk tests."""
        measured = Measured(LanguageModel.load(checkpoint, to_measure=True), cache=self.work / "traces")
        rows: list[dict[str, Any]] = []
        for domain in self.high:
            documents = self.take("high", domain, "test", self.options.eval_bytes)
            seen, digests = look(measured, documents, f"{domain}, {checkpoint}")
            named = {"domain": domain, "documents": digest_of(digests), "model": measured.lm.fingerprint}
            rows += [named | row for row in figures(measured, seen, ["lm"], {})]
        return rows


if __name__ == "__main__":
    main()
