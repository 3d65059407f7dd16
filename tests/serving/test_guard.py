"""What counts as read out: eight words in a row of a sentence, wherever in prompt and completion they begin."""

from types import SimpleNamespace

import pytest

from serving.drafts import Draft
from serving.guard import Guard
from serving.jobs import Made
from silo.attribution import ContextSource, GeneratedToken, TokenSource

SENTENCE = "One, two; three four five six seven eight nine."
OTHER = "Zero one two three four five six seven eight."


class OneReader:
    """May be told ``n`` sentences more."""

    has_budget = True

    def __init__(self, texts: list[str], n: int = 0, risk: str = "HIGH_RISK") -> None:
        self._texts, self._n = texts, n
        self._facts = SimpleNamespace(facts=SimpleNamespace(risk=risk))
        self.told: list[int] = []
        self.engine = self

    def passage(self, source: TokenSource) -> SimpleNamespace:
        return SimpleNamespace(document=self._facts, text=self._texts[source.sentence])

    def may_read(self, source: TokenSource, passage: object) -> bool:
        self.told.append(source.sentence)
        return len(self.told) <= self._n


def forbidden(reader: OneReader, prompt: str, tokens: list[str], n_sources: int = 1) -> list[bool]:
    """Of each of ``tokens``, all of which are owed to the reader's sentences, or to none."""
    draft = Draft()
    guard = Guard(draft, reader, prompt)
    read = () if n_sources else (ContextSource("d", (0, 1), (0, 1)),)
    found = []
    for text in tokens:
        sources = tuple(TokenSource("d", n, 1 / (1 + n)) for n in range(n_sources))
        event = Made(0, GeneratedToken(0, text, len(draft.text), -0.1, (), 0.0, sources), 7, read)
        found.append(guard.forbids(event))
        draft.take(event)
    return found


@pytest.mark.parametrize(("prompt", "tokens", "is_over"), [
    ("As said: one two three four five six seven", [" eight"], [True]),
    ("As said: one two three four five six seven", [" other", " eight"], [False, False]),
    ("one two three four five six", [" seven"], [False]),
    ("one two three four five six", [" seven", " eight"], [False, True]),
    ("one two three four five six seven ei", ["ght"], [True]),
    ("one two three four five six seven ei", [" ght"], [False]),
    ("one two three four five six seven eight", [" other"], [False]),
    ("one two three four five six seven eight", [" nine"], [True]),
    ("one two three four five six seven eight", [".", " nine"], [False, True]),
    ("", ["ONE TWO", " three", " four five", " six-seven-", "eig", "ht", " and"], [False] * 5 + [True] * 2),
    ("", [" one two three four five six seven eight, he said."], [True]),
])  # fmt: skip
@pytest.mark.parametrize("n_sources", [1, 0], ids=["owed", "read first"])
def test_a_run_may_begin_in_the_prompt_and_ends_in_the_completion(prompt, tokens, is_over, n_sources):
    assert forbidden(OneReader([SENTENCE]), prompt, tokens, n_sources) == is_over


def test_what_is_not_of_high_risk_and_what_was_told_already_are_free():
    said = ["one two three four five six seven eight", " nine"]
    assert forbidden(OneReader([SENTENCE], risk="BY"), "", said) == [False, False]
    reader = OneReader([SENTENCE], n=1)
    assert forbidden(reader, "", said) == [False, False]
    assert reader.told == [0], "counted once"


def test_a_run_that_several_sentences_have_counts_for_the_one_that_most_is_owed_to():
    reader = OneReader([SENTENCE, OTHER], n=1)
    assert forbidden(reader, "", ["one two three four five six seven eight"], 2) == [False]
    assert reader.told == [0]
    assert forbidden(reader, "", ["zero one two three four five six seven"], 2) == [True]
    assert reader.told == [0, 1]
