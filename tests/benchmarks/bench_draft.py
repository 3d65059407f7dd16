"""Drafting over the LM alone: where text overlaps the store, and where it does not.

The hybrid with drafts, greedy, at batch 1, over its LM in the same loop; prompts are beginnings of stored chapters of
Python's manual, and beginnings of others. The LM has random weights and so copies no text of its own accord; the shares
given to the datastore (0.9) stand for an LM that agrees with what it reads, and a checkpoint may be named instead. All
take turns, prompt by prompt; ratios are those of the summed times. `parity`: the same tokens with drafts and without.

    python tests/benchmarks/bench_draft.py
"""

import argparse
import json
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from speed_lm import make_lm, make_store, pages, run

from silo.generation import Silo
from silo.settings import GenerationSettings, KnnSettings, NgramSettings


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", default="5M")
    parser.add_argument("--model", default="", help="a checkpoint to measure instead")
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--documents", type=int, default=60)
    parser.add_argument("--share", type=float, default=0.9, help="of the datastore on overlapping text; 0.5 elsewhere")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    texts = pages()
    lm = make_lm(texts, options.size, options.model)
    with tempfile.TemporaryDirectory() as folder:
        stored, asked = texts[: options.documents], texts[options.documents :]
        joined, alone = Silo(lm, make_store(Path(folder) / "store", lm, stored, asked)), Silo(lm)
        found: dict[str, float] = {}
        parity = True
        for name, some, share in (("overlap", stored, options.share), ("offtopic", asked, 0.5)):
            hybrid = GenerationSettings(
                max_tokens=options.tokens,
                knn=KnnSettings(weight=share * 2 / 3),
                ngram=NgramSettings(weight=share / 3),
            )
            drafted = replace(hybrid, draft=True)
            seconds = {"lm": 0.0, "hybrid": 0.0, "drafted": 0.0}
            for prompt in [page.text[:80] for page in some[: options.prompts]]:
                seconds["lm"] += run(alone, prompt, hybrid)[1]
                without, spent = run(joined, prompt, hybrid)
                seconds["hybrid"] += spent
                with_drafts, spent = run(joined, prompt, drafted)
                seconds["drafted"] += spent
                parity = parity and [token for token, _ in without] == [token for token, _ in with_drafts]
            found[f"{name}_ratio"] = round(seconds["lm"] / seconds["drafted"], 4)
            found[f"{name}_over_undrafted"] = round(seconds["hybrid"] / seconds["drafted"], 4)
            found[f"{name}_tokens_per_second"] = round(options.prompts / seconds["drafted"], 1)
        print(
            json.dumps(
                {
                    "name": "draft",
                    **found,
                    "parity": parity,
                    "parameters": sum(p.numel() for p in lm.model.parameters()),
                    "share": options.share,
                    "prompts": options.prompts,
                    "tokens": options.tokens,
                    "threads": options.threads,
                }
            )
        )
    return 0 if parity else 1


if __name__ == "__main__":
    sys.exit(main())
