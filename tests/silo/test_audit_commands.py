"""`silo corpus card`, `overlap` and `trace`, as a user types them."""

import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from silo.checkpoint import (
    HELD_OUT_NAME,
    REFUSED_NAME,
    TRAINED_ON_NAME,
    Manifest,
    TrainingDocument,
    write_manifest,
    write_training_documents,
)
from silo.cli import main
from silo.corpora import write_documents
from silo.datacard import PAGE_NAME, write_card
from silo.documents import Document
from silo.jsonl import write_jsonl

TRAINED = Document("a", "The bridge was built by the town.", "MIT", "code")
HELD_OUT = Document("h", "Held out.", "MIT")


@pytest.fixture
def silo(monkeypatch, capsys):
    """Runs ``silo corpus`` with arguments; returns its status, what it printed, and what it complained of."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    points = [EntryPoint(*item, "silo.commands") for item in project["entry-points"]["silo.commands"].items()]
    monkeypatch.setattr("silo.cli.entry_points", lambda group: points)
    monkeypatch.setenv("COLUMNS", "160")

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["silo", "corpus", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            main()
        return (left.value.code or 0, *capsys.readouterr())

    return run


@pytest.fixture
def checkpoint(tmp_path):
    from datetime import date

    folder = tmp_path / "checkpoint"
    folder.mkdir()
    write_training_documents(folder / TRAINED_ON_NAME, [TrainingDocument.of(TRAINED)])
    write_training_documents(folder / HELD_OUT_NAME, [TrainingDocument.of(HELD_OUT)])
    write_jsonl(folder / REFUSED_NAME, [])
    write_card(folder, "tiny", {}, {}, date(2026, 1, 2))
    write_manifest(folder, Manifest({}, {}, {}, 1, 0, 0, {}, {}))
    return folder


@pytest.mark.parametrize(
    ("text", "status", "answer"),
    [
        (TRAINED.text, 0, "trained it"),
        (HELD_OUT.text, 1, "did not train it; was held out for validation"),
        ("Another text.", 1, "did not train it"),
    ],
)
def test_trace_answers_for_a_text_file_in_words_and_status(silo, checkpoint, tmp_path, text, status, answer):
    path = tmp_path / "text.txt"
    path.write_text(text + "\n")
    found = silo("trace", checkpoint, path)
    assert (found[0], found[1].splitlines()[0]) == (status, f"text.txt: {answer}")


def test_trace_answers_for_an_id_a_digest_and_each_document_of_a_corpus(silo, checkpoint, tmp_path):
    assert silo("trace", checkpoint, "a")[0] == silo("trace", checkpoint, TRAINED.digest)[0] == 0
    assert silo("trace", checkpoint, "b")[0] == silo("trace", checkpoint, "0" * 64)[0] == 1
    path = tmp_path / "mine.jsonl"
    write_documents(path, [Document("one", "Mine."), Document("two", TRAINED.text)])
    status, out, _ = silo("trace", checkpoint, path)
    assert (status, out.splitlines()) == (
        0,
        ["one: did not train it", "two: trained it", f"  a, MIT (SW), code, {TRAINED.digest}"],
    )


def test_trace_and_card_answer_nothing_from_a_checkpoint_that_was_changed(silo, checkpoint):
    (checkpoint / PAGE_NAME).write_text("Nothing went in.")
    for arguments in (("trace", checkpoint, "a"), ("card", checkpoint)):
        status, out, error = silo(*arguments)
        assert (status, out) == (2, "")
        assert "data-card.md has SHA-256" in error


def test_card_prints_the_page(silo, checkpoint):
    assert silo("card", checkpoint)[:2] == (0, (checkpoint / PAGE_NAME).read_text(encoding="utf-8"))


def test_overlap_prints_a_row_for_each_evaluation(silo, tmp_path):
    names = [f"w{n}" for n in range(40)]
    write_documents(tmp_path / "train.jsonl", [Document("t", " ".join(names[:30]))])
    write_documents(tmp_path / "eval.jsonl", [Document("e", " ".join(names))])
    write_documents(tmp_path / "clean.jsonl", [Document("c", " ".join(reversed(names)))])
    held = ("--eval", tmp_path / "eval.jsonl", "--eval", tmp_path / "clean.jsonl")
    status, out, _ = silo("overlap", "--train", tmp_path / "train.jsonl", *held)
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if line.startswith("│")]
    assert status == 0
    assert [row[1:] for row in rows] == [["28", "64.286%", "64.286%"], ["28", "0.000%", "0.000%"]]
