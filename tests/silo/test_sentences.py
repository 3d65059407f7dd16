import pytest
from hypothesis import given
from hypothesis import strategies as st

from silo.sentences import MAX_SENTENCE_CHARACTERS, sentence_of, sentence_spans

PROSE = st.lists(
    st.sampled_from(["A", "word", ".", "!", " ", "\n", "\n\n", "v.", "Mr.", "410 U.S. 113", "。", '."', "…"])
)


def sentences(text: str) -> list[str]:
    return [text[start:end].strip() for start, end in sentence_spans(text)]


@given(st.one_of(st.text(), PROSE.map("".join)))
def test_spans_cover_the_text_without_a_gap(text):
    spans = sentence_spans(text)
    assert "".join(text[start:end] for start, end in spans) == text
    assert all(0 < end - start <= MAX_SENTENCE_CHARACTERS for start, end in spans)


@given(PROSE.map("".join).filter(bool), st.data())
def test_each_character_lies_in_the_sentence_that_is_found_for_it(text, data):
    spans = sentence_spans(text)
    character = data.draw(st.integers(0, len(text) - 1))
    start, end = spans[sentence_of(spans, character)]
    assert start <= character < end


@given(PROSE.map("".join), PROSE.map("".join))
def test_a_later_paragraph_never_changes_how_an_earlier_one_was_split(first, second):
    head = f"{first}A.\n\n"
    assert sentence_spans(f"{head}B{second}")[: len(sentence_spans(head))] == sentence_spans(head)


@pytest.mark.parametrize(
    "expected",
    [
        ["It rained.", "We stayed."],
        ["In Smith v. Jones, 410 U.S. 113 (1973), the Court held so.", "It was not the last word."],
        ["See 42 U.S.C. § 1983.", "The rest follows."],
        ["The rule is in F.3d 12, as Fed. R. Civ. P. 12(b)(6) says.", "We apply it."],
        ["J. R. R. Tolkien wrote it.", "He taught in Oxford."],
        ["Dr. Ames met Mrs. Bell at 5 p.m. on Jan. 3.", "They talked."],
        ['"Go!" she said.', "He went."],
        ['He said "no."', "She left."],
        ["Is it so?", "Yes!", "Good."],
        ["The ratio is 3.14 and the file is notes.txt here.", "Done."],
        ["Some crops, e.g. wheat, grew.", "Others, i.e. rye, did not."],
        ["It was No. 5 of the series.", "The last."],
        ["I said no.", "He agreed."],
        ["It was I.", "Nobody else came."],
        ["We live in the U.S. Government work is public.", "So is this."],
        ["He waited… then left.", "She stayed."],
        ["She works at Acme Inc. in Ohio.", "He does not."],
    ],
)
def test_sentences_end_where_a_reader_would_end_them(expected):
    assert sentences(" ".join(expected)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("   ", [""]),
        ("no end", ["no end"]),
        ("A title\n\nA first sentence. A second.", ["A title", "A first sentence.", "A second."]),
        ("今日は雨です。明日は晴れです。", ["今日は雨です。", "明日は晴れです。"]),
        ("One.\r\n\r\nTwo.", ["One.", "Two."]),
    ],
)
def test_edges_of_texts_are_split_as_stated(text, expected):
    assert sentences(text) == expected


@pytest.mark.parametrize("text", ["x" * 2500, "word " * 500, "line\n" * 500, "a" * 999 + ". " + "b" * 1001])
def test_a_run_without_sentences_is_cut_to_pieces(text):
    spans = sentence_spans(text)
    assert len(spans) >= 2
    assert "".join(text[start:end] for start, end in spans) == text


@pytest.mark.parametrize("character", [-1, 5, 100])
def test_a_character_outside_the_text_has_no_sentence(character):
    with pytest.raises(ValueError, match="lies in none"):
        sentence_of(sentence_spans("Five."), character)
