"""Time of raw prefill over the time of building a store: encoding, all views and the catalog, until it is durable.

Prefill runs the same LM, without its head, over the same windows in the same batches, and drops what comes out; the
build takes the same texts through `encode_document` and `writer.add`. Weights are random: speed does not depend on
what an LM knows. The two take turns and the ratio is that of the medians. The creation of an empty store, with what is
fitted, comes before and is timed aside: it does not grow with the text. `packed_ratio` compares with prefill that
batches windows across documents, as an encoder could that did not owe each document bits of its own.
`parity`: both builds have the same files.

    python tests/benchmarks/bench_build.py --size 5M --size 20M
"""

import argparse
import json
import os
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from code_lm import LAYERS, make_lm, read_texts

from datastore.codecs import Codec
from datastore.files import sha256_file
from datastore.store import SEGMENTS, Datastore
from datastore.writer import Encoder, add, create
from silo.documents import Document
from silo.encoding import encode_document
from silo.fitting import Fit, fit
from silo.lm import LanguageModel
from silo.settings import DEFAULT_CODEC, DEFAULT_PCA
from silo.tokenizer import tokenize

PACKED_TOKENS = 4096


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", choices=list(LAYERS), action="append")
    parser.add_argument("--characters", type=int, default=400_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--lists", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    is_right = True
    for size in options.size or list(LAYERS):
        texts = read_texts(options.characters)
        lm = make_lm(texts.licensed[::7], size)
        codec = Codec(DEFAULT_CODEC, DEFAULT_PCA)
        started = time.perf_counter()
        fitted = fit(lm, texts.licensed[::7], options.lists, codec)
        fitting = time.perf_counter() - started
        sequences = [tokenize(lm.tokenizer, document.text).ids for document in texts.stored]
        seconds: dict[str, list[float]] = {"prefill": [], "packed": [], "build": []}
        files = set()
        prefill(lm, sequences[:3])  # warm
        for _ in range(options.rounds):
            with tempfile.TemporaryDirectory() as folder:
                store = make_store(Path(folder) / "store", lm, fitted, options.lists, codec)
                seconds["build"].append(build(store, lm, texts.stored))
                files.add(tuple(sha256_file(path) for path in sorted((store.path / SEGMENTS).glob("*/*"))))
                n_entries = store.n_entries
                store.close()
            seconds["prefill"].append(prefill(lm, sequences))
            seconds["packed"].append(packed(lm, sequences))
        spent = {name: median(each) for name, each in seconds.items()}
        is_right = is_right and len(files) == 1
        line = {
            "name": "build",
            "ratio": round(spent["prefill"] / spent["build"], 4),
            "packed_ratio": round(spent["packed"] / spent["build"], 4),
            "size": size,
            "parameters": sum(p.numel() for p in lm.model.parameters()),
            "seconds": {name: [round(s, 2) for s in each] for name, each in seconds.items()},
            "fit_seconds": round(fitting, 2),
            "documents": len(texts.stored),
            "entries": n_entries,
            "codec": f"{DEFAULT_CODEC}:{DEFAULT_PCA}",
            "n_lists": options.lists,
            "threads": options.threads,
            "parity": len(files) == 1,
        }
        print(json.dumps(line), flush=True)
    return 0 if is_right else 1


def make_store(path: Path, lm: LanguageModel, fitted: Fit, n_lists: int, codec: Codec) -> Datastore:
    """An empty store."""
    encoder = Encoder(lm.fingerprint, lm.name, lm.dimension, lm.vocab_size)
    tau, now = fitted.knn_temperature, datetime.now(UTC)
    keys, documents = fitted.keys, fitted.documents
    return create(path, encoder, keys, documents, n_lists=n_lists, knn_temperature=tau, now=now, codec=codec)


def build(store: Datastore, lm: LanguageModel, documents: list[Document]) -> float:
    """Seconds from the texts to the acknowledged, durable store."""
    started = time.perf_counter()
    add(store, (encode_document(lm, document) for document in documents))
    return time.perf_counter() - started


def prefill(lm: LanguageModel, sequences: list[np.ndarray]) -> float:
    """Seconds of the LM over the windows of each document, batched as when it is encoded."""
    batches = [batch for sequence in sequences for batch in lm.windows(sequence)]
    started = time.perf_counter()
    for _, batch in batches:
        lm.contexts(batch)
    return time.perf_counter() - started


def packed(lm: LanguageModel, sequences: list[np.ndarray]) -> float:
    """Seconds of the LM over the same windows, those of one length batched whosever they are."""
    by_length: dict[int, list[torch.Tensor]] = {}
    for sequence in sequences:
        for _, batch in lm.windows(sequence):
            by_length.setdefault(batch.shape[1], []).extend(batch)
    started = time.perf_counter()
    for length, rows in by_length.items():
        size = max(1, PACKED_TOKENS // length)
        for i in range(0, len(rows), size):
            lm.contexts(torch.stack(rows[i : i + size]))
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
