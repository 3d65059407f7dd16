"""What counts as repeated: runs of tokens, runs of letters, and how much of the source."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from silo.evaluation.verbatim import MIN_LETTERS, letters, repeated
from silo.tokenizer import Tokens, tokenize

TEXT = "The clerk, Ms. Straße, wrote: “no refunds after the 3rd of May”, and then she left the office for good."


def measured(llama, text, source=TEXT):
    tokens = tokenize(llama.tokenizer, text).ids.tolist()
    return repeated(tokens, text, tokenize(llama.tokenizer, source), letters(source))


def test_a_text_repeats_all_of_itself(llama):
    found = measured(llama, TEXT)
    assert found.n_tokens == found.n_source_tokens == len(tokenize(llama.tokenizer, TEXT))
    assert found.n_letters == len(letters(TEXT)) and found.share == 1


@pytest.mark.parametrize(
    "disguise",
    [str.upper, lambda text: " ".join(text), lambda text: text.replace(",", " -- "), lambda text: text.swapcase()],
    ids=["capitals", "spaces", "signs", "swapped"],
)
def test_a_disguised_copy_is_seen_by_its_letters_and_hardly_by_its_tokens(llama, disguise):
    found, n_source = measured(llama, disguise(TEXT)), len(tokenize(llama.tokenizer, TEXT))
    assert found.n_letters == len(letters(TEXT)) and found.share == 1
    assert n_source - 4 <= found.n_source_tokens <= n_source, "a sign at its end has no letter"
    assert found.n_tokens < n_source / 2


def test_the_same_letters_in_other_tokens_are_one_run_of_letters(llama):
    bytewise = [int(token) for character in TEXT for token in tokenize(llama.tokenizer, character).ids]
    found = repeated(bytewise, TEXT, tokenize(llama.tokenizer, TEXT), letters(TEXT))
    assert found.n_letters == len(letters(TEXT))
    assert found.n_tokens < 10 < found.n_source_tokens


@pytest.mark.parametrize(
    ("text", "n"),
    [("Alpha, BETA gamma", 4), ("lpha beta gamma", 2), ("ALPHA-BETA", 3), ("alpha beta g", 3), ("pha BETA gam", 1)],
)
def test_a_token_of_which_only_a_part_is_repeated_does_not_count(text, n):
    source, starts, ends = "alpha, beta gamma", np.array([0, 5, 6, 11]), np.array([5, 6, 11, 17])
    assert repeated([99], text, Tokens(np.arange(4), starts, ends), letters(source)).n_source_tokens == n


def test_what_is_unlike_repeats_little(llama):
    found = measured(llama, "0123456789 xyz zyx qqq")
    assert found.n_letters <= 3 and found.share == 0
    assert measured(llama, "").n_tokens == measured(llama, "").n_letters == 0
    assert measured(llama, "word", source="…").share == 0


def test_short_runs_are_not_reproduced_and_two_long_ones_are_added_up(llama):
    folded = letters(TEXT)
    assert "".join(map(chr, folded.codes)).startswith("theclerkmsstrassewrote")
    middle = int(folded.positions[MIN_LETTERS])
    assert measured(llama, TEXT[:middle]).share == pytest.approx(MIN_LETTERS / len(folded))
    assert measured(llama, TEXT[: int(folded.positions[MIN_LETTERS - 1])]).share == 0
    both = TEXT[:middle] + " zzzz " + TEXT[-50:]
    expected = MIN_LETTERS + len(letters(TEXT[-50:]))
    assert measured(llama, both).share == pytest.approx(expected / len(folded))


@given(st.text("abcAB .", max_size=30), st.text("abcAB .", max_size=30))
def test_runs_are_those_that_trying_all_finds(text, source):
    ids = np.array([ord(c) for c in source], dtype=np.int64)
    places = np.arange(len(source))
    found = repeated([ord(c) for c in text], text, Tokens(ids, places, places + 1), letters(source))

    def longest(a, b):
        return max((n for n in range(len(a) + 1) for i in range(len(a) - n + 1) if a[i : i + n] in b), default=0)

    def plain(given_text):
        return "".join(c for c in given_text.lower() if c.isalnum())

    assert found.n_tokens == longest(text, source)
    assert found.n_letters == longest(plain(text), plain(source))
    assert found.n_tokens <= found.n_source_tokens <= len(source)
