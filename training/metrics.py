"""The course of a run in a file: one JSON object a line, for plots and for people.

Knows numbers; knows neither model nor data. A run that is resumed goes on from its checkpoint, so the lines after
it are taken back first, and the file has each step once.
"""

import json
import math
from pathlib import Path
from typing import Any

from silo.files import new_file
from training.loop import Progress

FILE_NAME = "metrics.jsonl"


class Metrics:
    """Writes every ``every``-th step, and each one that validates, to ``path``."""

    def __init__(self, path: Path, tokens_per_step: int, every: int = 10) -> None:
        self._path = path
        self._tokens_per_step = tokens_per_step
        self._every = every
        self._is_begun = False

    def __call__(self, progress: Progress) -> None:
        """Take note of a step."""
        if not self._is_begun:
            self._take_back(progress.step)
            self._is_begun = True
        if progress.step % self._every and progress.validation_loss is None and progress.done < 1:
            return
        row = {
            "step": progress.step,
            "tokens": progress.step * self._tokens_per_step,
            "loss": progress.loss,
            "learning_rate": progress.rate,
            "tokens_per_second": round(progress.tokens_per_second, 1),
            "validation_loss": progress.validation_loss,
        }
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({name: value for name, value in row.items() if _is_known(value)}) + "\n")

    def _take_back(self, step: int) -> None:
        """Leave out what an earlier process wrote of ``step`` and later ones."""
        rows = [row for row in read_metrics(self._path) if row["step"] < step]
        with new_file(self._path) as file:
            file.writelines(json.dumps(row).encode() + b"\n" for row in rows)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of ``path`` in order of their steps; a last line that a kill tore is left out."""
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")[:-1]
    return [json.loads(line) for line in lines]


def _is_known(value: int | float | None) -> bool:
    return value is not None and not math.isnan(value)
