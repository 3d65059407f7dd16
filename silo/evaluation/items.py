"""Questions with given answers, of which one is right, made by rule from domains and from exercises.

Pure; knows no model. The same documents and seed give the same items. An item is one question to one document, so that
items may be drawn anew as if they were independent.

- **exercises**: of ``silo.mathematics``; the wrong answers are the right one with one of its numbers changed.
- **cloze**: the word that ends a sentence; the wrong ones end other sentences of the domain, drawn as often as they do,
  so that how frequent a word is tells nothing. None of them stands in the text that is shown.
- **domains**: to which of the domains a passage belongs; each is said in several words (Shi et al. 2022).
"""

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from silo.documents import Document
from silo.errors import BadRequest
from silo.mathematics import N_EXERCISES, asking, exercises_of
from silo.sentences import sentence_spans

N_ANSWERS = 4
"""Of an exercise and a cloze."""
MAX_CHARACTERS = 400
"""Of a document that are shown, to the next sentence."""
MIN_WORDS = 8
"""Of a sentence whose last word is asked for."""
TOPIC = "Topic:"
"""Asks for a domain, as in Shi et al. (2022)."""
_CHANGES = (-10, -2, -1, 1, 2, 10)
_LAST_WORD = re.compile(r" ([A-Za-z]{3,})[.!?]\s*\Z")
_SAID_IN_WORDS = re.compile(r"[A-Za-z]{2}")
_HAS_MISSES_OF_ITS_OWN = frozenset({"bases"})
"""Subjects where a changed number gives itself away: a digit that the base does not have."""


@dataclass(frozen=True)
class Item:
    """A question, and answers of which one is right."""

    id: str
    group: str
    """What it is reported under: a domain, or a subject."""
    text: str
    """What stands before the answer."""
    answers: tuple[tuple[str, ...], ...]
    """Each in the words that say it, the plainest first; each continues ``text``."""
    right: int
    """Number of the answer."""
    neutral: str = ""
    """What stands before the answer where nothing is asked."""

    def __post_init__(self) -> None:
        if not 0 <= self.right < len(self.answers) or len(self.answers) < 2 or not all(self.answers):
            raise BadRequest(
                f"item {self.id!r} needs two answers in words and the number of one; got {self.answers!r:.80}, "
                f"{self.right}"
            )


def exercise_items(n: int, seed: int, n_shots: int = 0) -> Iterator[Item]:
    """``n`` exercises of the subjects in turn, each after ``n_shots`` that precede it in its document, solved.

    The documents are those of ``seed``, which should be none that training text was made with.
    """
    if not 0 <= n_shots < N_EXERCISES:
        raise BadRequest(f"solved exercises before one must be 0 to {N_EXERCISES - 1}; got {n_shots}")
    number = n_made = 0
    while n_made < n:
        subject, asked = exercises_of(number, seed)
        drawn = random.Random(f"{seed}/{number}/item")
        fit = [i for i in range(n_shots, len(asked)) if not _SAID_IN_WORDS.search(asked[i][1])]
        if fit and subject not in _HAS_MISSES_OF_ITS_OWN:
            at = drawn.choice(fit)
            shots = "".join(f"{asking(question)} {answer}\n\n" for question, answer in asked[at - n_shots : at])
            question, answer = asked[at]
            misses = near_misses(answer, drawn)
            if len(misses) >= N_ANSWERS - 1:
                answers, right = _shuffled(answer, misses[: N_ANSWERS - 1], drawn)
                text = shots + asking(question)
                yield Item(f"{subject}/{seed}-{number}", subject, text, answers, right, neutral="Answer:")
                n_made += 1
        number += 1


def near_misses(answer: str, drawn: random.Random) -> list[str]:
    """``answer`` with one of its numbers changed by a little, each way once, in an order that is drawn."""
    found = {
        f"{answer[: number.start()]}{int(number.group()) + change}{answer[number.end() :]}"
        for number in re.finditer(r"\d+", answer)
        for change in _CHANGES
        if int(number.group()) + change > 0
    }
    misses = sorted(found - {answer})
    drawn.shuffle(misses)
    return misses


def cloze_items(domain: str, documents: Sequence[Document], n: int, seed: int) -> list[Item]:
    """At most ``n`` items, one of each document that has a sentence to ask for; the first documents first."""
    closing = {document.id: _closing_words(document.text) for document in documents}
    pool = [word for words in closing.values() for _, _, word in words]
    items: list[Item] = []
    for document in documents:
        drawn = random.Random(f"{seed}/{document.digest}/cloze")
        for begin, end, word in drawn.sample(closing[document.id], len(closing[document.id])):
            if len(items) < n and (misses := _misses(word, document.text[begin:end], pool, drawn)):
                answers, right = _shuffled(word, misses, drawn)
                items.append(Item(document.id, domain, document.text[begin:end], answers, right))
                break
    return items


def domain_items(
    domains: Mapping[str, Sequence[Document]], said: Mapping[str, tuple[str, ...]], n: int, seed: int
) -> list[Item]:
    """At most ``n`` passages of each of ``domains``, one of a document; ``said`` are the words for each domain.

    Raises:
        BadRequest: there are fewer than two domains, or one has no words, or one word stands for two.
    """
    words = [word for domain in domains for word in said.get(domain, ())]
    if len(domains) < 2 or not all(said.get(domain) for domain in domains) or len(words) != len(set(words)):
        raise BadRequest(
            f"telling domains apart needs two of them, each with words of its own; got {dict(said)!r:.200}. "
            "Name them with --words DOMAIN=word,word."
        )
    answers = tuple(tuple(f" {word}" for word in said[domain]) for domain in domains)
    items = []
    for right, (domain, documents) in enumerate(domains.items()):
        for document in documents[:n]:
            drawn = random.Random(f"{seed}/{document.digest}/domain")
            if passage := _passage(document.text, drawn):
                items.append(Item(document.id, domain, f"{passage}\n{TOPIC}", answers, right, TOPIC))
    return items


def words_of(domain: str) -> tuple[str, ...]:
    """The words in the name of ``domain``, which say it where nothing better is given."""
    return tuple(dict.fromkeys(word.lower() for word in re.findall(r"[A-Za-z]{2,}", domain.replace("_", " "))))


def _closing_words(text: str) -> list[tuple[int, int, str]]:
    """For each sentence that ends in a word: where what is shown begins, where it ends, and the word."""
    found = []
    spans = sentence_spans(text)
    for i, (start, end) in enumerate(spans):
        last = _LAST_WORD.search(text[start:end])
        if last is None or len(text[start:end].split()) < MIN_WORDS:
            continue
        first = i
        while first and end - spans[first - 1][0] <= MAX_CHARACTERS:
            first -= 1
        found.append((spans[first][0], start + last.start(), last[1]))
    return found


def _misses(word: str, shown: str, pool: Sequence[str], drawn: random.Random) -> list[str]:
    """Other words of ``pool``, capital or small like ``word``, that are not ``shown``; none where ``word`` is."""
    there = {other.lower() for other in re.findall(r"[A-Za-z]+", shown)}
    if word.lower() in there:
        return []
    fit = [other for other in pool if other.istitle() == word.istitle() and other.lower() not in {*there, word.lower()}]
    drawn.shuffle(fit)
    misses = list(dict.fromkeys(fit))[: N_ANSWERS - 1]
    return misses if len(misses) == N_ANSWERS - 1 else []


def _passage(text: str, drawn: random.Random) -> str:
    """Whole sentences from one that is drawn, of at least ``MAX_CHARACTERS`` where so many follow, or that part."""
    spans = sentence_spans(text)
    fit = [start for start, _ in spans if len(text) - start >= MAX_CHARACTERS] or [0]
    start = drawn.choice(fit)
    end = next((end for _, end in spans if end >= start + MAX_CHARACTERS), len(text))
    return text[start : min(end, start + 2 * MAX_CHARACTERS)].strip()


def _shuffled(right: str, misses: Sequence[str], drawn: random.Random) -> tuple[tuple[tuple[str, ...], ...], int]:
    """The answers in an order that is drawn, and the number of the right one."""
    answers = [right, *misses]
    drawn.shuffle(answers)
    return tuple((f" {answer}",) for answer in answers), answers.index(right)
