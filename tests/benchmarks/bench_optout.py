"""Time of an opt-out, to its durable acknowledgement, in stores of 62k to 1M entries; and of opening the largest.

A document has 1,000 entries, about as many words of Python's own library, and keys of 256 dimensions that are made
up (`keys` says so) around random centers: what an opt-out does depends on how many entries there are, not on what they
say. `ms` has the median of the opt-outs of 20 documents at each size; `exponent` is the slope of log time over log
entries; `rebuild_ratio` is the time to write the largest store anew from arrays in memory (that of an LM to make them
not counted) over that of one opt-out. `tombstone_slowdown` is the time of a search after a tenth of the documents has
left over that before, the median of rounds that ask both. `parity`: after all of it no query finds a removed
document, and each receipt holds.

`hash_seconds` is the time to read and hash every file that is listed with a checksum; `open_seconds` is that of the
whole opening, less `hash_seconds`. Files are in the page cache. Every opening hashes every file: nothing is
remembered by size and time, since a disk that loses or changes bytes changes neither.

    python tests/benchmarks/bench_optout.py
"""

import argparse
import json
import os
import re
import statistics
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import faiss
import numpy as np

from datastore.files import sha256_file
from datastore.optout import opt_out
from datastore.receipts import Receipt, check_receipt
from datastore.records import DocumentFacts, EncodedDocument
from datastore.snapshots import Snapshot, search
from datastore.store import SEGMENTS, Datastore
from datastore.writer import Encoder, add, create

DIMENSION = 256
N_ENTRIES = 1000
"""Of a document."""
VOCABULARY = 1 << 16


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[62_000, 250_000, 1_000_000])
    parser.add_argument("--opt-outs", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()

    faiss.omp_set_num_threads(1)
    words = read(max(options.sizes))
    centers = np.random.default_rng(0).standard_normal((1024, DIMENSION)).astype(np.float32)
    result: dict[str, object] = {"name": "optout", "keys": "made up, tokens real", "sizes": options.sizes, "threads": 1}
    milliseconds, spreads = [], []
    is_right = True
    with tempfile.TemporaryDirectory() as folder:
        for size in options.sizes:
            store, build = make_store(Path(folder) / str(size), words, centers, size // N_ENTRIES)
            queries = centers[:64] + np.float32(0.1)
            before = Datastore.open(store.path)._current()  # nobody asks this handle again, so it stays as it is
            spent, receipts = opt_outs(store, range(options.opt_outs))
            milliseconds.append(1e3 * statistics.median(spent))
            spreads.append([round(1e3 * f(spent), 2) for f in (min, max)])
            is_right = is_right and check(store, receipts, queries)
        opening, hashing = opened(store)
        result["segments"] = len(list((store.path / SEGMENTS).iterdir()))
        _, more = opt_outs(store, range(max(0, options.sizes[-1] // N_ENTRIES // 10 - options.opt_outs)))
        first, second, slowdown = searching(store, before, queries, options.rounds)
        receipts += more
        is_right = is_right and check(store, receipts, queries)
    slope = np.polyfit(np.log(options.sizes), np.log(milliseconds), 1)[0]
    result |= {
        "exponent": round(float(slope), 3),
        "ms_at_largest": round(milliseconds[-1], 2),
        "rebuild_ratio": round(1e3 * build / milliseconds[-1], 1),
        "tombstone_slowdown": round(slowdown, 3),
        "ms": [round(ms, 2) for ms in milliseconds],
        "ms_least_and_most": spreads,
        "rebuild_seconds": round(build, 2),
        "search_ms": [round(1e3 * first, 2), round(1e3 * second, 2)],
        "open_seconds": round(opening - hashing, 3),
        "hash_seconds": round(hashing, 3),
        "parity": is_right,
    }
    print(json.dumps(result))
    return 0 if is_right else 1


def read(n: int) -> list[str]:
    """``n`` words and signs of Python's library, file after file, again from the start if need be."""
    found: list[str] = []
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).rglob("*.py")):
        if "site-packages" not in path.parts:
            found += re.findall(r"\w+|[^\w\s]", path.read_text(encoding="utf-8", errors="ignore"))
        if len(found) >= n:
            break
    return (found * (n // len(found) + 1))[:n]


def make_store(path: Path, words: Sequence[str], centers: np.ndarray, n: int) -> tuple[Datastore, float]:
    """A store of ``n`` documents, and the seconds that writing it took, without making up the keys."""
    store = create(
        path,
        Encoder("none", "none", DIMENSION, VOCABULARY),
        centers,
        [DocumentFacts("licensed", digest="0" * 64, license="CC0-1.0", risk="PD")],
        n_lists=min(len(centers), 2 * int((n * N_ENTRIES) ** 0.5) // 4),
        knn_temperature=1.0,
        now=datetime.now(UTC),
    )
    numbers: dict[str, int] = {}
    spent = 0.0
    for first in range(0, n, 250):
        batch = [document(i, words, numbers, centers) for i in range(first, min(n, first + 250))]
        spent += seconds(lambda batch=batch: add(store, batch))
    return store, spent


def document(i: int, words: Sequence[str], numbers: dict[str, int], centers: np.ndarray) -> EncodedDocument:
    """The ``i``-th run of words; each word is a token, and the text of all of them one sentence."""
    own = words[i * N_ENTRIES : (i + 1) * N_ENTRIES]
    random = np.random.default_rng(i)
    keys = centers[random.integers(0, len(centers), len(own))]
    keys = (keys + random.standard_normal(keys.shape, dtype=np.float32)).astype(np.float16)
    text = " ".join(own)
    tokens = np.array([1 + numbers.setdefault(word, len(numbers)) % (VOCABULARY - 1) for word in own] + [0])
    spans, sentences = np.array([[0, len(text)]]), np.zeros(len(tokens), np.int64)
    return EncodedDocument(DocumentFacts(f"{i}", digest=f"{i:064x}"), text, tokens, keys, spans, sentences)


def opt_outs(store: Datastore, numbers: range) -> tuple[list[float], list[Receipt]]:
    """Opt documents out that lie spread over the store; the seconds of each, and the receipts."""
    names = [document.facts.id for document in store.documents("live")]
    chosen = [names[i * len(names) // len(numbers)] for i in range(len(numbers))]
    receipts: list[Receipt] = []
    spent = [seconds(lambda n=n: receipts.append(opt_out(store, n, now=datetime.now(UTC)))) for n in chosen]
    return spent, receipts


def opened(store: Datastore) -> tuple[float, float]:
    """The seconds of opening the store, and of hashing its files: the least of five."""
    listed = [path for path in store.path.rglob("*") if path.is_file() and path.parent.parent.name == SEGMENTS]
    hashing = min(seconds(lambda: [sha256_file(path) for path in listed]) for _ in range(5))
    return min(seconds(lambda: Datastore.open(store.path).close()) for _ in range(5)), hashing


def searching(store: Datastore, before: Snapshot, queries: np.ndarray, n_rounds: int) -> tuple[float, float, float]:
    """The median seconds of a search of ``before`` and of the store now, one after the other in every round; and of
    their ratio in a round.
    """
    both = (before, store._current())
    pairs = []
    for _ in range(n_rounds + 1):
        pairs.append([seconds(lambda: search(snapshot, store.space, queries, 32, 8)) for snapshot in both])  # noqa: B023
    first, second = np.array(pairs[1:]).T
    return float(np.median(first)), float(np.median(second)), float(np.median(second / first))


def check(store: Datastore, receipts: Sequence[Receipt], queries: np.ndarray) -> bool:
    """Whether nothing of what was removed is found, and every receipt holds."""
    for receipt in receipts:
        check_receipt(receipt)
    found = store.search(queries, 1000)
    places = store.locate(found.entries[found.entries >= 0], found.epoch) or []
    return (len(places) > 0 or store.n_entries == 0) and not {place.document for place in places} & {
        receipt.document for receipt in receipts
    }


def seconds(work: Callable[[], object]) -> float:
    """How long ``work`` took."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
