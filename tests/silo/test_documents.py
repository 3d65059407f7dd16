import dataclasses
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silo import documents
from silo.documents import Document, text_digest
from silo.errors import BadDocument


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"id": ""}, "1 to 512 characters"),
        ({"id": "a" * 513}, "1 to 512 characters"),
        ({"id": "a\nb"}, "control characters"),
        ({"text": "half a pair \ud83d"}, "lone surrogate at character 12"),
        ({"owner": "\udc00"}, "owner of document 'a' is not valid Unicode"),
    ],
)
def test_a_document_that_cannot_be_used_is_refused(fields, message):
    with pytest.raises(BadDocument, match=message):
        Document(**{"id": "a", "text": "A text.", **fields})


def test_an_enormous_text_is_refused_with_its_size(monkeypatch):
    monkeypatch.setattr(documents, "MAX_TEXT_BYTES", 10)
    with pytest.raises(BadDocument, match="has 11 bytes of text; the limit is 10"):
        Document("a", "éééééa")


def test_a_document_cannot_be_changed():
    document = Document("a", "A text.", metadata={"year": 1999})
    with pytest.raises(dataclasses.FrozenInstanceError):
        document.text = "Another."  # type: ignore[misc]
    with pytest.raises(TypeError):
        document.metadata["year"] = 2000  # type: ignore[index]


@given(st.text())
def test_composed_accents_and_line_ends_do_not_change_the_digest(text):
    unix = text.replace("\r", "")
    windows = unicodedata.normalize("NFD", unix).replace("\n", "\r\n")
    assert text_digest(windows) == text_digest(unix)


@given(st.text(alphabet="ab \n"), st.text(alphabet="ab \n"))
def test_different_texts_have_different_digests(one, other):
    assert (text_digest(one) == text_digest(other)) == (one == other)
