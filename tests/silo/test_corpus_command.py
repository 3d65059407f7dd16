import typer
from typer.testing import CliRunner

from silo.corpora import read_documents, write_documents
from silo.corpus_command import info
from silo.documents import Document

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
