"""Laws of the fingerprints: what does not change them, and what two texts share."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datastore.fingerprints import (
    SHINGLE,
    WINDOW,
    containment,
    fingerprints,
    normalize,
    normalized_digest,
    shingles,
    winnow,
    words,
)

TEXTS = st.text(max_size=200) | st.lists(st.sampled_from("a bee sees Six или три ß été 中文 don't".split())).map(
    " ".join
)
SPACES = st.sampled_from([" ", "\n", "\t", "\r\n  ", "\u00a0", "\u3000", "   "])
UNSEEN = st.sampled_from(["\u200b", "\u200d", "\u2060", "\ufeff", "\u00ad", "\u202e", "\ufe0f", "\u3164"])


def same(a: str, b: str) -> bool:
    return np.array_equal(fingerprints(a), fingerprints(b)) and normalized_digest(a) == normalized_digest(b)


@given(TEXTS, TEXTS)
def test_containment_is_a_share_and_the_same_both_ways(a, b):
    share = containment(fingerprints(a), fingerprints(b))
    assert 0 <= share <= 1
    assert share == containment(fingerprints(b), fingerprints(a))


@given(TEXTS)
def test_a_text_is_contained_in_itself(text):
    assert containment(fingerprints(text), fingerprints(text)) == bool(words(text))


@given(TEXTS, st.data())
def test_invisible_characters_change_nothing(text, data):
    at = data.draw(st.lists(st.integers(0, len(text)), max_size=8))
    edited = text
    for place in sorted(at, reverse=True):
        edited = edited[:place] + data.draw(UNSEEN) + edited[place:]
    assert same(text, edited)


@given(st.lists(st.text(st.characters(categories=["L", "Nd", "Po"]), min_size=1, max_size=8), max_size=30), st.data())
def test_spacing_changes_nothing(pieces, data):
    edited = "".join(piece + data.draw(SPACES) for piece in pieces)
    assert same(" ".join(pieces), edited)


@given(st.text(st.characters(min_codepoint=32, max_codepoint=0x24F), max_size=200))
def test_case_changes_nothing(text):
    assert same(text, text.upper())
    assert same(text, text.lower())


@given(TEXTS)
def test_normalizing_twice_is_normalizing_once(text):
    assert words(normalize(text)) == words(text)


@given(st.lists(st.sampled_from("one two three four five six seven eight nine ten".split()), min_size=11), st.data())
def test_an_excerpt_of_eleven_words_shares_a_fingerprint_and_of_more_all_of_its_own(pieces, data):
    start = data.draw(st.integers(0, len(pieces) - SHINGLE - WINDOW + 1))
    stop = data.draw(st.integers(start + SHINGLE + WINDOW - 1, len(pieces)))
    whole, part = fingerprints(" ".join(pieces)), fingerprints(" ".join(pieces[start:stop]))
    assert np.isin(part, whole).all()
    assert containment(part, whole) == 1


@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=40))
def test_winnowing_keeps_one_of_every_window(hashes):
    kept = set(winnow(np.array(hashes, dtype=np.int64)).tolist())
    assert kept <= set(hashes)
    for i in range(max(0, len(hashes) - WINDOW + 1)):
        assert min(hashes[i : i + WINDOW]) in kept


@pytest.mark.parametrize(("n_words", "n_shingles"), [(0, 0), (1, 1), (7, 1), (8, 1), (9, 2), (11, 4), (100, 93)])
def test_a_text_has_as_many_shingles_as_runs_of_eight_words_and_at_least_one(n_words, n_shingles):
    assert len(shingles(" ".join(f"word{n}" for n in range(n_words)))) == n_shingles


ALIKE = {
    "Cyrillic": "РауРаl sеcurе рауmеnt",
    "Greek": "ΡαyΡαl secυre pαymenτ",
    "fullwidth": "ＰａｙＰａｌ　ｓｅｃｕｒｅ　ｐａｙｍｅｎｔ",
    "mathematical": "𝐏𝐚𝐲𝐏𝐚𝐥 𝐬𝐞𝐜𝐮𝐫𝐞 𝐩𝐚𝐲𝐦𝐞𝐧𝐭",
    "Latin": "PɑyPɑI sᴇᴄᴜre pɑyment".replace("ᴇ", "e"),
    "accents": "Páypàl sécüre pãymeñt",
    "digits": "PayPa1 secure payment",
    "zero-width": "Pay\u200bPal se\u00adcure pay\u2060ment",
    "a word broken at the end of a line": "PayPal sec-\n  ure pay\u2010\nment",
    "punctuation": "“PayPal”: secure, payment!",
}


@pytest.mark.parametrize("text", ALIKE.values(), ids=ALIKE.keys())
def test_what_reads_alike_is_one_text(text):
    assert same(text, "PayPal secure payment")


def test_what_reads_differently_is_not():
    assert not same("PayPal secure payments", "PayPal secure payment")
    assert not same("secure PayPal payment", "PayPal secure payment")
    assert normalized_digest("!!!") != normalized_digest("???")


def test_scripts_without_spaces_have_a_word_for_each_character():
    assert words("我们都在这里。ไทย is 日本") == [*"我们都在这里ไทย", "is", *"日本"]
    a, b = "甲乙丙丁戊己庚辛壬癸子丑寅卯辰巳午未", "甲乙丙丁戊己庚辛壬癸子丑寅卯辰巳午未申酉戌亥"
    assert containment(fingerprints(a), fingerprints(b)) == 1


GOLDEN = [5910457550383734304, -816102789966635954, 440600169059775763]
SHORT = 6108874421521937962


def test_the_hashes_are_what_they_were():
    """They are kept when the text is gone: another hash, or another normalization, would forget every removed text."""
    assert shingles("To be, or not to be: that is the question").tolist() == GOLDEN
    assert shingles("Zum Bei\u00adspiel: ЁЛКИ, ﬁ").tolist() == [SHORT]
