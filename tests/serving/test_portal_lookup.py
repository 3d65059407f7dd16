"""Is my text in it? By the text, by a file, by the first digits of its hash."""

from dataclasses import replace

import numpy as np
import pytest

from datastore.optout import opt_out
from datastore.records import EncodedDocument
from serving import create_app
from serving.portal import Portal
from serving.portal_lookup import matches, with_digest
from silo.documents import text_digest
from tests.serving.portal_visitor import Visitor, owned

STORY = "The quick brown fox jumps over the lazy dog while two old cats watch it from a warm roof near the river."


@pytest.fixture
def store(make_store, documents):
    """``doc-0`` is the story, ``doc-1`` begins with it, the others have nothing of it; digests are true."""
    texts = [STORY, f"{STORY} And then it rained, and everybody in the whole village went home again."]
    changed = [replace(d, text=text) for d, text in zip(documents, texts, strict=False)] + documents[2:]
    covered = [replace(d, sentences=spans_of(d)) for d in changed]
    return make_store([owned(d, digest=text_digest(d.text), title=f"Title of {d.facts.id}") for d in covered])


def spans_of(document: EncodedDocument) -> np.ndarray:
    """As many sentences as the document has, over all of its text."""
    spans = document.sentences.clip(0, len(document.text))
    spans[-1, 1] = len(document.text)
    return spans


@pytest.fixture
def portal(store) -> Portal:
    return Portal(store)


@pytest.fixture
def visitor(engine, portal) -> Visitor:
    return Visitor(create_app(engine, portal=portal))


def test_a_text_is_found_as_itself_and_inside_another(store):
    found = matches(store, STORY)
    assert [(match.document.facts.id, match.is_same) for match in found] == [("doc-0", True), ("doc-1", False)]
    assert found[1].containment >= 0.8  # an estimate from five fingerprints: one of them depends on what comes after


def test_pasting_and_uploading_find_the_same(visitor):
    visitor.go("/owners")
    pasted = visitor.submit("/owners", text=STORY)
    assert "2 documents with your text" in pasted
    assert "the very text" in pasted
    assert "Title of doc-1" in pasted
    visitor.go("/owners")
    uploaded = visitor.submit("/owners", file=STORY.replace(". ", ".\r\n").encode())
    assert "2 documents" in uploaded or "One document" in uploaded


def test_what_is_found_shows_no_more_of_the_stored_text_than_was_sent(visitor):
    visitor.go("/owners")
    assert "everybody in the whole village" not in visitor.submit("/owners", text=STORY)


def test_a_text_that_is_not_here_is_not_found(visitor):
    visitor.go("/owners")
    page = visitor.submit("/owners", text="Nobody ever put this text of more than eight words into it.")
    assert (visitor.status, "Nothing here has your text" in page, "fewer than 8 words" in page) == (200, True, False)
    visitor.go("/owners")
    assert "fewer than 8 words" in visitor.submit("/owners", text="Too short")


@pytest.mark.parametrize("text", ["", "   ", "…!?"])
def test_a_text_without_words_is_asked_for_again(visitor, text):
    visitor.go("/owners")
    visitor.submit("/owners", text=text)
    assert visitor.status == 422


@pytest.mark.parametrize(
    ("sent", "status"), [(b"\xff\xfe\x00", 400), (b"x " * 250_001, 413), (b"\xef\xbb\xbf" + STORY.encode(), 200)]
)
def test_files_are_text_of_a_length(visitor, sent, status):
    visitor.go("/owners")
    visitor.submit("/owners", file=sent)
    assert visitor.status == status


def test_a_text_that_left_is_told_to_who_brings_all_of_it(visitor, store, now):
    opt_out(store, "doc-0", now=now)
    visitor.go("/owners")
    page = visitor.submit("/owners", text=STORY)
    assert "out: no answer uses it" in page
    assert "Title of doc-0" not in page
    assert "Title of doc-1" in page
    opt_out(store, "doc-1", now=now)
    visitor.go("/owners")
    assert "doc-1" not in visitor.submit("/owners", text=STORY)


def test_a_prefix_finds_every_digest_that_begins_so_and_no_other(store):
    digests = {one.facts.digest: one.facts.id for one in store.documents()}
    for digest, id_ in digests.items():
        for length in (4, 5, 16, 64):
            found = [one.facts.id for one in with_digest(store, digest[:length])]
            assert id_ in found
            assert set(found) == {other for d, other in digests.items() if d.startswith(digest[:length])}


def test_the_last_prefix_has_no_end(make_store, documents):
    store = make_store([replace(documents[0], facts=replace(documents[0].facts, digest="f" * 64)), documents[1]])
    assert [one.facts.id for one in with_digest(store, "ffff")] == ["doc-0"]


def test_the_prefix_answers_as_a_page_and_as_json(visitor):
    digest = text_digest(STORY)
    page = visitor.go(f"/owners/digests?prefix={digest[:5].upper()}")
    assert digest in page
    answer = visitor.web.get(f"/owners/digests.json?prefix={digest[:5]}").json
    assert {"digest": digest, "document": "doc-0", "state": "live"} in answer["digests"]
    assert visitor.web.get("/owners/digests.json?prefix=00000").json == {"prefix": "00000", "digests": []}


@pytest.mark.parametrize("prefix", ["", "abc", "0" * 17, "xyzw", "%27;--", "ａｂｃｄ", "٣٣٣٣"])
def test_a_prefix_is_4_to_16_hex_digits(visitor, prefix):
    for path in ("/owners/digests", "/owners/digests.json"):
        visitor.go(f"{path}?prefix={prefix}")
        assert visitor.status == 400


@pytest.mark.parametrize("id_", ["", "no such", "doc-0'", "%00", "%ff", "x" * 5000])
def test_an_unknown_document_is_not_found(visitor, id_):
    visitor.go(f"/owners/document?id={id_}")
    assert visitor.status == 404


def test_only_so_many_look_ups_run_at_once(visitor, portal):
    visitor.go("/owners")
    page = visitor.page
    while portal.lookups.acquire(blocking=False):
        pass
    visitor.submit("/owners", text=STORY)
    assert visitor.status == 429
    portal.lookups.release()
    visitor.page = page
    visitor.submit("/owners", text=STORY)
    assert visitor.status == 200


def test_a_look_up_that_fails_makes_room_for_the_next(visitor, portal, monkeypatch):
    def fail(*_):
        raise RuntimeError

    for _ in range(3):
        with monkeypatch.context() as patch:
            patch.setattr("serving.portal_lookup.find_copies", fail)
            visitor.go("/owners")
            visitor.submit("/owners", text=STORY)
            assert visitor.status == 500
    visitor.go("/owners")
    visitor.submit("/owners", text=STORY)
    assert visitor.status == 200
