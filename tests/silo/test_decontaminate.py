"""`silo datastore add --decontaminate`: evaluation text stays out of a datastore."""

import pytest

from datastore.store import Datastore
from silo.commands import add
from silo.corpora import write_documents
from silo.documents import Document
from silo.lm import LanguageModel
from silo.shingles import words


@pytest.fixture
def store(build, llama, manual, monkeypatch):
    monkeypatch.setattr(LanguageModel, "load", lambda *_: llama)
    made = build(llama, manual(0, 2, "LicenseRef-test"))
    made.close()
    return made.path


@pytest.mark.parametrize("is_asked", [True, False])
def test_a_document_that_repeats_an_evaluation_is_left_out_where_that_is_asked(
    store, manual, tmp_path, capsys, is_asked
):
    pages = manual(10, 13, "LicenseRef-test")
    write_documents(tmp_path / "new.jsonl", pages)
    held = tmp_path / "held.jsonl"
    write_documents(held, [Document("test/1", " ".join(words(pages[1].text)))])
    options = {"decontaminate": [str(held)]} if is_asked else {}
    add(store, [str(tmp_path / "new.jsonl")], "llama", **options)
    said = capsys.readouterr().out
    assert (f"refused {pages[1].id}: repeats {held}: 100.0% of its runs" in said) == is_asked
    assert f"added {2 if is_asked else 3} documents" in said
    assert Datastore.open(store).document(pages[0].id).facts.title == pages[0].title
