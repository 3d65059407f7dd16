"""Decoding speed of the kNN-LM over its LM alone, in the same loop, in one run.

A LLaMA of about five million parameters with random weights (speed does not depend on what it knows), a tokenizer
and a store made of Python's own manual, with the inverted lists that `silo datastore build` makes by default; greedy,
batch 1, with attribution. The two take turns, prompt by prompt, and the ratio is that of the summed times. `parity`:
with share 0 the loop with the datastore gives the tokens and log-probabilities of the LM alone, and two runs of the
kNN-LM give the same.

    python tests/benchmarks/bench_decode.py
"""

import argparse
import json
import os
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from pydoc_data.topics import topics

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from datastore.store import Datastore
from datastore.writer import Encoder, add, create
from silo.documents import Document
from silo.encoding import encode_document
from silo.fitting import fit
from silo.generation import Silo
from silo.lm import LanguageModel
from silo.settings import GenerationSettings, KnnSettings
from training.vocabulary import train_vocabulary

N_LISTS = 512


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--documents", type=int, default=60)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    pages = [Document(name, text, "PSF-2.0") for name, text in sorted(topics.items())]
    lm = make_lm([page.text for page in pages])
    with tempfile.TemporaryDirectory() as folder:
        store = make_store(Path(folder) / "store", lm, pages, options.documents)
        alone, joined = Silo(lm), Silo(lm, store)
        prompts = [page.text[:80] for page in pages[: options.prompts]]
        knn = KnnSettings(k=options.k)
        settings = GenerationSettings(max_tokens=options.tokens, knn=knn)
        lm_only = GenerationSettings(max_tokens=options.tokens, knn=KnnSettings(weight=0.0))
        parity = all(run(alone, p, settings)[0] == run(joined, p, lm_only)[0] for p in prompts[:2])
        parity = parity and run(joined, prompts[0], settings)[0] == run(joined, prompts[0], settings)[0]
        seconds, n_tokens = {"lm": 0.0, "knn": 0.0}, {"lm": 0, "knn": 0}
        for prompt in prompts:
            for name, silo in (("lm", alone), ("knn", joined)):
                tokens, spent = run(silo, prompt, settings)
                seconds[name] += spent
                n_tokens[name] += len(tokens)
        speed = {name: n_tokens[name] / seconds[name] for name in seconds}
        print(
            json.dumps(
                {
                    "name": "decode",
                    "ratio": round(speed["knn"] / speed["lm"], 4),
                    "knn_tokens_per_second": round(speed["knn"], 1),
                    "lm_tokens_per_second": round(speed["lm"], 1),
                    "threads": options.threads,
                    "parameters": sum(p.numel() for p in lm.model.parameters()),
                    "entries": store.n_entries,
                    "k": options.k,
                    "n_lists": N_LISTS,
                    "n_probe": knn.n_probe,
                    "tokens": n_tokens,
                    "parity": parity,
                }
            )
        )
    return 0 if parity else 1


def make_lm(texts: list[str]) -> LanguageModel:
    """A LLaMA of the size that the recipes train, with random weights."""
    torch.manual_seed(0)
    tokenizer = train_vocabulary(texts, 8192, 512)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=256,
        intermediate_size=640,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=512,
        tie_word_embeddings=True,
    )
    return LanguageModel(LlamaForCausalLM(config), tokenizer, "bench")


def make_store(path: Path, lm: LanguageModel, pages: list[Document], n_documents: int) -> Datastore:
    """A store of ``n_documents`` pages, fitted on the others."""
    fitted = fit(lm, pages[n_documents:], N_LISTS)
    store = create(
        path,
        Encoder(lm.fingerprint, lm.name, lm.dimension, lm.vocab_size),
        fitted.keys,
        fitted.documents,
        n_lists=N_LISTS,
        knn_temperature=fitted.knn_temperature,
        now=datetime.now(UTC),
    )
    add(store, (encode_document(lm, page) for page in pages[:n_documents]))
    return store


def run(silo: Silo, prompt: str, settings: GenerationSettings) -> tuple[list[tuple[int, float]], float]:
    """Tokens with log-probabilities, and the seconds that they took."""
    started = time.perf_counter()
    tokens = [(token.id, token.logprob) for token in silo.generate(prompt, settings)]
    return tokens, time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
