import json

import pytest
import typer
from typer.testing import CliRunner

from silo.corpora import write_documents
from silo.documents import Document
from silo.evaluation.commands import _named, ppl


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("low/pd_books/validation.jsonl.gz", ("pd_books", "low/pd_books/validation.jsonl.gz")),
        ("texts/news.jsonl", ("news", "texts/news.jsonl")),
        ("mail=a/b.jsonl", ("mail", "a/b.jsonl")),
        ("folder", ("folder", "folder")),
    ],
)
def test_a_domain_is_named_by_its_file_or_by_the_folder_of_its_split(location, expected):
    assert _named(location) == expected


def test_models_are_compared_by_domain(llama, tmp_path):
    checkpoint = tmp_path / "model"
    llama.model.save_pretrained(checkpoint)
    llama.tokenizer.save_pretrained(checkpoint)
    for name in ("mail", "news"):
        write_documents(tmp_path / f"{name}.jsonl", [Document(f"{name}/{i}", f"Some {name}. " * 9) for i in range(3)])
    locations = [str(tmp_path / "mail.jsonl"), str(tmp_path / "news.jsonl")]
    out = tmp_path / "figures.jsonl"
    app = typer.Typer()
    app.command()(ppl)
    result = CliRunner().invoke(app, [*locations, "--model", str(checkpoint), "--out", str(out)])
    assert result.exit_code == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["domain"] for row in rows] == ["mail", "news"]
    for row in rows:
        assert row["n_documents"] == 3
        assert f"{row['bits_per_byte']:.3f}" in result.output
