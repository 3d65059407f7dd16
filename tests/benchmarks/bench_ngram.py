"""Time of a longest-suffix lookup in stores of 1M and 10M tokens, batched over positions.

The text is that of Python's own library, cut into pieces of at most four characters, about as long as the tokens of a
trained vocabulary; contexts come from files that are not in the store. A lookup is the whole answer of
`Datastore.continuations`: the longest suffix, its count, and the tokens that followed with theirs. Segments are those
of a store by default, so 10M tokens lie in ten of them. Times are microseconds a lookup: `us_at_…` in batches, their
median; `us_first_at_…` in the first batch after opening; `us_alone_at_…` in a batch of one. `ms_after_removal` is the
whole first batch after a document has left, `ms_batch` that of one later. `parity`: a batch is answered as one by one,
and, before and after the removal, lengths, counts and continuations are those of a plain scan of the live documents.

    python tests/benchmarks/bench_ngram.py
"""

import argparse
import json
import os
import re
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np

from datastore.optout import opt_out
from datastore.records import DocumentFacts, EncodedDocument
from datastore.store import SEGMENTS, Datastore
from datastore.writer import Encoder, add, create

PIECE = re.compile(r" ?\w{1,4}|[^\w\s]|\s+")
VOCABULARY = 1 << 16


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", type=int, nargs=2, default=[1_000_000, 10_000_000])
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--batches", type=int, default=12)
    parser.add_argument("--context", type=int, default=64)
    options = parser.parse_args()

    documents = read(options.sizes[1] + options.sizes[1] // 10)
    held = np.concatenate(documents[::20])  # spread over the library, as new text by known authors would be
    documents = [tokens for i, tokens in enumerate(documents) if i % 20]
    random = np.random.default_rng(0)
    ends = random.integers(options.context, len(held), (options.batches, options.batch))
    batches = [[held[end - options.context : end] for end in row] for row in ends]
    result: dict[str, object] = {"name": "ngram"}
    is_right = True
    sizes = []
    with tempfile.TemporaryDirectory() as folder:
        for label, size in zip(("1m", "10m"), options.sizes, strict=True):
            started = time.perf_counter()
            store, kept = make_store(Path(folder) / label, documents, size)
            build = time.perf_counter() - started
            for name, microseconds in measure(store, batches).items():
                result[f"{name}_at_{label}"] = microseconds
            is_right = is_right and check(store, kept, batches[0])
            result[f"build_s_{label}"] = round(build, 2)
            sizes.append(sum(map(len, kept)))
            files = [p.stat().st_size for p in (store.path / SEGMENTS).glob("*/ngrams.npy")]
            result["bytes_per_token"] = round(sum(files) / sizes[-1], 3)
            result["segments"] = len(files)
            opt_out(store, "7", now=datetime.now(UTC))
            result["ms_after_removal"] = round(1e3 * seconds(lambda: store.continuations(batches[0])), 1)  # noqa: B023
            result["ms_batch"] = round(1e3 * seconds(lambda: store.continuations(batches[0])), 1)  # noqa: B023
            is_right = is_right and check(store, kept[:7] + kept[8:], batches[0])
    result |= {"threads": 1, "sizes": sizes, "batch": options.batch, "context": options.context, "parity": is_right}
    print(json.dumps(result))
    return 0 if is_right else 1


def read(n: int) -> list[np.ndarray]:
    """Files of Python's library as token arrays, each with an end of text, 0, until there are ``n`` tokens."""
    numbers: dict[str, int] = {}
    documents: list[np.ndarray] = []
    n_read = 0
    root = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(root.rglob("*.py")):
        if "site-packages" in path.parts or n_read >= n:
            continue
        text = path.read_text(encoding="utf-8", errors="ignore")
        pieces = [numbers.setdefault(piece, len(numbers) + 1) for piece in PIECE.findall(text)]
        documents.append(np.array([p if p < VOCABULARY else 1 for p in pieces] + [0]))
        n_read += len(documents[-1])
    return documents


def make_store(path: Path, documents: Sequence[np.ndarray], size: int) -> tuple[Datastore, list[np.ndarray]]:
    """A store of as many ``documents`` as hold ``size`` tokens, with keys of one dimension that nobody asks for."""
    licensed = [DocumentFacts("licensed", digest="0" * 64, license="CC0-1.0", risk="PD")]
    store = create(
        path,
        Encoder("none", "none", 1, VOCABULARY),
        np.zeros((1, 1), np.float32),
        licensed,
        n_lists=1,
        knn_temperature=1.0,
        now=datetime.now(UTC),
    )
    n_before = np.cumsum([0, *(len(tokens) for tokens in documents)])
    kept = list(documents[: int(np.searchsorted(n_before, size))])
    add(store, (encoded(f"{i}", tokens) for i, tokens in enumerate(kept)))
    return store, kept


def encoded(name: str, tokens: np.ndarray) -> EncodedDocument:
    """The tokens as a document without text."""
    n = len(tokens) - 1
    sentences = np.zeros((min(n, 1), 2), np.int64)
    facts = DocumentFacts(name, digest=f"{int(name):064x}")
    return EncodedDocument(facts, "", tokens, np.zeros((n, 1), np.float16), sentences, np.zeros(n + 1, np.int64))


def measure(store: Datastore, batches: list[list[np.ndarray]]) -> dict[str, float]:
    """Microseconds a lookup: in batches (the median of them), in the first one, and alone."""
    spent = [seconds(lambda batch=batch: store.continuations(batch)) for batch in batches]
    alone = [seconds(lambda context=context: store.continuations([context])) for context in batches[-1][:20]]
    n = len(batches[0])
    return {
        "us": round(1e6 * float(np.median(spent[1:])) / n, 1),
        "us_first": round(1e6 * spent[0] / n, 1),
        "us_alone": round(1e6 * float(np.median(alone)), 1),
    }


def check(store: Datastore, documents: list[np.ndarray], batch: list[np.ndarray], n: int = 40) -> bool:
    """Whether the first ``n`` contexts get what a plain scan of ``documents`` finds, alone as in the batch."""
    found = store.continuations(batch)
    tokens = np.concatenate(documents)
    rooms = np.concatenate([np.arange(len(document)) for document in documents])
    for i, context in enumerate(batch[:n]):
        # Where something follows and the last token is right; then those where the one before it is, and so on.
        ends = np.flatnonzero((tokens[:-1] == context[-1]) & (rooms[1:] > 0))
        length = int(len(ends) > 0)
        while length and length < len(context):
            longer = ends[(rooms[ends] >= length) & (tokens[ends - length] == context[-1 - length])]
            if len(longer) == 0:
                break
            ends, length = longer, length + 1
        following, counts = np.unique(tokens[ends + 1], return_counts=True)
        alone = store.continuations([context])
        for answer, row in ((found, i), (alone, 0)):
            if (int(answer.lengths[row, 0]), int(answer.counts[row, 0])) != (length, len(ends)):
                return False
            if [part.tolist() for part in answer.following(row)] != [following.tolist(), counts.tolist()]:
                return False
    return True


def seconds(work: Callable[[], object]) -> float:
    """How long ``work`` took."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
