"""The README claims what was recorded, and nothing else."""

import re
import shlex
from pathlib import Path

import pytest

from silo.reporting.readme import BEGIN, END, section, unbacked, with_section
from silo.reporting.runs import Run, leaves, read_runs

ROOT = Path(__file__).parents[2]
RECORDED = ["research/results", "silo/models/silo-6m/metrics.jsonl", "silo/models/silo-6m-21m/metrics.jsonl"]


@pytest.fixture
def readme() -> str:
    return (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> tuple[Run, ...]:
    monkeypatch.chdir(ROOT)
    found, others = read_runs(RECORDED)
    assert others == (), "what lies in research/results is a recorded run"
    return found


def test_the_results_in_the_readme_are_what_the_recorded_runs_give(readme: str, runs: tuple[Run, ...]) -> None:
    command = shlex.join(["silo", "report", *RECORDED, "--readme", "README.md"])
    assert readme == with_section(readme, section(runs, command)), f"run `{command}`"


def test_every_measurement_elsewhere_in_the_readme_was_recorded(readme: str, runs: tuple[Run, ...]) -> None:
    assert unbacked(readme, runs) == ()


def test_a_figure_that_was_changed_or_made_up_would_be_found(readme: str, runs: tuple[Run, ...]) -> None:
    inside = readme[readme.index(BEGIN) : readme.index(END)]
    figure = next(row["bits_per_byte"] for run in runs for row in run.rows if "bits_per_byte" in row)
    assert f"{figure:.3f}" in inside
    changed = readme.replace(f"{figure:.3f}", f"{figure + 0.1:.3f}", 1)
    assert changed != with_section(changed, section(runs, "c"))
    assert unbacked(f"{readme}\nIt reaches 0.123 bits per byte.", runs) == ("0.123 bits per byte",)
    assert unbacked(f"{readme}\nIt reaches {figure:.3f} bits per byte.", runs) == ()


def test_a_recorded_run_says_how_it_was_made_and_names_no_place_of_the_machine(runs: tuple[Run, ...]) -> None:
    recorded = [run for run in runs if run.kind.startswith("eval ")]
    wanted = ("ppl", "scaling", "optout", "attribution", "tasks", "extraction", "generation")
    assert {f"eval {name}" for name in wanted} <= {run.kind for run in recorded}
    for run in recorded:
        assert run.missing == () and "argv" in run.facts, run.name
        assert not run.facts["commit"].endswith("+"), run.name
        said = [str(value) for part in (run.config, run.facts, *run.rows) for _, value in leaves(part)]
        assert [text for text in said if text.startswith("/") or "=/" in text] == [], run.name
        assert any(re.fullmatch("[0-9a-f]{64}", text) for text in said), f"{run.name} has no hash of what it read"


def test_each_recorded_run_can_be_made_again_by_a_line_of_the_recipe(runs: tuple[Run, ...]) -> None:
    lines = (ROOT / "research" / "bench.sh").read_text(encoding="utf-8").splitlines()
    typed = [shlex.join(run.facts["argv"]) for run in runs if run.config.get("command", "").startswith("eval ")]
    assert typed and set(typed) <= set(lines)
