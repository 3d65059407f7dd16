"""Bytes an entry takes, and the share of exact search's gain in log-perplexity that is kept, by codec.

A small LM trained on the standard library stores the sources of other packages and is asked files of theirs that are
not stored (`code_lm`). The gain is the fall of log-perplexity when a fixed weight goes to the neighbors, in place of
the LM alone; the share is that of a store, all of its lists scanned, over float32 keys compared one by one. Each has a
kNN temperature fitted on licensed text in its own space. `gain_share_probed` is that of a search of `n_probe` lists.
Bytes are those of files: `keys.faiss`, which has ids (they are the positions), and `tokens.npy`, which has
the values. `clipped`: the share of stored components that the codec cuts off.

    python tests/benchmarks/bench_bytes.py [--codecs fp16:0 sq8:64 pq:128 …]
"""

import argparse
import json
import os
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import faiss
import numpy as np
import torch
from code_lm import get_lm, read_texts

from datastore.codecs import Codec, KeySpace, fit_space
from datastore.records import DocumentFacts, EncodedDocument
from datastore.store import SEGMENTS, Datastore
from datastore.writer import Encoder, add, create
from silo.encoding import encode_document
from silo.fitting import fit_temperature
from silo.lm import LanguageModel
from silo.settings import DEFAULT_CODEC, DEFAULT_PCA

K, WEIGHT = 32, 0.25
N_LISTS, N_PROBE = 512, 8
N_LICENSED_KEYS = 40 * N_LISTS


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--entries", type=int, default=120_000)
    parser.add_argument("--queries", type=int, default=4000)
    parser.add_argument("--train-seconds", type=float, default=180)
    parser.add_argument("--model", default="", help="a trained checkpoint; without it one is trained, briefly")
    parser.add_argument("--threads", type=int, default=2)
    default = f"{DEFAULT_CODEC}:{DEFAULT_PCA}"
    parser.add_argument("--codecs", nargs="+", default=[default], help="kind:pca, the store's default if none is named")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    texts = read_texts(5 * options.entries)
    lm = get_lm(options.model, texts.licensed, options.train_seconds)
    licensed = take(lm, texts.licensed[::7], N_LICENSED_KEYS)
    stored = take(lm, texts.stored, options.entries)
    asked = take(lm, texts.asked, 10 * options.queries)
    rows = np.linspace(0, sum(len(d.keys) for d in asked) - 1, options.queries).astype(int)
    queries = np.concatenate([d.keys for d in asked])[rows].astype(np.float32)
    gold = np.concatenate([d.tokens[1:] for d in asked])[rows]
    lm_gold = lm.logprobs(torch.from_numpy(queries)).numpy()[np.arange(len(rows)), gold].astype(np.float64)

    plain = KeySpace("fp16", np.zeros((1, lm.dimension), np.float32), np.empty(0, np.float32), None)
    keys = np.concatenate([d.keys for d in stored]).astype(np.float32)
    distances, entries = faiss.knn(queries, keys, K)
    tau = fit_temperature(lm, [d.keys for d in licensed], [d.tokens[1:] for d in licensed], plain)
    exact = gain(lm_gold, gold, distances, np.concatenate([d.tokens[1:] for d in stored])[entries], tau)
    for name in options.codecs:
        kind, pca = name.split(":")
        with tempfile.TemporaryDirectory() as folder:
            store, tau = make_store(Path(folder) / "store", lm, licensed, stored, Codec(kind, int(pca)))
            found, probed = (store.search(queries, K, n) for n in (N_LISTS, N_PROBE))
            shares = [gain(lm_gold, gold, f.squared_distances, f.values, tau) / exact for f in (found, probed)]
            n, sizes = store.n_entries, file_sizes(store)
            projected = store.space.project(keys)
            line = {
                "name": "bytes",
                "bytes_per_entry": round((sizes["keys.faiss"] + sizes["tokens.npy"]) / n, 2),
                "gain_share": round(shares[0], 4),
                "ngram_bytes_per_token": round(sizes["ngrams.npy"] / n, 3),
                "gain_share_probed": round(shares[1], 4),
                "codec": name,
                "dimension": lm.dimension,
                "stored_dimension": store.space.dimension,
                "clipped": float(f"{store.space.clipped(projected):.3g}"),
                "exact_gain": round(exact, 4),
                "lm_log_perplexity": round(-float(lm_gold.mean()), 4),
                "entries": n,
                "queries": len(queries),
                "n_lists": N_LISTS,
                "n_probe": N_PROBE,
                "k": K,
                "weight": WEIGHT,
            }
            print(json.dumps(line), flush=True)
            store.close()
    return 0


def take(lm: LanguageModel, documents: list, n: int) -> list[EncodedDocument]:
    """The first ``documents``, encoded, until they have ``n`` entries."""
    encoded: list[EncodedDocument] = []
    for document in documents:
        if sum(len(d.keys) for d in encoded) >= n:
            break
        encoded.append(encode_document(lm, document))
    return encoded


def make_store(
    path: Path, lm: LanguageModel, licensed: list[EncodedDocument], stored: list[EncodedDocument], codec: Codec
) -> tuple[Datastore, float]:
    """A store of ``stored`` and the temperature fitted for it on ``licensed``."""
    keys = np.concatenate([d.keys for d in licensed])
    tau = fit_temperature(lm, [d.keys for d in licensed], [d.tokens[1:] for d in licensed], fit_space(keys, 1, codec))
    encoder = Encoder(lm.fingerprint, lm.name, lm.dimension, lm.vocab_size)
    facts = [DocumentFacts(d.facts.id, digest=d.facts.digest, license="PSF-2.0", risk="SW") for d in licensed]
    now = datetime.now(UTC)
    store = create(path, encoder, keys, facts, n_lists=N_LISTS, knn_temperature=tau, now=now, codec=codec)
    add(store, stored)
    return store, tau


def gain(lm_gold: np.ndarray, gold: np.ndarray, distances: np.ndarray, values: np.ndarray, tau: float) -> float:
    """How much lower the log-perplexity of the mixture is than that of the LM alone, in nats a token."""
    scores = -(distances - distances[:, :1]).astype(np.float64) / tau
    shares = np.exp(scores)
    knn = (shares * (values == gold[:, None])).sum(axis=1) / shares.sum(axis=1)
    return float((np.log((1 - WEIGHT) * np.exp(lm_gold) + WEIGHT * knn) - lm_gold).mean())


def file_sizes(store: Datastore) -> dict[str, int]:
    """Bytes of all files of each name in the store's segments."""
    sizes: dict[str, int] = {}
    for path in (store.path / SEGMENTS).glob("*/*"):
        sizes[path.name] = sizes.get(path.name, 0) + path.stat().st_size
    return sizes


if __name__ == "__main__":
    sys.exit(main())
