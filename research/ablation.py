"""Which optimizer, shape and vocabulary: small runs at equal compute, compared by validation bits per byte.

    python research/ablation.py ../shared/corpora WORK

Each variant changes some keys of the recipe ``pd-sw-by`` and gets as many tokens as the compute of the base allows:
6 operations per token and parameter, the output matrix included. One seed. Results are added to
``research/results/ablation.jsonl``; a variant that is there already is not run again. All have the tokenizer of the
checkpoint ``vocabulary`` in WORK, which `silo train vocabulary` makes, but for those that change its size.

``research/results/ablation-own-tokenizer.jsonl`` has two variants of an earlier recipe, whose runs trained a
tokenizer each and held their text against no evaluation; each line names the commit that repeats it.
"""

import argparse
import json
import os
import shutil
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from transformers import AutoModelForCausalLM

from silo.files import new_folder
from training.branching import RECIPE_NAME, STATE_NAME, write_recipe
from training.commands import RECIPES
from training.config import parse_recipe, read_recipe, resolved
from training.loop import Progress, build_model
from training.memory import keep_freed_memory
from training.metrics import FILE_NAME as METRICS_NAME
from training.pipeline import UNFINISHED_SUFFIX, train_checkpoint

RESULTS = Path(__file__).parent / "results" / "ablation.jsonl"
BASE_TOKENS = 1_000_000
OF_ONE_RUN = (RECIPE_NAME, STATE_NAME, METRICS_NAME)
"""What variants with the same text and tokenizer do not share."""
VARIANTS: dict[str, dict[str, object]] = {
    "base: adamw 2e-3": {},
    "muon 2e-3": {"optimizer.kind": "muon"},
    "adamw 4e-3": {"optimizer.learning_rate": 4e-3},
    "muon 4e-3": {"optimizer.kind": "muon", "optimizer.learning_rate": 4e-3},
    "adamw 1e-3": {"optimizer.learning_rate": 1e-3},
    "muon 8e-3": {"optimizer.kind": "muon", "optimizer.learning_rate": 8e-3},
    "vocabulary 8192": {"vocabulary.size": 8192, "vocabulary.checkpoint": ""},
    "vocabulary 2048": {"vocabulary.size": 2048, "vocabulary.checkpoint": ""},
    "wide: 320 x 4": {
        "model.hidden_size": 320,
        "model.n_layers": 4,
        "model.n_heads": 5,
        "model.intermediate_size": 864,
    },
    "deep: 192 x 11": {
        "model.hidden_size": 192,
        "model.n_layers": 11,
        "model.n_heads": 3,
        "model.intermediate_size": 512,
    },
    "batch 4": {"loop.batch_size": 4, "loop.validate_steps": 400},
    "batch 16": {"loop.batch_size": 16, "loop.validate_steps": 100},
}


def main() -> None:
    """Run the variants that have no result yet."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=list(VARIANTS), choices=list(VARIANTS), help="names of variants")
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(options.threads)
    done = {json.loads(line)["variant"] for line in RESULTS.read_text().splitlines()} if RESULTS.exists() else set()
    RESULTS.parent.mkdir(exist_ok=True)
    for number, (variant, changes) in enumerate(VARIANTS.items()):
        if variant in options.only and variant not in done:
            line = run(variant, changes, options.data, options.work / f"variant-{number}")
            with RESULTS.open("a") as file:
                file.write(json.dumps(line) + "\n")
            print(json.dumps(line), flush=True)


def run(variant: str, changes: dict[str, object], data: Path, out: Path) -> dict[str, object]:
    """Train one variant and say how good it became."""
    table = resolved(read_recipe(RECIPES / "pd-sw-by.toml"))
    base = n_parameters(table)
    for key, value in changes.items():
        section, name = key.split(".")
        table[section][name] = value
    table["loop"]["tokens"] = round(BASE_TOKENS * base / n_parameters(table))
    recipe = parse_recipe(table)
    unfinished, prepared = out.with_name(out.name + UNFINISHED_SUFFIX), out.with_name("prepared")
    is_shared = "vocabulary.size" not in changes
    if is_shared and prepared.exists() and not unfinished.exists():
        shutil.copytree(prepared, unfinished)
        write_recipe(unfinished, recipe)

    def keep_prepared(_: Progress) -> None:
        if is_shared and not prepared.exists():
            with new_folder(prepared) as folder:
                shutil.copytree(unfinished, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*OF_ONE_RUN))

    manifest = train_checkpoint(recipe, data=data, out=out, report=keep_prepared)
    return {
        "variant": variant,
        "changes": changes,
        "validation_bits_per_byte": round(manifest.losses["validation_bits_per_byte"], 4),
        "n_tokens": manifest.n_tokens,
        "n_parameters": sum(p.numel() for p in AutoModelForCausalLM.from_pretrained(out).parameters()),
        "seconds": float(manifest.notes["training_seconds"]),
        "seed": table["loop"]["seed"],
        "versions": dict(manifest.versions),
    }


def n_parameters(table: dict) -> int:
    """Weights of the model of a recipe; the tied output matrix counts once."""
    recipe = parse_recipe(table)
    model = build_model(recipe.model, recipe.vocabulary.size, 0, 0)
    return sum(parameter.numel() for parameter in model.parameters())


if __name__ == "__main__":
    main()
