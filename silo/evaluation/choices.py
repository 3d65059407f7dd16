"""Which answer a model prefers, and how often it is the right one.

The rules are those of kNN-Prompt (Shi et al. 2022), by which Min et al. (2023) measure downstream tasks:

    probability      log p(word | text)
    per byte         log p(word | text) / bytes of the word
    PMI              log p(word | text) - log p(word | neutral prompt)
    fuzzy            log of the sum of p over all words that say an answer; likewise its PMI

The neutral prompt is read by the same predictor as the text. Probabilities come from the mixture (`silo.scoring`);
nothing is tuned.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from silo.errors import BadRequest
from silo.evaluation.items import Item
from silo.evaluation.likelihood import N_RESAMPLES
from silo.generation import Silo
from silo.scoring import score_continuations
from silo.settings import GenerationSettings
from silo.tokenizer import tokenize

_TIE = 1e-9
"""Nats within which two answers are equally good."""
Words = tuple[tuple[float, ...], ...]
"""Natural logs of probabilities: of each word of each answer."""


@dataclass(frozen=True)
class Judged:
    """What a predictor gave to the answers of an item."""

    item: Item
    given: Words
    """After the text."""
    neutral: Words
    """After the neutral prompt."""


@dataclass(frozen=True)
class Accuracy:
    """How many items a rule gets right."""

    n_items: int
    accuracy: float
    interval: tuple[float, float]
    """95 %, by drawing the items anew with replacement (percentile bootstrap)."""
    chance: float
    """Of who knows nothing."""


@dataclass(frozen=True)
class Lead:
    """By how much one predictor is more often right than another."""

    accuracy: float
    interval: tuple[float, float]
    """95 %, both judged on the same items drawn anew."""


def judge(silo: Silo, items: Iterable[Item], settings: GenerationSettings) -> Iterator[Judged]:
    """What ``silo`` gives to the answers of each of ``items``, mixed as ``settings`` say, or as its gate does.

    The beginning of a text that is too long is not shown. Raises BadRequest where an answer alone is.
    """
    neutral: dict[tuple[str, tuple[tuple[str, ...], ...]], Words] = {}
    for item in items:
        key = (item.neutral, item.answers)
        if key not in neutral:
            neutral[key] = _given(silo, item.neutral, item, settings)
        yield Judged(item, _given(silo, item.text, item, settings), neutral[key])


def rules_for(items: Sequence[Item]) -> tuple[str, ...]:
    """The rules that differ on ``items``."""
    has_words = any(len(words) > 1 for item in items for words in item.answers)
    return tuple(name for name in RULES if has_words or not name.startswith("fuzzy"))


def marks(judged: Sequence[Judged], rule: str) -> Float[np.ndarray, " n"]:
    """For each item 1 where the best answer by ``rule`` is right, 0 where not, and a part where several are best."""
    found = np.zeros(len(judged))
    for i, one in enumerate(judged):
        scores = np.array(RULES[rule](one))
        best = scores >= scores.max() - _TIE
        found[i] = best[one.item.right] / best.sum()
    return found


def accuracy(judged: Sequence[Judged], rule: str, seed: int = 0) -> Accuracy:
    """How often ``rule`` is right. Raises BadRequest where there is no item."""
    if not judged:
        raise BadRequest("an accuracy needs at least one item; got none")
    found = marks(judged, rule)
    chance = float(np.mean([1 / len(one.item.answers) for one in judged]))
    return Accuracy(len(found), float(found.mean()), _interval(found, seed), chance)


def lead(judged: Sequence[Judged], other: Sequence[Judged], rule: str, seed: int = 0) -> Lead:
    """By how much ``judged`` is more often right than ``other``. Raises BadRequest unless the items are the same."""
    if [one.item for one in judged] != [one.item for one in other] or not judged:
        raise BadRequest("a lead needs two predictors that judged the same items")
    gains = marks(judged, rule) - marks(other, rule)
    return Lead(float(gains.mean()), _interval(gains, seed))


def continuation(silo: Silo, text: str, word: str) -> tuple[list[int], list[int]]:
    """The tokens of ``text``, and those that ``word`` adds to them."""
    before = tokenize(silo.lm.tokenizer, text).ids.tolist()
    whole = tokenize(silo.lm.tokenizer, text + word).ids.tolist()
    is_joined = whole[: len(before)] != before
    return before, tokenize(silo.lm.tokenizer, word).ids.tolist() if is_joined else whole[len(before) :]


def _given(silo: Silo, text: str, item: Item, settings: GenerationSettings) -> Words:
    split = [[continuation(silo, text, word) for word in words] for words in item.answers]
    added = [after for words in split for _, after in words]
    room = silo.lm.context_length - 1 - max(map(len, added))
    if room < 1 or not all(added):
        raise BadRequest(f"item {item.id!r}: an answer must have 1 to {silo.lm.context_length - 2} tokens")
    found = iter(score_continuations(silo.lm, silo.datastore, split[0][0][0][-room:], added, settings, silo.gate))
    return tuple(tuple(next(found) for _ in words) for words in split)


def _plainest(one: Judged) -> list[float]:
    return [words[0] for words in one.given]


def _per_byte(one: Judged) -> list[float]:
    sizes = [len(said[0].strip().encode("utf-8")) for said in one.item.answers]
    return [words[0] / size for words, size in zip(one.given, sizes, strict=True)]


def _pmi(one: Judged) -> list[float]:
    return [_less(words[0], before[0]) for words, before in zip(one.given, one.neutral, strict=True)]


def _fuzzy(one: Judged) -> list[float]:
    return [float(np.logaddexp.reduce(words)) for words in one.given]


def _fuzzy_pmi(one: Judged) -> list[float]:
    before = [float(np.logaddexp.reduce(words)) for words in one.neutral]
    return [_less(after, ahead) for after, ahead in zip(_fuzzy(one), before, strict=True)]


def _less(after: float, before: float) -> float:
    """The difference of two log-probabilities; what is impossible stays so, wherever it stands."""
    return after - before if math.isfinite(after) else after


RULES: dict[str, Callable[[Judged], list[float]]] = {
    "probability": _plainest,
    "per byte": _per_byte,
    "pmi": _pmi,
    "fuzzy": _fuzzy,
    "fuzzy pmi": _fuzzy_pmi,
}
"""How an answer is scored; the best score is preferred."""


def _interval(values: Float[np.ndarray, " n"], seed: int) -> tuple[float, float]:
    drawn = np.random.default_rng(seed).integers(len(values), size=(N_RESAMPLES, len(values)))
    low, high = np.quantile(values[drawn].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)
