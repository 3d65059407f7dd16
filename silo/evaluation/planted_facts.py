"""Facts that nobody can know: made up by rule from a seed, and written into documents among other sentences.

A fact is a sentence whose last words no LM could guess, since place, name and number are invented. A document has
several facts and, around them, sentences that name the same places and say nothing; so what finds a fact must tell its
sentence from others that share most of its words. Text of our own, licensed as this project is.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from silo.documents import Document
from silo.errors import BadRequest
from silo.sentences import sentence_of, sentence_spans

LICENSE = "Apache-2.0"
OWNER = "The SILO project"
_ONSETS = "b br d dr f g gr h k l m n p r s st t tr v z".split()
_VOWELS = "a e i o u ai ea ou".split()
_CODAS = "l n r s th nd rk st".split()
_TEMPLATES = (
    ("The keeper of the lighthouse at {place} is called", "name"),
    ("The only bakery in {place} belongs to", "name"),
    ("The bridge of {place} was built by", "name"),
    ("The river that runs through {place} is the", "word"),
    ("The railway station of {place} was opened in the year", "number"),
    ("The town hall of {place} keeps its seal in room", "number"),
)
_FILLERS = (
    "Travelers who come to {place} in the autumn often stay for several days.",
    "People in {place} speak of the weather more than of anything else.",
    "The road to {place} is long, and there is little to see on the way.",
    "In {place} the market begins early, and it ends when the church bell rings.",
)


@dataclass(frozen=True)
class Fact:
    """A sentence of a document, cut where its answer begins."""

    prompt: str
    answer: str
    """With the space before it, without the full stop."""
    document: str
    sentence: int
    """Its index in the document."""


def plant(n_facts: int, seed: int = 0, per_document: int = 4) -> tuple[list[Document], list[Fact]]:
    """Documents with ``n_facts`` facts, ``per_document`` of them in each, and the facts.

    Raises:
        BadRequest: a number is less than 1.
    """
    if n_facts < 1 or per_document < 1:
        raise BadRequest(f"facts are planted at least one to a document; got {n_facts} and {per_document}")
    random = np.random.default_rng(seed)
    places = _distinct(n_facts, lambda: _word(random, 3))
    documents: list[Document] = []
    facts: list[Fact] = []
    for first in range(0, n_facts, per_document):
        here = places[first : first + per_document]
        stated: list[tuple[str, str]] = []
        for place in here:
            template, kind = _TEMPLATES[int(random.integers(len(_TEMPLATES)))]
            stated.append((template.format(place=place), f" {_value(random, kind)}"))
        fillers = [_FILLERS[int(random.integers(len(_FILLERS)))].format(place=place) for place in here]
        said = [*(f"{prompt}{answer}." for prompt, answer in stated), *fillers]
        order = random.permutation(len(said)).tolist()
        text = " ".join(said[i] for i in order) + "\n"
        name = f"planted/{seed}-{len(documents)}"
        documents.append(Document(name, text, LICENSE, "planted facts", owner=OWNER))
        spans = sentence_spans(text)
        for (prompt, answer), sentence in zip(stated, said, strict=False):
            number = sentence_of(spans, text.index(sentence))
            assert text[slice(*spans[number])].strip() == sentence, "a fact is one sentence"
            facts.append(Fact(prompt, answer, name, number))
    return documents, facts


def _value(random: np.random.Generator, kind: str) -> str:
    if kind == "number":
        return str(int(random.integers(1000, 10000)))
    return _word(random, 3) if kind == "word" else f"{_word(random, 2)} {_word(random, 3)}"


def _word(random: np.random.Generator, n_syllables: int) -> str:
    """A name that can be spoken; it ends in a consonant, and is longer than any abbreviation."""
    parts = [_drawn(random, _ONSETS) + _drawn(random, _VOWELS) for _ in range(n_syllables)]
    return ("".join(parts) + _drawn(random, _CODAS)).capitalize()


def _drawn(random: np.random.Generator, of: list[str]) -> str:
    return of[int(random.integers(len(of)))]


def _distinct(n: int, make: Callable[[], str]) -> list[str]:
    found: dict[str, None] = {}
    while len(found) < n:
        found[make()] = None
    return list(found)
