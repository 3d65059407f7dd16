"""Branch sampling over sampling from the LM alone: who speaks is drawn first, and nobody else is asked.

At temperature 1, where no log-probabilities are asked; batch 1, the shares that requests get by default, prompts that
the store does not hold; LMs as in ``bench_decode``. All take turns, prompt by prompt, and a ratio is that of the summed
times: single tokens differ in who makes them. `mixture_ratio` is the same with the whole mixture made for each token.
`parity`: the same seed gives the same tokens again.

    python tests/benchmarks/bench_sample.py
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from speed_lm import make_lm, make_store, pages, run

from silo.generation import Silo
from silo.settings import GenerationSettings


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", default="5M,20M,110M")
    parser.add_argument("--model", default="", help="a checkpoint to measure instead")
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--documents", type=int, default=60)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    sizes = ["model"] if options.model else options.sizes.split(",")
    found = {size: measure(size, options) for size in sizes}
    parity = all(size["parity"] for size in found.values())
    settings = {name: getattr(options, name) for name in ("prompts", "tokens", "threads")}
    print(
        json.dumps({"name": "sample", "ratio": found[sizes[0]]["ratio"], "parity": parity, "by_size": found} | settings)
    )
    return 0 if parity else 1


def measure(size: str, options: argparse.Namespace) -> dict:
    """All figures of one LM."""
    texts = pages()
    lm = make_lm(texts, size, options.model)
    with tempfile.TemporaryDirectory() as folder:
        stored, asked = texts[: options.documents], texts[options.documents :]
        joined = Silo(lm, make_store(Path(folder) / "store", lm, stored, asked))
        seconds = {"lm": 0.0, "branch": 0.0, "mixture": 0.0}
        parity = True
        for seed, prompt in enumerate(page.text[:80] for page in asked[: options.prompts]):
            drawn = GenerationSettings(max_tokens=options.tokens, temperature=1.0, seed=seed, logprobs=False)
            whole = GenerationSettings(max_tokens=options.tokens, temperature=1.0, seed=seed)
            made = {"lm": run(Silo(lm), prompt, drawn), "branch": run(joined, prompt, drawn)}
            made["mixture"] = run(joined, prompt, whole)
            again = run(joined, prompt, drawn)[0]
            parity = parity and [token for token, _ in again] == [token for token, _ in made["branch"][0]]
            for name, (_, spent) in made.items():
                seconds[name] += spent
        return {
            "ratio": round(seconds["lm"] / seconds["branch"], 4),
            "mixture_ratio": round(seconds["lm"] / seconds["mixture"], 4),
            "tokens_per_second": {name: round(options.prompts / spent, 1) for name, spent in seconds.items()},
            "parameters": sum(p.numel() for p in lm.model.parameters()),
            "parity": parity,
        }


if __name__ == "__main__":
    sys.exit(main())
