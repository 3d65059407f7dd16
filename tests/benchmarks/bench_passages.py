"""Time of a question to a store of 100k passages, by words (BM25) and by vectors, beside the plain way to do it.

The text is that of Python's own library, a line a sentence; questions are lines of files that are not in the store.
Vectors are random, since their time does not depend on what they say. A question is the whole answer of
`Datastore.passages`, documents and spans included; `…_us` is the median of all questions. The plain ways are BM25 over
a dictionary of words for each passage, statistics counted as it goes (`bm25_plain_us`), and one float32 product of
matrix and vector with a full sort (`dense_plain_us`), both in the same run: `…_ratio` is plain over ours.
`bm25_removed_us` and `dense_removed_us`: after every tenth document has left, and `first_removed_ms` the first question
after that. `parity`: BM25 scores are those of the plain way to the bit, before the removal and after it, and the
dense ranking's scores are within 0.002 of the plain ones. `index_us_per_word`: making the view's arrays.

    python tests/benchmarks/bench_passages.py
"""

import argparse
import json
import math
import os
import re
import sys
import sysconfig
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np

from datastore.fingerprints import hashes, words
from datastore.optout import opt_out
from datastore.passages import PassageSettings, cut_passages, first_tokens, index_passages, passage_texts, ranges_of
from datastore.ranking import K1, B
from datastore.records import DocumentFacts, EncodedDocument
from datastore.store import Datastore
from datastore.writer import Encoder, add, create

PIECE = re.compile(r" ?\w{1,4}|[^\w\s]|\s+")
MAX_TOKENS = 64
LINES = 100


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--passages", type=int, default=100_000)
    parser.add_argument("--questions", type=int, default=30)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--k", type=int, default=10)
    options = parser.parse_args()

    random = np.random.default_rng(0)
    documents, questions = read(options.passages, options.questions, options.dimension, random)
    vectors = unit(random, len(questions), options.dimension)
    bags = [
        Bag(d.facts.id, i, Counter(words(t))) for d in documents for i, t in enumerate(passage_texts(d, MAX_TOKENS))
    ]
    result: dict[str, object] = {"name": "passages", "passages": len(bags), "documents": len(documents)}
    with tempfile.TemporaryDirectory() as folder:
        store = make_store(Path(folder) / "store", documents, options.dimension)
        result["segments"] = len(list((store.path / "segments").iterdir()))
        rows = [
            (0, len(d.keys), np.column_stack([first_tokens(d), d.sentences]), ranges_of(d, MAX_TOKENS), d.text)
            for d in documents
        ]
        n_words = sum(bag.words.total() for bag in bags)
        result["index_us_per_word"] = round(1e6 * seconds(lambda: index_passages(rows)) / n_words, 2)
        is_right = check(store, bags, questions, options.k)

        by_words = [seconds(lambda q=q: store.passages(q, options.k)) for q in questions]
        by_vectors = [seconds(lambda v=v: store.passages("", options.k, "dense", v)) for v in vectors]
        plain_words = [seconds(lambda q=q: plain_bm25(bags, q, options.k)) for q in questions[:5]]
        matrix = np.concatenate([d.passage_vectors for d in documents if d.passage_vectors is not None])
        plain_vectors = [seconds(lambda v=v: np.argsort(-(matrix @ v))[: options.k]) for v in vectors]
        for name, ours, plain in (("bm25", by_words, plain_words), ("dense", by_vectors, plain_vectors)):
            result[f"{name}_us"] = round(1e6 * float(np.median(ours)))
            result[f"{name}_plain_us"] = round(1e6 * float(np.median(plain)))
            result[f"{name}_ratio"] = round(float(np.median(plain) / np.median(ours)), 2)
        for v in vectors:
            ours, plain = store.passages("", options.k, "dense", v).scores, np.sort(matrix @ v)[::-1][: options.k]
            is_right = is_right and bool(np.abs(ours - plain).max() < 2e-3)

        gone = {d.facts.id for d in documents[::10]}
        for name in gone:
            opt_out(store, name, now=datetime.now(UTC))
        result["first_removed_ms"] = round(1e3 * seconds(lambda: store.passages(questions[0], options.k)), 1)
        removed = [seconds(lambda q=q: store.passages(q, options.k)) for q in questions]
        result["bm25_removed_us"] = round(1e6 * float(np.median(removed)))
        removed = [seconds(lambda v=v: store.passages("", options.k, "dense", v)) for v in vectors]
        result["dense_removed_us"] = round(1e6 * float(np.median(removed)))
        is_right = is_right and check(store, [bag for bag in bags if bag.document not in gone], questions, options.k)
    result |= {"dimension": options.dimension, "k": options.k, "parity": is_right}
    print(json.dumps(result))
    return 0 if is_right else 1


@dataclass(frozen=True)
class Bag:
    """The words of a passage, for the plain way."""

    document: str
    number: int
    words: Counter[str]


def read(
    n_passages: int, n_questions: int, dimension: int, random: np.random.Generator
) -> tuple[list[EncodedDocument], list[str]]:
    """Documents of ``LINES`` lines with ``n_passages`` passages or a few more; and lines of other files."""
    documents: list[EncodedDocument] = []
    held: list[str] = []
    n = 0
    root = Path(sysconfig.get_paths()["stdlib"])
    paths = [path for path in sorted(root.rglob("*.py")) if "site-packages" not in path.parts]
    for i, path in enumerate(paths):
        lines = path.read_text(encoding="utf-8", errors="ignore").splitlines(keepends=True)
        if i % 20 == 0:
            held += [line for line in lines if 5 <= len(words(line)) <= 15]
            continue
        for start in range(0, len(lines), LINES):
            if n < n_passages and (made := encoded(len(documents), lines[start : start + LINES], dimension, random)):
                documents.append(made)
                n += 0 if made.passage_vectors is None else len(made.passage_vectors)
    if n < n_passages:
        print(f"Python's library has {n:,} passages", file=sys.stderr)
    return documents, [held[i] for i in random.integers(0, len(held), n_questions)]


def encoded(number: int, lines: Sequence[str], dimension: int, random: np.random.Generator) -> EncodedDocument | None:
    """The lines as a document, a sentence each, with random vectors; None where there is nothing in them."""
    lengths = [len(PIECE.findall(line)) for line in lines]
    n = sum(lengths)
    if n == 0:
        return None
    ends = np.cumsum([0, *map(len, lines)])
    marks = np.repeat(np.arange(len(lines)), lengths)
    n_passages = len(cut_passages(np.cumsum([0, *lengths])[:-1], n, MAX_TOKENS))
    return EncodedDocument(
        DocumentFacts(f"{number}", digest=f"{number:064x}"),
        "".join(lines),
        np.append(np.ones(n, np.int64), 0),
        np.zeros((n, 1), np.float16),
        np.stack([ends[:-1], ends[1:]], axis=1),
        np.append(marks, len(lines) - 1),
        unit(random, n_passages, dimension),
    )


def unit(random: np.random.Generator, n: int, dimension: int) -> np.ndarray:
    """Random unit vectors."""
    rows = random.standard_normal((n, dimension)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def make_store(path: Path, documents: Sequence[EncodedDocument], dimension: int) -> Datastore:
    """A store of ``documents``, whose keys of one dimension nobody asks for."""
    store = create(
        path,
        Encoder("none", "none", 1, 2),
        np.zeros((1, 1), np.float32),
        [DocumentFacts("licensed", digest="0" * 64, license="CC0-1.0", risk="PD")],
        n_lists=1,
        knn_temperature=1.0,
        now=datetime.now(UTC),
        passages=PassageSettings(MAX_TOKENS, "random", "random", dimension),
    )
    add(store, documents)
    return store


def plain_bm25(bags: Sequence[Bag], question: str, k: int) -> list[tuple[str, int, float]]:
    """Document, passage and score of the ``k`` best, with every statistic counted from the passages as they are."""
    times = Counter(words(question))
    n, mean = len(bags), sum(bag.words.total() for bag in bags) / len(bags)
    n_with = {word: sum(word in bag.words for bag in bags) for word in times}
    weights = [
        (word, times[word] * (K1 + 1) * math.log(1 + (n - n_with[word] + 0.5) / (n_with[word] + 0.5)))
        for word in sorted(times, key=lambda word: int(hashes([word])[0]))
    ]
    scored = []
    for i, bag in enumerate(bags):
        score = 0.0
        for word, weight in weights:
            if frequency := bag.words[word]:
                score += weight * (frequency / (frequency + K1 * (1 - B + B * (bag.words.total() / mean))))
        if score:
            scored.append((-score, i))
    return [(bags[i].document, bags[i].number, -score) for score, i in sorted(scored)[:k]]


def check(store: Datastore, bags: Sequence[Bag], questions: Sequence[str], k: int, n: int = 5) -> bool:
    """Whether the first ``n`` questions get what the plain way finds, to the bit."""
    for question in questions[:n]:
        found = store.passages(question, k)
        ours = list(zip(found.documents, found.numbers.tolist(), found.scores.tolist(), strict=True))
        if ours != plain_bm25(bags, question, k):
            return False
    return True


def seconds(work: Callable[[], object]) -> float:
    """How long ``work`` took."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
