import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def likelihood(domain: str, bits: float, **others: Any) -> dict[str, Any]:
    """A row as `silo eval ppl` writes it."""
    return {
        "domain": domain,
        "model": "m",
        "documents": "d" * 64,
        "n_documents": 3,
        "n_tokens": 1000,
        "n_bytes": 3000,
        "nats_per_token": bits * 2,
        "nats_per_token_interval": [bits * 2 - 0.1, bits * 2 + 0.1],
        "perplexity_per_token": 2.0**bits,
        "bits_per_byte": bits,
        "bits_per_byte_interval": [bits - 0.05, bits + 0.05],
    } | others


GAP = {
    "reference": "all",
    "predictor": "gate",
    "domains": [
        {"domain": "mail", "lm": 4.0, "mixed": 3.2, "reference": 3.0, "has_gap": True, "closed": 0.8, "capped": 0.8},
        {"domain": "news", "lm": 3.0, "mixed": 2.9, "reference": 3.1, "has_gap": False, "closed": 1.0, "capped": 1.0},
    ],
    "mean_capped": 0.9,
    "mean_uncapped": 0.8,
    "by_mean_perplexity": 0.85,
    "nats_per_token_ahead_of_all": 0.123,
}
SCALING = [
    likelihood("", bits, n_entries=n, n_store_bytes=n * 70, short_of_k=0.0, choice={"k": 8, "shares": [0.6, 0.4]})
    for n, bits in ((100, 1.9), (1000, 1.7), (10000, 1.5))
]
SLOPE = {
    "slope": {"nats_per_doubling": -0.1204, "interval": [-0.15, -0.0903], "intercept": 4.6},
    "extrapolated": {"n_entries": 100000, "nats_per_token": 2.601},
}
GAIN = {"nats_per_token": 0.25, "interval": [0.125, 0.375]}
CHOICE = {"k": 16, "factor": 0.5, "shares": [0.75, 0.25]}
ROWS: dict[str, list[dict[str, Any]]] = {
    "eval ppl": [
        likelihood(domain, bits, predictor=name, gain_over_lm=GAIN, **({"choice": CHOICE} if name == "knn" else {}))
        for domain, bits in (("mail", 1.5), ("news", 1.25))
        for name, bits in (("lm", bits), ("knn", bits - 0.1234))
    ],
    "eval gap": [GAP],
    "eval scaling": [*SCALING, SLOPE],
    "eval moon": [{"phase": "waxing", "light": 0.4321, "craters": {"n": 1234}}],
}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return tmp_path / "results"


@pytest.fixture
def record_run(results: Path) -> Callable[..., Path]:
    """Writes a recorded run of one command, with rows of its own or those above."""

    def write(command: str, rows: list[dict[str, Any]] | None = None, name: str = "", **facts: Any) -> Path:
        results.mkdir(exist_ok=True)
        path = results / f"{name or command.replace(' ', '-')}.json"
        recorded = {
            "config": {"command": command, "merge": False},
            "commit": "c0ffee" * 6 + "abcd",
            "seed": 7,
            "date": "2026-11-24T12:00:00+00:00",
            "versions": {"python": "3.11.7"},
            "rows": ROWS[command] if rows is None else rows,
        } | facts
        path.write_text(json.dumps(recorded))
        return path

    return write


@pytest.fixture
def rows_of() -> Callable[[str], list[dict[str, Any]]]:
    return lambda command: [dict(row) for row in ROWS[command]]
