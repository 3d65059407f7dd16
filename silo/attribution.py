"""Who is owed each generated token: the terms of the mixture that produced it.

Accounting, not a search after the fact. The probability of token *y* is a sum of one term for
the LM, one for each neighbor whose value is *y*, and one for each place where *y* follows the same last tokens; a
term divided by the sum is a **mass**, so the masses of a token sum to one. A generated sentence has the mean of the
masses of its tokens,"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from silo.sentences import sentence_spans


@dataclass(frozen=True)
class TokenSource:
    """One source sentence's share of one generated token."""

    document: str
    sentence: int
    """Index of the sentence in its document."""
    mass: float


@dataclass(frozen=True)
class ContextSource:
    """Sentences that the LM read before the text while it made some tokens. They have no mass: no sum has them."""

    document: str
    sentences: tuple[int, int]
    """Half-open range of sentences of the document."""
    tokens: tuple[int, int]
    """Half-open range of tokens of the completion."""


@dataclass(frozen=True)
class GeneratedToken:
    """A token, its place in the completion, and where its probability came from."""

    id: int
    text: str
    """Characters that this token completed; empty while a character is still missing bytes."""
    start: int
    """Character offset of ``text`` in the completion."""
    logprob: float
    """Natural log of the token's probability in the mixture, before temperature, top_p and the copy guard; NaN where
    it was not asked for and the token was drawn from a part of the mixture."""
    top_logprobs: tuple[tuple[int, float], ...]
    """The likeliest tokens of the mixture and their log-probabilities, likeliest first."""
    parametric_mass: float
    sources: tuple[TokenSource, ...]
    """By falling mass; with ``parametric_mass`` and ``unnamed_mass`` they sum to one."""
    unnamed_mass: float = 0.0
    """Owed to places in the datastore that are not named, since a frequent phrase has too many of them."""


@dataclass(frozen=True)
class AttributedSentence:
    """A generated sentence and its sources."""

    start: int
    end: int
    """Half-open character span of the completion."""
    parametric_mass: float
    sources: tuple[TokenSource, ...]
    """By falling mass; with ``parametric_mass`` and ``unnamed_mass`` they sum to one."""
    unnamed_mass: float = 0.0


def attribute_sentences(text: str, tokens: Sequence[GeneratedToken]) -> tuple[AttributedSentence, ...]:
    """Roll the tokens' masses up to the sentences of ``text``.

    A token counts toward the sentence that its first character is in; a token without a character of
    its own (part of one, or the end of text) toward the sentence that it touches.
    """
    spans = sentence_spans(text)
    groups: list[list[GeneratedToken]] = [[] for _ in spans]
    index = 0
    for token in tokens:
        while index + 1 < len(spans) and token.start >= spans[index][1]:
            index += 1
        if spans:
            groups[index].append(token)
    return tuple(
        AttributedSentence(start, end, *_mean_masses(group))
        for (start, end), group in zip(spans, groups, strict=True)
        if group
    )


def gather(masses: Iterable[tuple[str, int, float]]) -> tuple[TokenSource, ...]:
    """Add up the masses of ``(document, sentence, mass)`` by sentence; the largest first, ties by name."""
    totals: defaultdict[tuple[str, int], float] = defaultdict(float)
    for document, sentence, mass in masses:
        totals[document, sentence] += mass
    ordered = sorted(totals.items(), key=lambda item: (-item[1], item[0]))
    return tuple(TokenSource(document, sentence, mass) for (document, sentence), mass in ordered)


def _mean_masses(tokens: Sequence[GeneratedToken]) -> tuple[float, tuple[TokenSource, ...], float]:
    share = 1 / len(tokens)
    parametric = sum(token.parametric_mass for token in tokens) * share
    sources = gather((s.document, s.sentence, s.mass * share) for token in tokens for s in token.sources)
    return parametric, sources, sum(token.unnamed_mass for token in tokens) * share
