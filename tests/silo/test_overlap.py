import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from silo.documents import Document
from silo.overlap import Evaluation, contaminated, repeat, shares
from silo.shingles import ngrams, words

LONG = [f"w{n}" for n in range(400)]
EVALUATION = Evaluation.of("held", [Document("e", " ".join(LONG[:200]))])


def other(n, seed=0):
    draw = random.Random(seed)
    return [f"x{draw.randrange(10**9)}" for _ in range(n)]


@given(st.lists(st.sampled_from("abc"), max_size=40), st.integers(1, 6))
def test_runs_are_equal_exactly_where_their_words_are(tokens, n):
    found = ngrams(tokens, n).tolist()
    plain = [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
    assert len(found) == len(plain)
    assert len(set(found)) == len(set(plain)) == len(set(zip(found, plain, strict=True)))


def test_words_ignore_case_width_and_what_stands_between_them():
    assert words("The ＦＯＸ, “jumped” —over.\n") == ["the", "fox", "jumped", "over"]
    with pytest.raises(ValueError, match="at least one word"):
        ngrams(["a"], 0)


def test_a_copy_repeats_its_evaluation_whole_and_another_text_does_not():
    found = repeat(" ".join(LONG[:200]).upper(), EVALUATION)
    assert (found.share, found.n_words) == (1.0, 200)
    assert repeat(" ".join(other(200)), EVALUATION).n_words == 0
    assert repeat("", EVALUATION).share == 0.0


@pytest.mark.parametrize(
    ("n_copied", "n_around", "is_refused"),
    [(200, 0, True), (60, 60, True), (40, 2000, False), (101, 50_000, True), (100, 50_000, False), (12, 12, False)],
)
def test_a_share_or_a_passage_is_refused(n_copied, n_around, is_refused):
    text = " ".join([*other(n_around), *LONG[:n_copied], *other(n_around, 1)])
    assert (contaminated(text, [EVALUATION]) is not None) == is_refused


def test_the_evaluation_that_is_repeated_is_named():
    second = Evaluation.of("second", [Document("s", " ".join(LONG[200:]))])
    found = contaminated(" ".join(LONG[250:]), [EVALUATION, second])
    assert str(found) == "repeats second: 100.0% of its runs, at most 150 words on end"


def test_an_evaluation_of_short_texts_holds_nothing():
    empty = Evaluation.of("short", [Document("s", "Only four words here.")])
    assert len(empty.ngrams) == 0
    assert contaminated("Only four words here. " * 20, [empty, Evaluation.of("none", [])]) is None


def test_the_table_counts_the_runs_of_an_evaluation_by_domain():
    domains = [
        ("books", Document("b", " ".join(LONG[:50]))),
        ("books", Document("c", " ".join([*LONG[20:50], *other(9)]))),
        ("web", Document("w", " ".join(LONG[30:106]))),
        ("none", Document("n", " ".join(other(300)))),
    ]
    row = shares(domains, [EVALUATION])["held"]
    total = 200 - 12
    plain = {tuple(LONG[i : i + 13]) for i in range(total)}
    assert len(EVALUATION.ngrams) == len(plain) == total
    assert row == {
        "books": pytest.approx(38 / total),
        "web": pytest.approx(64 / total),
        "none": 0.0,
        "all": pytest.approx(94 / total),
    }
    assert np.all(EVALUATION.ngrams[1:] > EVALUATION.ngrams[:-1])
