"""Decoding speed: the kNN-LM and the hybrid over their LM in the same loop, and that loop over transformers' own.

LLaMAs of about 5, 20 and 110 million parameters with random weights (speed does not depend on what they know), a
tokenizer and a store made of Python's own manual, with the inverted lists that `silo datastore build` makes by
default; greedy, batch 1, with attribution, no drafts, prompts that the store does not hold. All take turns, prompt by
prompt, and a ratio is that of the median seconds for a token. `loop_over_generate` is our loop over the LM alone, and
our batch of 32 sequences, over `generate` of transformers for as many tokens. `parity`: with share 0 the loop with the
datastore gives the tokens and log-probabilities of the LM alone, two runs of the hybrid give the same, and our loop
gives the tokens of `generate`, but for near ties.

    python tests/benchmarks/bench_decode.py
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from speed_lm import N_LISTS, make_lm, make_store, pages, run

from silo.generation import Silo
from silo.lm import LanguageModel
from silo.settings import GenerationSettings, KnnSettings, NgramSettings
from silo.tokenizer import tokenize

N_ROWS = 32


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", default="5M,20M,110M")
    parser.add_argument("--model", default="", help="a checkpoint to measure instead")
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--documents", type=int, default=60)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    sizes = ["model"] if options.model else options.sizes.split(",")
    found = {size: measure(size, options) for size in sizes}
    first = found[sizes[0]]
    print(
        json.dumps(
            {
                "name": "decode",
                "ratio": first["ratio"],
                "hybrid_ratio": first["hybrid_ratio"],
                "loop_over_generate": first["loop_over_generate"],
                "batch_over_generate": first["batch_over_generate"],
                "parity": all(size["parity"] for size in found.values()),
                "by_size": found,
                "threads": options.threads,
                "k": options.k,
                "n_lists": N_LISTS,
                "n_probe": KnnSettings.n_probe,
                "prompts": options.prompts,
                "tokens": options.tokens,
                "rows": N_ROWS,
            }
        )
    )
    return 0 if all(size["parity"] for size in found.values()) else 1


def measure(size: str, options: argparse.Namespace) -> dict:
    """All figures of one LM."""
    texts = pages()
    lm = make_lm(texts, size, options.model)
    with tempfile.TemporaryDirectory() as folder:
        stored, asked = texts[: options.documents], texts[options.documents :]
        store = make_store(Path(folder) / "store", lm, stored, asked)
        joined = Silo(lm, store)
        n, knn = options.tokens, KnnSettings(k=options.k, weight=0.5)
        nothing = NgramSettings(weight=0.0)
        settings = {
            "lm": (Silo(lm), GenerationSettings(max_tokens=n)),
            "knn": (joined, GenerationSettings(max_tokens=n, knn=knn, ngram=nothing)),
            "hybrid": (joined, GenerationSettings(max_tokens=n, knn=knn, ngram=NgramSettings(weight=0.25))),
        }
        prompts = [page.text[:80] for page in asked[: options.prompts]]
        silent = GenerationSettings(max_tokens=n, knn=KnnSettings(weight=0.0), ngram=nothing)
        parity = all(run(*_at(settings["lm"], p))[0] == run(joined, p, silent)[0] for p in prompts[:2])
        parity = parity and run(*_at(settings["hybrid"], prompts[0]))[0] == run(*_at(settings["hybrid"], prompts[0]))[0]
        seconds: dict[str, list[float]] = {name: [] for name in [*settings, "loop", "generate", "batch", "generate 32"]}
        n_same = 0
        for prompt in prompts:
            for name, (silo, chosen) in settings.items():
                seconds[name].append(run(silo, prompt, chosen)[1])
            ids = [lm.opening, *tokenize(lm.tokenizer, prompt).ids.tolist()]
            ours = _timed(seconds["loop"], n, lambda ids=ids: loop(lm, ids, n))
            theirs = _timed(seconds["generate"], n, lambda ids=ids: generate(lm, [ids], n)[0])
            n_same += ours == theirs
        for prompt in prompts[: max(2, options.prompts // 3)]:
            ids = [lm.opening, *tokenize(lm.tokenizer, prompt).ids.tolist()]
            _timed(seconds["batch"], n * N_ROWS, lambda ids=ids: batch(lm, [ids] * N_ROWS, n))
            _timed(seconds["generate 32"], n * N_ROWS, lambda ids=ids: generate(lm, [ids] * N_ROWS, n))
        per_token = {name: median(values) for name, values in seconds.items()}
        return {
            "ratio": round(per_token["lm"] / per_token["knn"], 4),
            "hybrid_ratio": round(per_token["lm"] / per_token["hybrid"], 4),
            "loop_over_generate": round(per_token["generate"] / per_token["loop"], 4),
            "batch_over_generate": round(per_token["generate 32"] / per_token["batch"], 4),
            "tokens_per_second": {name: round(1 / value, 1) for name, value in per_token.items()},
            "parameters": sum(p.numel() for p in lm.model.parameters()),
            "entries": store.n_entries,
            "same_as_generate": n_same,
            "parity": parity and n_same >= len(prompts) - 1,
        }


def loop(lm: LanguageModel, ids: list[int], n: int) -> list[int]:
    """``n`` greedy tokens by our loop."""
    decoder, read, made = lm.decoder(len(ids) + n), ids, []
    for _ in range(n):
        read = [int(decoder.read(read).logprobs.argmax())]
        made += read
    return made


def batch(lm: LanguageModel, rows: list[list[int]], n: int) -> None:
    """``n`` greedy tokens for each of ``rows`` by our batch."""
    decoder = lm.batch_decoder(len(rows), len(rows[0]) + n)
    last = {slot: int(reading.logprobs.argmax()) for slot, reading in decoder.join(rows)}
    for _ in range(n - 1):
        last = {slot: int(reading.logprobs.argmax()) for slot, reading in decoder.step(last).items()}


def generate(lm: LanguageModel, rows: list[list[int]], n: int) -> list[list[int]]:
    """``n`` greedy tokens for each of ``rows`` by transformers."""
    ids = torch.tensor(rows)
    with torch.inference_mode():
        out = lm.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=n,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=lm.boundary,
        )
    return out[:, ids.shape[1] :].tolist()


def _at(asked: tuple[Silo, GenerationSettings], prompt: str) -> tuple[Silo, str, GenerationSettings]:
    return asked[0], prompt, asked[1]


def _timed(into: list[float], n: int, work: Callable[[], list]) -> list:
    started = time.perf_counter()
    found = work()
    into.append((time.perf_counter() - started) / n)
    return found


if __name__ == "__main__":
    sys.exit(main())
