from pathlib import Path

import pytest

from silo.errors import ReproductionStopped
from silo.reproduction.steps import Step, Steps, content_digest


class Commands:
    """Stands for commands: ``join A B … OUT`` writes the contents of the others into the last."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.status = 0
        self.leaves = True

    def __call__(self, command):
        self.ran.append(command[-1])
        if self.leaves:
            text = "".join(Path(name).read_text() for name in command[1:-1])
            Path(command[-1]).write_text(text)
        return self.status


@pytest.fixture
def commands():
    return Commands()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a").write_text("a")
    return tmp_path


def joining(*reads, makes):
    return Step(f"make {makes.name}", ("join", *map(str, reads), str(makes)), makes, reads)


def play(folder, commands):
    """Two steps, the second of what the first makes; returns what ran."""
    commands.ran.clear()
    said: list[str] = []
    steps = Steps(folder / "steps", commands, said.append)
    steps.step(joining(folder / "a", makes=folder / "b"))
    steps.step(joining(folder / "b", makes=folder / "c"))
    assert any(f"$ join {folder / 'a'} {folder / 'b'}" in line for line in said), "each command is printed"
    assert len(steps.passed_over) + len(steps.seconds) == 2
    return [Path(name).name for name in commands.ran]


def test_a_step_runs_once(folder, commands):
    assert play(folder, commands) == ["b", "c"]
    assert play(folder, commands) == []


def test_another_input_makes_it_run_again_and_only_what_came_out_differently_goes_on(folder, commands):
    play(folder, commands)
    (folder / "a").write_text("A")
    assert play(folder, commands) == ["b", "c"]
    assert (folder / "c").read_text() == "A"
    (folder / "a").touch()
    assert play(folder, commands) == [], "a time is no content"


def test_a_changed_input_with_the_same_outcome_spares_the_steps_after_it(folder, commands):
    first = Step("one", ("join", str(folder / "b")), folder / "b", (folder / "a",))
    second = joining(folder / "b", makes=folder / "c")
    for content, expected in (("a", ["b", "c"]), ("A", ["b"])):
        (folder / "a").write_text(content)
        commands.ran.clear()
        steps = Steps(folder / "steps", commands, lambda text: None)
        steps.step(first)
        steps.step(second)
        assert [Path(name).name for name in commands.ran] == expected


def test_what_was_changed_or_taken_away_is_made_again(folder, commands):
    for spoil in (lambda: (folder / "c").write_text("other"), (folder / "c").unlink):
        play(folder, commands)
        spoil()
        assert play(folder, commands) == ["c"]


def test_another_command_is_another_step(folder, commands):
    play(folder, commands)
    steps = Steps(folder / "steps", commands, lambda text: None)
    steps.step(joining(folder / "a", folder / "a", makes=folder / "b"))
    assert (folder / "b").read_text() == "aa"


@pytest.mark.parametrize(("status", "leaves", "message"), [(3, True, "exit status 3"), (0, False, "stopped with no")])
def test_a_step_that_failed_is_not_taken_for_done(folder, commands, status, leaves, message):
    commands.status, commands.leaves = status, leaves
    with pytest.raises(ReproductionStopped, match=message):
        play(folder, commands)
    commands.status, commands.leaves = 0, True
    assert play(folder, commands) == ["b", "c"]


def test_an_input_that_is_not_there_is_named(folder, commands):
    (folder / "a").unlink()
    with pytest.raises(ReproductionStopped, match=f"reads {folder / 'a'}, which is not there"):
        play(folder, commands)


def test_what_no_step_made_is_never_taken_away(folder, commands):
    (folder / "b").write_text("someone's")
    with pytest.raises(ReproductionStopped, match="no step made it"):
        play(folder, commands)
    assert (folder / "b").read_text() == "someone's" and commands.ran == []


def test_what_an_interrupted_command_left_stays_for_the_same_inputs_alone(folder):
    unfinished = folder / "b.unfinished"
    seen: list[bool] = []

    def interrupted(command):
        seen.append(unfinished.exists())
        unfinished.mkdir(exist_ok=True)
        return 1

    for content in ("a", "a", "A", "A"):
        (folder / "a").write_text(content)
        with pytest.raises(ReproductionStopped):
            Steps(folder / "steps", interrupted, lambda text: None).step(joining(folder / "a", makes=folder / "b"))
    assert seen == [False, True, False, True]


def test_a_torn_note_is_no_note(folder, commands):
    play(folder, commands)
    (folder / "steps" / "b.json").write_text("{")
    (folder / "b").unlink()
    assert play(folder, commands) == ["b"]


def test_the_digest_of_a_folder_is_of_names_and_contents_and_not_of_its_readers(tmp_path):
    folder = tmp_path / "store"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "x").write_text("1")
    first = content_digest(folder)
    (folder / "readers").mkdir()
    (folder / "readers" / "1234").write_text("now")
    (folder / "catalog.sqlite-wal").write_text("now")
    assert content_digest(folder) == first
    (folder / "sub" / "x").rename(folder / "sub" / "y")
    second = content_digest(folder)
    (folder / "sub" / "y").write_text("2")
    assert len({first, second, content_digest(folder)}) == 3
