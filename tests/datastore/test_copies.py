"""What an owner is shown of a text: the sentences that copy it, its longest run, and every exact occurrence."""

import difflib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datastore.copies import find_copies
from datastore.passage_optout import remove_passages
from datastore.records import DocumentFacts, EncodedDocument
from datastore.store import Datastore
from datastore.textsearch import MAX_EDGE, MIN_EDGE, MIN_INTERIOR, find_text
from datastore.verbatim import Sought, longest_run

ALPHABET = "abcdefghijklmnopqrstuvwxyz"
WORDS = [f"{a}{b}{c}e" for a in ALPHABET[:12] for b in "aiou" for c in ALPHABET[:14]]


def sentences(seed: int, n: int, n_words: int = 9) -> list[str]:
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(WORDS, n_words)).capitalize() + ". " for _ in range(n)]


def tokenize(text: str) -> list[int]:
    """Pieces of at most three characters, cut anew at every space: a cut text differs at its edge, within one word."""
    ids = []
    for i, word in enumerate(text.split(" ")):
        marked = word if i == 0 else f" {word}"
        ids += [hash_of(marked[a : a + 3]) for a in range(0, len(marked), 3)]
    return ids


def hash_of(piece: str) -> int:
    return int.from_bytes(piece.encode("utf-8"), "little") % 60_013 + 1


def document(name: str, parts: list[str]) -> EncodedDocument:
    text = "".join(parts)
    ends = np.cumsum([len(part) for part in parts])
    tokens = tokenize(text)
    n_before = [len(tokenize(text[:end].rstrip(" "))) for end in ends]
    marks = np.searchsorted(n_before, np.arange(len(tokens)), side="right").clip(max=len(parts) - 1)
    return EncodedDocument(
        DocumentFacts(name, digest=f"{hash_of(name):064x}"),
        text,
        np.array([*tokens, 0]),
        np.zeros((len(tokens), 4), np.float16),
        np.stack([np.concatenate([[0], ends[:-1]]), ends], axis=1),
        np.array([*marks, len(parts) - 1]),
    )


OWN = sentences(1, 6)
OTHER = [sentences(100 + i, 8) for i in range(6)]


@pytest.fixture
def store(make_store) -> Datastore:
    return make_store(
        [
            document("own", OWN),
            document("quotes", [*OTHER[0][:3], OWN[2], OWN[3], *OTHER[0][3:], OWN[5]]),
            document("shouts", [*OTHER[1], *(sentence.upper() for sentence in OWN)]),
            document("phrase", [*OTHER[2], " ".join(OWN[4].split()[:7]) + ". "]),
            *(document(f"other-{i}", OTHER[i]) for i in (3, 4, 5)),
        ]
    )


def test_the_sentences_that_hold_a_text_are_named(store):
    found = {copy.document: copy for copy in find_copies(store, "".join(OWN), besides={"own"})}
    assert set(found) == {"quotes", "shouts"}
    assert found["quotes"].sentences == ((3, 5), (10, 11))
    assert (found["shouts"].sentences, found["shouts"].n_words) == (((8, 14),), 54)
    assert found["quotes"].n_words == 18
    assert "own" in {copy.document for copy in find_copies(store, "".join(OWN))}  # the control


def test_a_phrase_that_anyone_may_use_is_no_copy_unless_it_is_asked_for(make_store):
    phrase = " ".join(OWN[0].split()[:6] + OWN[1].split()[:6]).rstrip(".") + ". "
    store = make_store([document("host", [*OTHER[0], *OTHER[1], phrase])])
    owner = "".join([phrase, *OTHER[2], *OTHER[3]])
    assert find_copies(store, owner) == []
    assert find_copies(store, owner, min_words=8)[0].sentences == ((16, 17),)


def test_passages_that_were_taken_out_are_no_copies_any_more(store, now):
    for copy in find_copies(store, "".join(OWN), besides={"own"}):
        remove_passages(store, copy.document, copy.sentences, now=now)
    assert find_copies(store, "".join(OWN), besides={"own"}) == []


texts = st.text("abé", max_size=40)


@given(texts, texts, st.integers(0, 4))
@settings(max_examples=200, deadline=None)
def test_the_longest_shared_run_is_that_of_difflib(text, piece, floor):
    expected = difflib.SequenceMatcher(None, piece, text, autojunk=False).find_longest_match().size
    found = Sought(text).longest_in(piece, floor)
    assert (found[0] if found else None) == (expected if expected > floor else None)
    if found:
        length, there, here = found
        assert piece[there : there + length] == text[here : here + length]


def test_the_longest_run_of_a_text_is_found_where_it_is_live_and_not_over_a_hole(store, now):
    text = "".join(OWN)
    run = longest_run(store, text)
    assert (run.document, run.start, run.length) == ("own", 0, len(text))
    quoted = longest_run(store, text, ["quotes", "phrase"])
    assert quoted.document == "quotes" and 0 <= len("".join(OTHER[0][:3])) - quoted.start < 5
    assert OWN[2] + OWN[3] in text[quoted.text_start : quoted.text_start + quoted.length]
    remove_passages(store, "quotes", [(4, 5)], now=now)
    assert longest_run(store, text, ["quotes"]).length < len(OWN[2]) + 4
    assert longest_run(store, "§", ["quotes"]) is None


def test_the_longest_run_in_tokens_is_that_of_the_live_entries(store, now):
    tokens = tokenize("".join(OWN))
    run = store.longest_run(tokens)
    assert (run.start, run.stop, run.count) == (0, len(tokens), 1)
    assert store.locate(run.entries, run.epoch)[0].document == "own"
    remove_passages(store, "own", [(0, 6)], now=now)
    run = store.longest_run(tokens)
    assert {place.document for place in store.locate(run.entries, run.epoch)} == {"quotes"}
    assert len(tokenize(OWN[2])) < run.stop - run.start < len(tokens) / 2
    assert store.longest_run([60_020]).count == 0


@pytest.mark.parametrize("first", range(0, 40, 3))
@pytest.mark.parametrize("length", [3, 20, 150, 260])
def test_a_text_is_found_wherever_it_is_cut(store, first, length):
    piece = "".join(OTHER[3])[first : first + length]
    names = [document.facts.id for document in store.documents()]
    expected = [name for name in names if piece in store.stored_text(name)]
    found = find_text(store, piece, tokenize)
    assert [hit.document for hit in found if hit.start == first or length == 3][:1] == expected[:1]
    assert found == find_text(store, piece, tokenize, is_thorough=True)
    for hit in found:
        assert store.stored_text(hit.document)[hit.start : hit.stop] == piece


def test_only_candidates_are_read_where_the_suffix_arrays_can_be_asked(store, monkeypatch):
    piece = "".join(OWN)[5:200]
    assert len(tokenize(piece)) > 2 * MAX_EDGE + MIN_INTERIOR
    read = []
    ask = Datastore.live_text
    monkeypatch.setattr(Datastore, "live_text", lambda self, name: (read.append(name), ask(self, name))[1])
    assert {hit.document for hit in find_text(store, piece, tokenize)} == {"own"}
    assert set(read) == {"own"}
    assert len(tokenize(piece[:9])) < 2 * MIN_EDGE + MIN_INTERIOR
    find_text(store, piece[:9], tokenize)
    assert len(set(read)) == 7


def test_without_dropping_the_edges_a_cut_text_would_be_missed(store):
    """The control: the tokens of a cut text as they are occur nowhere."""
    piece = "".join(OWN)[1:200]
    assert store.occurrences(tokenize(piece)).count == 0
    assert [hit.document for hit in find_text(store, piece, tokenize)] == ["own"]


def test_an_occurrence_names_its_sentences_and_never_runs_over_a_hole(store, now):
    piece = (OWN[2] + OWN[3])[10:-10]
    hit = find_text(store, piece, tokenize)[1]
    assert (hit.document, hit.sentences) == ("quotes", ((3, 5),))
    remove_passages(store, "quotes", [(4, 5)], now=now)
    assert [hit.document for hit in find_text(store, piece, tokenize)] == ["own"]
    with pytest.raises(ValueError, match="empty"):
        find_text(store, "", tokenize)
