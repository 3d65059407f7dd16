import sys
from datetime import UTC, datetime

import pytest

from silo.evaluation.recording import record, typed


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["/x/bin/silo", "eval", "ppl"], ["silo", "eval", "ppl"]),
        (["/x/silo/__main__.py", "eval", "ppl"], ["silo", "eval", "ppl"]),
        (["/x/research/quality.py", "a"], ["python", "research/quality.py", "a"]),
    ],
)
def test_what_was_typed_is_named_as_one_types_it(argv, expected):
    assert typed(argv) == expected


def test_a_record_says_what_was_typed(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["silo", "eval", "gap", "a.json"])
    found = record({"command": "eval gap"}, [], seed=3, now=datetime(2026, 1, 1, tzinfo=UTC))
    assert found["argv"] == ["silo", "eval", "gap", "a.json"]
    assert (found["seed"], found["date"]) == (3, "2026-01-01T00:00:00+00:00")
