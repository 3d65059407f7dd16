"""How the time of a search grows with the number of entries, at a recall that is held.

Real keys: a small LM trained on the standard library, stores of other packages' sources, queries from files that are
not stored (`code_lm`). Each store has inverted lists in proportion to the root of its size, fitted on licensed
text; the number scanned is the least, in steps of an eighth, that reaches the wanted recall on validation queries with
a hundredth to spare, and recall and time are reported on others. A search is `Datastore.search` for one query, one
thread, as in decoding; the time is the median. `exponent`: the slope of log time over log size, by least squares.
`recall`: of the 32 nearest by a scan of all lists, the share that is found, the smallest of all sizes. `recall_of_raw`:
the same against float32 keys of all dimensions, which the codec lowers.

If the machine has less text than the sizes ask for, they are cut to what there is, and `sizes` says so.

    python tests/benchmarks/bench_growth.py
"""

import argparse
import json
import os
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import faiss
import numpy as np
import torch
from bench_bytes import take
from code_lm import get_lm, read_texts

from datastore.codecs import Codec
from datastore.records import DocumentFacts, EncodedDocument
from datastore.store import Datastore
from datastore.writer import Encoder, add, create
from silo.lm import LanguageModel
from silo.settings import DEFAULT_CODEC, DEFAULT_PCA

K = 32
KEYS_PER_LIST = 40


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[62_000, 250_000, 1_000_000])
    parser.add_argument("--lists-per-root", type=float, default=4.0)
    parser.add_argument("--queries", type=int, default=400)
    parser.add_argument("--recall", type=float, default=0.95)
    parser.add_argument("--train-seconds", type=float, default=180)
    parser.add_argument("--model", default="", help="a trained checkpoint; without it one is trained, briefly")
    parser.add_argument("--threads", type=int, default=2, help="for training and encoding; searches have one")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    texts = read_texts(5 * max(options.sizes))
    lm = get_lm(options.model, texts.licensed, options.train_seconds)
    most_lists = round(options.lists_per_root * max(options.sizes) ** 0.5)
    licensed = take(lm, texts.licensed, KEYS_PER_LIST * most_lists)
    stored = take(lm, texts.stored, max(options.sizes))
    asked = np.concatenate([d.keys for d in take(lm, texts.asked, 20 * options.queries)]).astype(np.float32)
    queries = asked[np.random.default_rng(0).permutation(len(asked))[: 2 * options.queries]]
    validation, test = queries[: options.queries], queries[options.queries :]
    n_before = np.cumsum([len(d.keys) for d in stored])
    rows = []
    for size in options.sizes:
        kept = stored[: int(np.searchsorted(n_before, size)) + 1]
        n_lists = round(options.lists_per_root * size**0.5)
        with tempfile.TemporaryDirectory() as folder:
            store = make_store(Path(folder) / "store", lm, licensed, kept, n_lists)
            faiss.omp_set_num_threads(options.threads)
            wanted, right = (store.search(q, K, n_lists).entries for q in (validation, test))
            n_probe = least_probe(store, validation, wanted, options.recall + 0.01)
            keys = np.concatenate([d.keys for d in kept]).astype(np.float32)
            ids = np.concatenate([start + np.arange(len(d.keys)) for start, d in zip(starts(kept), kept, strict=True)])
            raw = ids[faiss.knn(test, keys, K)[1]]
            faiss.omp_set_num_threads(1)
            found, spent = alone(store, test, n_probe)
            rows.append(
                {
                    "entries": store.n_entries,
                    "n_lists": n_lists,
                    "n_probe": n_probe,
                    "us": round(1e6 * spent, 1),
                    "recall": round(recall(found, right), 4),
                    "recall_of_raw": round(recall(found, raw), 4),
                }
            )
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
            store.close()
    times, sizes = np.log([row["us"] for row in rows]), np.log([row["entries"] for row in rows])
    line = {
        "name": "growth",
        "exponent": round(float(np.polyfit(sizes, times, 1)[0]), 3),
        "recall": min(row["recall"] for row in rows),
        "sizes": rows,
        "k": K,
        "codec": f"{DEFAULT_CODEC}:{DEFAULT_PCA}",
        "queries": options.queries,
    }
    print(json.dumps(line))
    return 0


def make_store(
    path: Path, lm: LanguageModel, licensed: list[EncodedDocument], stored: list[EncodedDocument], n_lists: int
) -> Datastore:
    """A store of ``stored``, in one segment, always searched by lists."""
    keys = np.concatenate([d.keys for d in licensed])[: KEYS_PER_LIST * n_lists]
    facts = [DocumentFacts(d.facts.id, digest=d.facts.digest, license="PSF-2.0", risk="SW") for d in licensed]
    store = create(
        path,
        Encoder(lm.fingerprint, lm.name, lm.dimension, lm.vocab_size),
        keys,
        facts,
        n_lists=n_lists,
        knn_temperature=1.0,
        now=datetime.now(UTC),
        max_segment_positions=1 << 24,
        codec=Codec(DEFAULT_CODEC, DEFAULT_PCA),
        exact_below=0,
    )
    add(store, stored)
    return store


def starts(documents: list[EncodedDocument]) -> np.ndarray:
    """The id of the first entry of each document; its end of text takes an id too."""
    return np.cumsum([0, *(len(d.tokens) for d in documents)])[:-1]


def least_probe(store: Datastore, queries: np.ndarray, wanted: np.ndarray, least: float) -> int:
    """The smallest number of lists, in steps of about an eighth, that reaches the recall ``least``."""
    n_probe = 1
    while n_probe < store.manifest.n_lists and recall(store.search(queries, K, n_probe).entries, wanted) < least:
        n_probe += max(1, n_probe // 8)
    return n_probe


def recall(found: np.ndarray, wanted: np.ndarray) -> float:
    """The share of ``wanted`` ``(q, k)`` that is in the same row of ``found``."""
    return float(np.mean([np.isin(right, row).mean() for row, right in zip(found, wanted, strict=True)]))


def alone(store: Datastore, queries: np.ndarray, n_probe: int) -> tuple[np.ndarray, float]:
    """What each of ``queries`` finds when it is asked alone, and the median seconds that it takes."""
    found, spent = [], []
    for query in queries:
        started = time.perf_counter()
        found.append(store.search(query[None], K, n_probe).entries[0])
        spent.append(time.perf_counter() - started)
    return np.stack(found), float(np.median(spent))


if __name__ == "__main__":
    sys.exit(main())
