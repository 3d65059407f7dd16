"""What the suffixes foretold before a position: the same, to the bit, however the text came to be asked about."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datastore.records import Continuations
from silo.recent import DECAYS, WINDOW, Recollection, features, features_after, no_outcomes, outcomes, recent_names

LIMITS = (3, 1)


class Book:
    """A store of one document, searched by a plain loop, which counts how many contexts it was asked about."""

    def __init__(self, tokens):
        self.tokens, self.epoch, self.n_asked = list(tokens), 1, 0

    def continuations(self, contexts, limits=None):
        self.n_asked += len(contexts)
        lengths, counts, bounds, tokens, token_counts = [], [], [0], [], []
        for context in contexts:
            for limit in limits:
                length, following = self._longest([int(token) for token in context], limit)
                lengths.append(length)
                counts.append(sum(following.values()))
                tokens += sorted(following)
                token_counts += [following[token] for token in sorted(following)]
                bounds.append(len(tokens))
        shape = (len(contexts), len(limits))
        arrays = (np.array(lengths).reshape(shape), np.array(counts).reshape(shape), bounds, tokens, token_counts)
        return Continuations(*(np.array(array, dtype=np.int64) for array in arrays), self.epoch)

    def _longest(self, context, limit):
        for length in range(min(limit, len(context)), 0, -1):
            tail, text = context[len(context) - length :], self.tokens
            ends = [i + length for i in range(len(text) - length) if text[i : i + length] == tail]
            if ends:
                return length, Counter(text[end] for end in ends)
        return 0, Counter()


texts = st.lists(st.integers(0, 3), min_size=1, max_size=90)


def by_hand(book, text):
    """The features at the end of ``text``, by their names."""
    found = dict.fromkeys(recent_names(LIMITS), 0.0)
    for at in range(max(0, len(text) - WINDOW), len(text)):
        there = book.continuations([text[:at]], LIMITS)
        for decay in DECAYS:
            weight = (1 - decay) * decay ** (len(text) - 1 - at)
            tag = f"({decay:g}, {WINDOW})"
            for m, limit in enumerate(LIMITS):
                tokens, counts = there.following(0, m)
                of_it = dict(zip(tokens.tolist(), counts.tolist(), strict=True)).get(text[at], 0)
                found[f"ngram@{limit} foretold {tag}"] += weight * of_it / max(counts.sum(), 1)
                found[f"ngram@{limit} had spoken {tag}"] += weight * bool(len(tokens))
            found[f"ngram lengths {tag}"] += weight * np.log1p(there.lengths[0, 0])
    return list(found.values())


def asked(recollection, book, texts):
    return recollection.features(texts, book.continuations(texts, LIMITS))


@settings(max_examples=12, deadline=None)
@given(texts, texts)
def test_features_are_decayed_averages_over_the_window(stored, text):
    book = Book(stored)
    assert asked(Recollection(book, LIMITS), book, [text])[0] == pytest.approx(by_hand(book, text), abs=1e-9)


@settings(max_examples=12, deadline=None)
@given(texts, texts, st.integers(1, 20))
def test_a_text_that_grew_has_the_features_of_one_that_is_asked_about_at_once(stored, text, n_at_once):
    book = Book(stored)
    growing = Recollection(book, LIMITS)
    grown = []
    prefixes = [text[:i] for i in range(len(text) + 1)]
    for first in range(0, len(prefixes), n_at_once):
        grown += list(asked(growing, book, prefixes[first : first + n_at_once]))
    for prefix, found in list(zip(prefixes, grown, strict=True))[::-7]:
        assert (found == asked(Recollection(book, LIMITS), book, [prefix])[0]).all()


@settings(max_examples=12, deadline=None)
@given(texts, texts, st.integers(1, 20))
def test_a_pass_over_a_document_gives_every_position_what_it_has_alone(stored, text, n_at_once):
    book = Book(stored)
    before, found = no_outcomes(len(LIMITS)), []
    for first in range(0, len(text), n_at_once):
        some = range(first, min(first + n_at_once, len(text)))
        there = outcomes(book.continuations([text[:at] for at in some], LIMITS), np.array([text[at] for at in some]))
        rows, before = features_after(before, there)
        found += list(rows)
    for at, row in list(enumerate(found))[::-7]:
        assert (row == asked(Recollection(book, LIMITS), book, [text[:at]])[0]).all()


def test_a_token_more_costs_one_context():
    book = Book([0, 1, 2, 3] * 20)
    recollection = Recollection(book, LIMITS)
    text = [0, 1, 2, 3] * 20
    asked(recollection, book, [text])
    book.n_asked = 0
    asked(recollection, book, [[*text, 0]])
    assert book.n_asked == 1


def test_beams_that_share_a_beginning_are_each_followed():
    book = Book([0, 1, 2, 3] * 20)
    recollection = Recollection(book, LIMITS)
    start = [0, 1, 2, 3] * 20
    asked(recollection, book, [start])
    beams = [[*start, 0], [*start, 3]]
    together = asked(recollection, book, beams)
    alone = [asked(Recollection(book, LIMITS), book, [beam])[0] for beam in beams]
    assert (together == alone).all()
    assert (together[0] != together[1]).any()


def test_after_a_removal_the_past_is_that_of_a_store_that_never_had_the_text():
    book = Book([0, 1, 2, 3] * 20)
    recollection = Recollection(book, LIMITS)
    text = [0, 1, 2, 3] * 20
    asked(recollection, book, [text])
    book.tokens, book.epoch = [0, 0, 2], 2
    text.append(0)
    found = asked(recollection, book, [text])[0]
    assert found == pytest.approx(by_hand(Book([0, 0, 2]), text))
    assert found != pytest.approx(by_hand(Book([0, 1, 2, 3] * 20), text))


def test_a_store_that_changes_in_between_is_asked_again():
    book = Book([0, 1, 2, 3] * 20)
    said = book.continuations([[0, 1]], LIMITS)
    book.epoch = 2
    assert Recollection(book, LIMITS).features([[0, 1]], said) is None


def test_before_a_text_nothing_is_known():
    assert not features(no_outcomes(2)).any()
