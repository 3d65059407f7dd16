"""What serving costs: many clients over one, HTTP over the same loop in process, opt-outs and attributions meanwhile.

A LLaMA of about twenty million parameters with random weights and a store of Python's own manual, served on this
machine as `silo serve` does it: the LM has a process of its own. All figures are ratios of runs that take turns.

- ``clients8_ratio``: tokens per second of eight clients over those of one
- ``p95_ttft_ratio``: 95th percentile of the time to the first token with eight clients over the median with one
- ``optout_throughput_ratio``: tokens per second of eight clients with an opt-out every second over those without
- ``http_over_inprocess``: tokens per second of one stream over those of the decode loop alone
- ``attributions_ratio``: tokens per second of eight clients with attributions over those without, which are sampled
  from a part of the mixture at a time where nothing else is asked for
- ``attributions_over_logprobs``: tokens per second of eight clients with attributions over those with log-probabilities

    python tests/benchmarks/bench_serve.py
"""

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from pydoc_data.topics import topics

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
sys.path.insert(0, str(Path(__file__).parent))

import httpx2
import numpy as np
import torch
from speed_lm import make_store
from transformers import LlamaConfig, LlamaForCausalLM

from serving import create_app
from serving.engines import remote_engine
from serving.server import listen, port_of
from silo.documents import Document
from silo.generation import Silo
from silo.lm import LanguageModel
from silo.settings import DEFAULT_MAX_VERBATIM, GenerationSettings, KnnSettings
from training.vocabulary import train_vocabulary

N_CLIENTS = 8
KNN = {"k": 32, "weight": 0.5}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--documents", type=int, default=60)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    sys.setswitchinterval(0.0005)
    pages = [Document(name, text, "PSF-2.0") for name, text in sorted(topics.items())]
    prompts = [page.text[:80] for page in pages]
    lm = make_lm([page.text for page in pages])
    with tempfile.TemporaryDirectory() as folder:
        stored, licensed = pages[: options.documents], pages[options.documents : 2 * options.documents]
        silo = Silo(lm, make_store(Path(folder) / "store", lm, stored, licensed))
        lm.model.save_pretrained(Path(folder) / lm.name)
        lm.tokenizer.save_pretrained(Path(folder) / lm.name)
        os.environ["OMP_NUM_THREADS"] = str(options.threads)
        engine, _ = remote_engine(str(Path(folder) / lm.name), silo.datastore.path, "cpu", DEFAULT_MAX_VERBATIM)
        server = listen(create_app(engine), "127.0.0.1", 0)
        threading.Thread(target=server.run, daemon=True).start()
        bench = Bench(f"http://127.0.0.1:{port_of(server)}", prompts, options.tokens)
        bench.run(1)
        bench.run(N_CLIENTS)
        names = ("one", "many", "attributed", "scored", "opted_out", "in_process")
        rates: dict[str, list[float]] = {name: [] for name in names}
        first: dict[str, list[float]] = {"one": [], "many": []}
        removed = iter([document.facts.id for document in silo.datastore.documents()])
        for _ in range(options.rounds):
            for name, n in (("one", 1), ("many", N_CLIENTS)):
                rate, waits = bench.run(n)
                rates[name].append(rate)
                first[name] += waits
            rates["attributed"].append(bench.run(N_CLIENTS, attributions=True)[0])
            rates["scored"].append(bench.run(N_CLIENTS, logprobs=0)[0])
            with opting_out(bench, removed):
                rates["opted_out"].append(bench.run(N_CLIENTS)[0])
            rates["in_process"].append(in_process(silo, prompts, options.tokens))
        engine.close()
        engine.makers.join(10)
    total = {name: float(np.median(values)) for name, values in rates.items()}
    figures = {
        "clients8_ratio": total["many"] / total["one"],
        "p95_ttft_ratio": float(np.percentile(first["many"], 95) / np.median(first["one"])),
        "optout_throughput_ratio": total["opted_out"] / total["many"],
        "http_over_inprocess": total["one"] / total["in_process"],
        "attributions_ratio": total["attributed"] / total["many"],
        "attributions_over_logprobs": total["attributed"] / total["scored"],
        "tokens_per_second_one": total["one"],
        "tokens_per_second_eight": total["many"],
        "ttft_one_ms": 1000 * float(np.median(first["one"])),
        "n_failed": bench.n_failed,
        "n_parameters": sum(p.numel() for p in lm.model.parameters()),
        "threads": options.threads,
    }
    print(json.dumps({k: round(v, 3) if isinstance(v, float) else v for k, v in figures.items()}))
    return 0


class Bench:
    """Clients that stream."""

    def __init__(self, url: str, prompts: list[str], n_tokens: int) -> None:
        self.url, self._prompts, self._n_tokens = url, prompts, n_tokens
        self.n_failed = 0

    def run(self, n_clients: int, **more: object) -> tuple[float, list[float]]:
        """Tokens per second of all clients, and their times to the first token; each asks twice."""
        started = time.perf_counter()
        with ThreadPoolExecutor(n_clients) as pool:
            done = list(pool.map(lambda i: self._ask(i, **more), range(2 * n_clients)))
        seconds = time.perf_counter() - started
        return sum(n for n, _ in done) / seconds, [wait for _, wait in done]

    def _ask(self, i: int, **more: object) -> tuple[int, float]:
        asked = {"prompt": self._prompts[i], "max_tokens": self._n_tokens, "temperature": 1, "seed": i, "knn": KNN}
        n, first = 0, 0.0
        started = time.perf_counter()
        with httpx2.stream(
            "POST", f"{self.url}/v1/completions", json=asked | {"stream": True} | more, timeout=120
        ) as r:
            for line in r.iter_lines():
                if line.startswith("data: {"):
                    first = first or time.perf_counter() - started
                    n += 1
                    self.n_failed += '"error"' in line
        self.n_failed += r.status_code != 200
        return n - 1, first


class opting_out:  # noqa: N801
    """Takes a document out every second."""

    def __init__(self, bench: Bench, documents) -> None:
        self._bench, self._documents = bench, documents
        self._is_over = threading.Event()

    def __enter__(self) -> None:
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._is_over.wait(1.0):
            answer = httpx2.post(f"{self._bench.url}/v1/optouts", json={"document": next(self._documents)}, timeout=30)
            self._bench.n_failed += answer.status_code != 201


def in_process(silo: Silo, prompts: list[str], n_tokens: int) -> float:
    """Tokens per second of the decode loop alone."""
    n, started = 0, time.perf_counter()
    for i in range(2):
        settings = GenerationSettings(
            max_tokens=n_tokens, temperature=1, seed=i, knn=KnnSettings(**KNN), logprobs=False
        )
        n += sum(1 for _ in silo.generate(prompts[i], settings))
    return n / (time.perf_counter() - started)


def make_lm(texts: list[str]) -> LanguageModel:
    """A LLaMA of the size of the 20M recipe."""
    tokenizer = train_vocabulary(texts, 8192, 512)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=8192,
        hidden_size=384,
        intermediate_size=1024,
        num_hidden_layers=8,
        num_attention_heads=6,
        max_position_embeddings=512,
        tie_word_embeddings=True,
    )
    return LanguageModel(LlamaForCausalLM(config), tokenizer, "bench")


if __name__ == "__main__":
    raise SystemExit(main())
