"""Training speed with freed memory kept in the process over the same steps without, in turns, each in its own process.

The demo recipe's model and batches on random tokens, for a fixed number of steps. `parity`: all runs end with the
same weights.

    python tests/benchmarks/bench_train.py
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from statistics import median

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch

from training.batches import Batches
from training.commands import RECIPES
from training.config import read_recipe
from training.loop import build_model, fit
from training.memory import keep_freed_memory


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--child", choices=["kept", "plain"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(train(options.child == "kept", options.steps, options.threads)))
        return 0
    runs: dict[str, list[dict]] = {"kept": [], "plain": []}
    for _ in range(options.pairs):
        for name, done in runs.items():
            command = [sys.executable, __file__, "--child", name]
            command += ["--steps", str(options.steps), "--threads", str(options.threads)]
            done.append(json.loads(subprocess.run(command, check=True, capture_output=True).stdout.splitlines()[-1]))
    speeds = {name: [run["tokens_per_second"] for run in done] for name, done in runs.items()}
    ratios = [kept / plain for kept, plain in zip(speeds["kept"], speeds["plain"], strict=True)]
    parity = len({run["weights"] for done in runs.values() for run in done}) == 1
    line = {"name": "train", "ratio": round(median(ratios), 3), "ratios": [round(r, 3) for r in ratios]}
    line |= {"tokens_per_second": speeds, "threads": options.threads, "steps": options.steps, "parity": parity}
    print(json.dumps(line))
    return 0 if parity else 1


def train(is_kept: bool, n_steps: int, threads: int) -> dict[str, object]:
    """Tokens a second and a digest of the weights after ``n_steps``."""
    if is_kept and not keep_freed_memory():
        raise SystemExit("this C library has no mallopt: there is nothing to measure")
    torch.set_num_threads(threads)
    recipe = read_recipe(RECIPES / "demo.toml")
    loop = replace(recipe.loop, minutes=None, tokens=n_steps * recipe.tokens_per_step, checkpoint_seconds=1e9)
    recipe = replace(recipe, loop=loop)
    size = recipe.vocabulary.size
    tokens = np.random.default_rng(0).integers(0, size, 200_000).astype(np.uint16)
    batches = Batches(tokens, recipe.model.context, loop.batch_size, loop.seed)
    model = build_model(recipe.model, size, 0, loop.seed)
    nothing = np.empty((0, recipe.model.context + 1), np.int64)
    with tempfile.TemporaryDirectory() as folder:
        outcome = fit(model, batches, nothing, recipe, Path(folder) / "state", device="cpu", report=lambda _: None)
    digest = hashlib.sha256()
    for _, parameter in sorted(model.named_parameters()):
        digest.update(parameter.detach().numpy().tobytes())
    return {"tokens_per_second": round(outcome.n_tokens / outcome.seconds), "weights": digest.hexdigest()}


if __name__ == "__main__":
    sys.exit(main())
