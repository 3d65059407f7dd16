"""Exercises as a task of EleutherAI's lm-eval: a file of rows, and what a YAML file would say."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from silo.evaluation.items import Item

NAME = "silo_exercises"


def task_of(items: Sequence[Item], folder: Path) -> dict[str, Any]:
    """The task ``NAME`` of ``items``, whose rows are written into ``folder``."""
    rows = folder / "exercises.jsonl"
    fields = ({"text": i.text, "answers": [a.strip() for (a,) in i.answers], "right": i.right} for i in items)
    rows.write_text("".join(json.dumps(row) + "\n" for row in fields))
    return {
        "task": NAME,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(rows)}, "cache_dir": str(folder / "cache")},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{text}}",
        "doc_to_choice": "{{answers}}",
        "doc_to_target": "{{right}}",
    }
