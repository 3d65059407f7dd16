import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console

from silo import demo as demo_module
from silo import demo_corpus, packaged
from silo.corpora import write_documents
from silo.demo import HIGH_RISK, LICENSED, Demo, clear, run_command, run_demo, sources, top_source
from silo.documents import Document
from silo.errors import DemoStopped
from silo.packaged import FITTED

STEPS = ["silo.demo_corpus", "corpus", "train", "build", "generate", "optout", "generate", "verify", "compact"]


def answer(shares: dict[str, float], n_tokens: int = 2) -> dict[str, object]:
    token = {"sources": [{"document": d, "sentence": 0, "mass": mass} for d, mass in shares.items()]}
    return {"text": "text", "tokens": [token] * n_tokens}


class FakeCommands:
    """Stands for the commands: each leaves the file that the real one leaves; documents leave on optout."""

    def __init__(self, demo: Demo) -> None:
        self.demo = demo
        self.documents = {"bbc:b": 0.5, "bbc:a": 0.3, "ansible:c": 0.1}
        self.names: list[str] = []
        self.failing = ""
        self.forgets = True

    def __call__(self, command: Sequence[str]) -> int:
        name = command[2] if command[1] in ("datastore", "-m") else command[1]
        self.names.append(name)
        if name == self.failing:
            return 3
        if name == "silo.demo_corpus":
            path = self.demo.folder / "corpus.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("[]")
        elif name == "train":
            self.leave(Path(self.demo.model) / "silo-manifest.json")
        elif name == "build":
            self.leave(self.demo.store / "manifest.json")
        elif name == "generate":
            Path(command[command.index("--json") + 1]).write_text(json.dumps(answer(self.documents)))
        elif name == "optout" and self.forgets:
            del self.documents[command[2]]
        return 0

    def leave(self, path: Path) -> None:
        path.parent.mkdir(parents=True)
        path.write_text("{}")


@pytest.fixture
def plan(tmp_path: Path) -> Demo:
    return Demo(tmp_path / "demo", str(tmp_path / "demo" / "model"), "The news")


def play(plan: Demo, commands: FakeCommands) -> str:
    commands.names.clear()
    console = Console(file=io.StringIO(), width=100)
    try:
        run_demo(plan, commands, console)
    finally:
        output = console.file.getvalue()  # type: ignore[attr-defined]
    return output


def test_the_steps_run_in_order_and_the_summary_says_how_to_go_on(plan: Demo) -> None:
    commands = FakeCommands(plan)
    output = play(plan, commands)
    assert commands.names == STEPS
    assert "The largest source is bbc:b, with 50.0% of the answer." in output
    assert "bbc:b has no part in this answer." in output
    for expected in ("silo serve --model", "curl http", "in all", str(plan.store), "Verify the receipt"):
        assert expected in output


def test_a_second_run_keeps_what_is_there_and_opts_out_the_next_source(plan: Demo) -> None:
    commands = FakeCommands(plan)
    play(plan, commands)
    output = play(plan, commands)
    assert commands.names == ["corpus", *STEPS[4:]]
    assert "The largest source is bbc:a" in output
    assert output.count("is there already: nothing to do.") == 3


def test_a_corpus_that_was_damaged_is_written_again(plan: Demo, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = FakeCommands(plan)
    play(plan, commands)
    monkeypatch.setattr(demo_corpus, "is_complete", lambda folder: False)
    play(plan, commands)
    assert commands.names == ["silo.demo_corpus", "corpus", *STEPS[4:]]


@pytest.mark.parametrize("name", STEPS)
def test_a_failing_step_stops_the_demo_and_says_how_to_go_on(plan: Demo, name: str) -> None:
    commands = FakeCommands(plan)
    commands.failing = name
    with pytest.raises(DemoStopped, match="expected exit status 0, got 3") as caught:
        play(plan, commands)
    assert commands.names == STEPS[: STEPS.index(name) + 1]
    assert name in str(caught.value)
    assert "run `silo demo` again" in str(caught.value)


def test_an_interrupted_demo_goes_on_where_it_stopped(plan: Demo) -> None:
    commands = FakeCommands(plan)
    commands.failing = "build"
    with pytest.raises(DemoStopped):
        play(plan, commands)
    commands.failing = ""
    play(plan, commands)
    assert commands.names == ["corpus", *STEPS[3:]]


def test_a_removed_document_that_is_retrieved_stops_the_demo(plan: Demo) -> None:
    commands = FakeCommands(plan)
    commands.forgets = False
    with pytest.raises(DemoStopped, match="bbc:b was opted out and still took part"):
        play(plan, commands)


def test_an_answer_without_sources_has_nothing_to_opt_out(plan: Demo) -> None:
    commands = FakeCommands(plan)
    commands.documents = {}
    with pytest.raises(DemoStopped, match="Try another prompt"):
        play(plan, commands)
    assert commands.names[-1] == "generate"


def test_a_checkpoint_of_the_user_is_not_trained(plan: Demo, tmp_path: Path) -> None:
    theirs = Demo(plan.folder, str(tmp_path / "mine"), "The news", train=False)
    commands = FakeCommands(theirs)
    play(theirs, commands)
    assert "train" not in commands.names


@pytest.mark.parametrize("is_packed", [False, True])
def test_a_packed_checkpoint_needs_no_licensed_text_to_fit_on(plan: Demo, is_packed: bool) -> None:
    if is_packed:
        (Path(plan.model) / FITTED).parent.mkdir(parents=True)
        (Path(plan.model) / FITTED).write_text("{}")
        (Path(plan.model) / "silo-manifest.json").write_text("{}")
    assert ("--licensed" in play(plan, FakeCommands(plan))) != is_packed


@pytest.mark.parametrize("is_packaged", [False, True])
@pytest.mark.parametrize("asked", [{}, {"train": True}, {"model": "mine"}])
def test_the_demo_trains_where_it_is_asked_to_or_nothing_came_with_silo(
    asked: dict, is_packaged: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models" / (packaged.DEFAULT if is_packaged else "")).mkdir(parents=True)
    monkeypatch.setattr(packaged, "FOLDER", tmp_path / "models")
    played: list[Demo] = []
    monkeypatch.setattr(demo_module, "run_demo", lambda plan, *_: played.append(plan))
    demo_module.demo(tmp_path / "demo", **asked)
    own = str(tmp_path / "demo" / "model")
    expected = ("mine", False) if "model" in asked else (packaged.DEFAULT, False)
    if asked.get("train") or (not asked and not is_packaged):
        expected = (own, True)
    assert [(plan.model, plan.train) for plan in played] == [expected]


def test_shares_are_means_over_the_tokens_and_ties_go_to_the_first_name() -> None:
    mixed = {"tokens": [*answer({"b": 0.4}, 1)["tokens"], *answer({"a": 0.4}, 1)["tokens"]]}  # type: ignore[misc]
    assert sources(mixed) == {"b": 0.2, "a": 0.2}
    assert top_source(mixed) == ("a", 0.2)


def test_the_files_that_the_demo_names_are_those_that_the_corpus_writes() -> None:
    assert sorted(LICENSED + HIGH_RISK) == sorted(source.file for source in demo_corpus.SOURCES)


def test_beginning_anew_takes_away_what_the_demo_made_and_nothing_else(plan: Demo) -> None:
    commands = FakeCommands(plan)
    play(plan, commands)
    (plan.folder / "packages").mkdir()
    (plan.folder / "mine.txt").write_text("mine")
    clear(plan.folder)
    assert sorted(path.name for path in plan.folder.iterdir()) == ["mine.txt", "packages"]
    play(plan, commands)
    assert commands.names == STEPS


def test_a_receipt_is_named_after_its_document_without_leaving_the_folder(plan: Demo) -> None:
    assert plan.receipt("../x:1/y").parent == plan.folder / "receipts"


def test_commands_run_with_this_interpreter() -> None:
    assert run_command(["python", "-c", f"import sys; sys.exit(sys.executable != {sys.executable!r})"]) == 0


def test_without_a_prompt_the_demo_asks_for_the_first_story_that_is_not_out(tmp_path: Path) -> None:
    plan = Demo(tmp_path / "demo", str(tmp_path / "demo" / "model"))
    words = [f"word{i}" for i in range(40)]
    stories = [Document("bbc:b", "One " + " ".join(words)), Document("bbc:a", "Two " + " ".join(words))]
    write_documents(plan.folder / HIGH_RISK[0], stories)
    commands = FakeCommands(plan)
    assert "One word0" in play(plan, commands)
    plan.receipt("bbc:b").write_text("{}")
    assert "Two word0" in play(plan, commands)
    plan.receipt("bbc:a").write_text("{}")
    with pytest.raises(DemoStopped, match="--fresh"):
        play(plan, commands)
