"""The card of a model: what it is, what trained it, how well it learned, and what it is not for.

Facts of the manifest and of the recipe in it, as a page that model hubs read: YAML on top, then Markdown. Knows no
model and measures nothing. What went into the model, document by document, is the data card's to say.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from silo.checkpoint import Manifest
from silo.datacard import PAGE_NAME as DATA_CARD
from silo.files import new_file

FILE_NAME = "README.md"


def write_model_card(folder: Path, manifest: Manifest, n_parameters: int) -> None:
    """Write the card into a checkpoint's ``folder``."""
    with new_file(folder / FILE_NAME) as stream:
        stream.write(model_card(manifest, n_parameters).encode("utf-8"))


def model_card(manifest: Manifest, n_parameters: int) -> str:
    """The page."""
    recipe: Mapping[str, Any] = manifest.recipe
    baseline = recipe["admission"]["baseline"]
    head = {
        "language": "en",
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "license": "other" if baseline else "apache-2.0",
        "tags": ["silo", "baseline" if baseline else "permissively-licensed-training-data"],
    }
    yaml = "\n".join(f"{name}: {json.dumps(value)}" for name, value in head.items())
    sections = {
        f"# {recipe['name']}": _purpose(baseline, recipe["admission"]["classes"]),
        "## Shape": _table(_shape(recipe, n_parameters)),
        "## Training": _table(_training(manifest, recipe)),
        "## Loss": _table(_losses(manifest)),
        "## Limits": _limits(n_parameters),
    }
    return f"---\n{yaml}\n---\n" + "".join(f"\n{title}\n\n{body}\n" for title, body in sections.items())


def _purpose(baseline: str, classes: list[str]) -> str:
    if baseline:
        return (
            f"**A baseline, to be measured and never distributed or served.** It trained on high-risk text too: "
            f"{baseline}."
        )
    return (
        f"A language model that trained on text of the license classes {', '.join(classes)} alone: public domain (PD), "
        f"permissive software licenses (SW), attribution (BY). [{DATA_CARD}]({DATA_CARD}) says which documents, under "
        "which licenses, and what was refused; `silo corpus trace` says of any document whether it was among them."
    )


def _shape(recipe: Mapping[str, Any], n_parameters: int) -> dict[str, str]:
    shape = recipe["model"]
    return {
        "Architecture": "LLaMA, tied embeddings, no biases; a document attends to itself alone",
        "Parameters": f"{n_parameters:,}",
        "Hidden size, layers, heads": f"{shape['hidden_size']}, {shape['n_layers']}, {shape['n_heads']}",
        "Context": f"{shape['context']} tokens",
        "Vocabulary": f"{recipe['vocabulary']['size']:,} tokens, byte-level BPE"
        + (", shared with other models" if recipe["vocabulary"]["checkpoint"] else ""),
    }


def _training(manifest: Manifest, recipe: Mapping[str, Any]) -> dict[str, str]:
    optimizer, loop = recipe["optimizer"], recipe["loop"]
    return {
        "Documents": ", ".join(f"{n:,} {risk}" for risk, n in sorted(manifest.admitted.items())),
        "Tokens seen": f"{manifest.n_tokens:,} in {manifest.n_steps:,} steps",
        "Optimizer": f"{optimizer['kind']}, {optimizer['schedule']}, learning rate {optimizer['learning_rate']:g}",
        "Precision": f"{loop['precision']} products, float32 weights",
        "Seed": str(loop["seed"]),
        "Versions": ", ".join(f"{name} {version}" for name, version in sorted(manifest.versions.items())),
        **{name.replace("_", " ").capitalize(): value for name, value in manifest.notes.items()},
    }


_LOSSES = {
    "train": ("Training, last steps", "nats per token"),
    "validation": ("Validation", "nats per token"),
    "validation_bits_per_byte": ("Validation", "bits per byte"),
}


def _losses(manifest: Manifest) -> dict[str, str]:
    named = [(*_LOSSES[name], loss) for name, loss in manifest.losses.items()]
    return {f"{name}, {unit}": f"{loss:.4f}" for name, unit, loss in named}


def _limits(n_parameters: int) -> str:
    return (
        f"- {n_parameters:,} parameters learn the form of text and few of its facts; do not rely on what it says.\n"
        "- English alone. Old public domain text holds the opinions of its time, and the model repeats them.\n"
        "- That a text may be trained on is what its source states; the data card names the evidence, a court may "
        "decide otherwise."
    )


def _table(rows: Mapping[str, str]) -> str:
    return "| | |\n|---|---|\n" + "\n".join(f"| {name} | {value} |" for name, value in rows.items())
