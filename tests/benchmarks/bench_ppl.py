"""Perplexity evaluation with a datastore, against that of the LM alone, on the same text.

`ratio`: tokens a second with k neighbors over those of the LM alone. `sweep_passes`: a pass that serves the whole grid
of k, temperatures and shares, tuning included, in passes for one k and one temperature. Each is the median of rounds in
which all three take turns. An LM of 5M parameters, trained briefly on the standard library, stores the sources of other
packages, and is asked files of theirs that are not stored (`code_lm`).

    python tests/benchmarks/bench_ppl.py [--k 1024] [--model CHECKPOINT]
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import faiss
import numpy as np
import torch
from code_lm import get_lm, read_texts

from datastore.store import Datastore
from datastore.writer import Encoder, add, create
from silo.documents import Document
from silo.encoding import encode_document
from silo.evaluation.likelihood import token_logprobs
from silo.evaluation.traces import Trace, TraceSettings, joined, trace
from silo.evaluation.tuning import logprobs, tune
from silo.fitting import fit
from silo.lm import LanguageModel
from silo.tokenizer import tokenize

N_LISTS, N_PROBE = 512, 8


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--entries", type=int, default=120_000)
    parser.add_argument("--tokens", type=int, default=8000)
    parser.add_argument("--k", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--train-seconds", type=float, default=120)
    parser.add_argument("--model", default="", help="a trained checkpoint; without it one is trained, briefly")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    faiss.omp_set_num_threads(options.threads)

    texts = read_texts(5 * options.entries)
    lm = get_lm(options.model, texts.licensed, options.train_seconds)
    with tempfile.TemporaryDirectory() as folder:
        store = make_store(Path(folder) / "store", lm, texts.licensed, texts.stored, options.entries)
        asked = take(lm, texts.asked, options.tokens)
        one = TraceSettings(ks=(options.k,), factors=(1.0,), n_probe=N_PROBE, is_knn_only=True)
        ks = (*(k for k in (8, 32, 128, 512) if k < options.k), options.k)
        grid = TraceSettings(ks=ks, n_probe=N_PROBE, is_knn_only=True)
        work: dict[str, Callable[[], object]] = {
            "lm": lambda: [token_logprobs(lm, tokens_of(lm, document)) for document in asked],
            "one": lambda: look(lm, store, asked, one),
            "grid": lambda: tune("knn", look(lm, store, asked, grid), grid),
        }
        spent: dict[str, list[float]] = {name: [] for name in work}
        for _ in range(options.rounds):
            for name, run in work.items():
                spent[name].append(seconds(run))
        median = {name: float(np.median(values)) for name, values in spent.items()}
        seen = look(lm, store, asked, grid)
        n = len(seen.lm_gold)
        best = tune("knn", seen, grid)
        line = {
            "name": "ppl",
            "ratio": round(median["lm"] / median["one"], 3),
            "sweep_passes": round(median["grid"] / median["one"], 3),
            "lm_tokens_per_second": round(n / median["lm"]),
            "knn_tokens_per_second": round(n / median["one"]),
            "lm_nats": round(-float(seen.lm_gold.mean()), 4),
            "knn_nats": round(-float(logprobs(best, seen, grid).mean()), 4),
            "k": options.k,
            "n_probe": N_PROBE,
            "grid": len(grid.ks) * len(grid.factors) * 19,
            "entries": store.n_entries,
            "tokens": n,
            "threads": options.threads,
        }
        store.close()
    print(json.dumps(line), flush=True)
    return 0


def make_store(path: Path, lm: LanguageModel, licensed: list[Document], stored: list[Document], n: int) -> Datastore:
    """A store of about ``n`` entries of ``stored``."""
    fitted = fit(lm, licensed[::7], N_LISTS)
    encoder = Encoder(lm.fingerprint, lm.name, lm.dimension, lm.vocab_size)
    facts, tau = fitted.documents, fitted.knn_temperature
    store = create(path, encoder, fitted.keys, facts, n_lists=N_LISTS, knn_temperature=tau, now=datetime.now(UTC))
    add(store, (encode_document(lm, document) for document in take(lm, stored, n)))
    return store


def take(lm: LanguageModel, documents: list[Document], n: int) -> list[Document]:
    """The first ``documents`` that have ``n`` tokens."""
    taken: list[Document] = []
    n_taken = 0
    for document in documents:
        if n_taken >= n:
            break
        taken.append(document)
        n_taken += len(tokens_of(lm, document))
    return taken


def tokens_of(lm: LanguageModel, document: Document) -> np.ndarray:
    """Its tokens and its end."""
    return np.append(tokenize(lm.tokenizer, document.text).ids, lm.boundary)


def look(lm: LanguageModel, store: Datastore, asked: list[Document], settings: TraceSettings) -> Trace:
    """One evaluation pass."""
    return joined([trace(lm, store, document, settings) for document in asked])


def seconds(work: Callable[[], object]) -> float:
    """How long ``work`` took."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
