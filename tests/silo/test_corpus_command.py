import pytest
import typer
from typer.testing import CliRunner

from silo.corpora import read_documents, write_documents
from silo.corpus_command import info, source_table, sources
from silo.declarations import declarations
from silo.documents import Document
from silo.errors import BadDeclaration

app = typer.Typer()
app.command()(info)


def test_the_table_counts_by_source_license_and_class(tmp_path):
    path = tmp_path / "texts.jsonl"
    write_documents(path, [Document("a", "é", "MIT", "code"), Document("b", "x", "MIT", "code"), Document("c", "xyz")])
    result = CliRunner().invoke(app, [str(path)], env={"COLUMNS": "160"}, catch_exceptions=False)
    assert result.exit_code == 0
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in result.output.splitlines() if "│" in line]
    assert rows == [
        ["–", "–", "HIGH_RISK", "1", "3", "no license is stated"],
        ["code", "MIT", "SW", "2", "3", "permissive, notice only"],
        ["all", "", "", "3", "6", ""],
    ]


def test_out_writes_the_documents_normalized(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.txt").write_text("A text.")
    out = tmp_path / "out.jsonl.gz"
    options = ["--license", "MIT", "--source", "notes", "--owner", "Us", "--out", str(out)]
    result = CliRunner().invoke(app, [str(tmp_path / "folder"), *options], catch_exceptions=False)
    assert result.exit_code == 0
    assert list(read_documents(out)) == [Document("a.txt", "A text.", "MIT", "notes", owner="Us")]


OURS = """
[[source]]
name = "notes"
loader = "jsonl"
location = "notes.jsonl"
domain = "notes"
expected = "SW"
license = "MIT"
evidence = "We wrote them."
attribution = "Us"
"""


@pytest.fixture
def data(tmp_path):
    (tmp_path / "sources").mkdir()
    (tmp_path / "sources" / "ours.toml").write_text(OURS)
    write_documents(tmp_path / "notes.jsonl", [Document(str(n), "A note.") for n in range(5)])
    return tmp_path


def test_a_declared_source_is_counted_with_its_evidence(data):
    options = ["--declared", "ours/notes", "--data", str(data), "--limit", "3"]
    result = CliRunner().invoke(app, options, env={"COLUMNS": "160"}, catch_exceptions=False)
    assert result.exit_code == 0
    assert "ours/notes: We wrote them." in result.output
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in result.output.splitlines() if "│" in line]
    assert rows[0] == ["ours/notes", "MIT", "SW", "3", "21", "permissive, notice only"]


def test_nothing_to_count_is_an_error_that_says_what_to_give():
    result = CliRunner().invoke(app, [])
    assert result.exit_code == 2
    assert "--declared" in result.output


listing = typer.Typer()
listing.command()(sources)


def test_sources_are_listed_with_license_class_and_evidence(data):
    options = ["ours", "olc/pd_law", "--data", str(data)]
    result = CliRunner().invoke(listing, options, env={"COLUMNS": "200"}, catch_exceptions=False)
    assert result.exit_code == 0
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in result.output.splitlines() if "│" in line]
    assert ["ours/notes", "notes", "MIT", "SW", "We wrote them."] in rows
    assert "government edicts" in result.output and "pd_books" not in result.output


def test_a_source_that_nobody_declared_is_an_error(data):
    with pytest.raises(BadDeclaration, match="no collection of the source 'theirs'"):
        CliRunner().invoke(listing, ["ours", "theirs", "--data", str(data)], catch_exceptions=False)


def test_the_table_marks_what_is_never_read_and_what_our_table_sees_otherwise(data):
    (data / "sources" / "ours.toml").write_text(OURS.replace('"MIT"', '"GPL-3.0-only"'))
    table = source_table(d for d in declarations(data / "sources") if d.name in ("olc/sw_hackernews", "ours/notes"))
    assert list(table.columns[3].cells) == ["never read", "HIGH_RISK (expected SW)"]
