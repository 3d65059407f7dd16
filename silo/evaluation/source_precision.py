"""Whether the named source is the right one: on facts that were planted, and beside a search after the fact.

A planted fact has one sentence that can be its source. An LM with the store goes on from the fact's first words; the
generated tokens that are the fact's answer are its **fact tokens**, and each should owe most to the planted sentence.
The control: without the planted documents the answer must not come.

Where text is generated freely nobody knows the source. There the sentence that is owed most is compared with the one
that BM25 would name; **agreement is no precision**: the two answer different questions, what made it and what is like
it.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from datastore.store import Datastore
from silo.attribution import GeneratedToken
from silo.evaluation.planted_facts import Fact
from silo.evaluation.sentence_search import SentenceSearch
from silo.evaluation.served import Reading, Served
from silo.generation import Silo
from silo.tokenizer import tokenize

N_RANKED = 10
"""Sentences of the baseline among which the source is looked for."""


@dataclass(frozen=True)
class Answered:
    """What was generated for one fact."""

    fact: Fact
    n_tokens: int
    """Of its answer."""
    tokens: tuple[GeneratedToken, ...]
    """Those of the answer that were generated, up to the first that is another."""
    others: tuple[GeneratedToken, ...]
    """The rest of what was generated."""
    similar: tuple[tuple[str, int], ...] | None
    """What the baseline names for prompt and answer, best first; None where it was not asked."""

    @property
    def is_whole(self) -> bool:
        """Whether all of the answer came."""
        return len(self.tokens) == self.n_tokens

    @property
    def n_right(self) -> int:
        """Fact tokens that owe more to the planted sentence than to any other."""
        return sum(_top(token) == (self.fact.document, self.fact.sentence) for token in self.tokens)

    @property
    def masses(self) -> tuple[float, ...]:
        """What each fact token owes to the planted sentence."""
        place = (self.fact.document, self.fact.sentence)
        return tuple(math.fsum(s.mass for s in t.sources if (s.document, s.sentence) == place) for t in self.tokens)


@dataclass(frozen=True)
class Compared:
    """A generated sentence, with the source that it owes most and what the baseline names."""

    owed: tuple[str, int]
    mass: float
    """That is owed to it."""
    similar: tuple[tuple[str, int], ...]
    tokens: tuple[GeneratedToken, ...]
    """Of the whole completion."""


def answers(
    served: Served, store: Datastore, facts: Iterable[Fact], search: SentenceSearch | None = None
) -> Iterator[Answered]:
    """Ask for each of ``facts`` by its first words; greedily, with the copy guard off."""
    silo = Silo(served.lm, store, served.gate)
    for fact in facts:
        whole = tokenize(served.lm.tokenizer, f"{fact.prompt}{fact.answer}.")
        n_prompt = int((whole.ends <= len(fact.prompt)).sum())
        n_answer = int((whole.starts < len(fact.prompt + fact.answer)).sum()) - n_prompt
        wanted = whole.ids[n_prompt : n_prompt + n_answer].tolist()
        settings = replace(served.settings, max_tokens=n_answer, temperature=0.0, max_verbatim=None)
        said = list(silo.generate(whole.ids[:n_prompt].tolist(), settings))
        is_same = [token.id == one for token, one in zip(said, wanted, strict=False)]
        n_same = is_same.index(False) if False in is_same else len(is_same)
        similar = None if search is None else tuple(search.best(fact.prompt + fact.answer, N_RANKED))
        yield Answered(fact, n_answer, tuple(said[:n_same]), tuple(said[n_same:]), similar)


def compared(
    served: Served,
    store: Datastore,
    readings: Iterable[Reading],
    search: SentenceSearch,
    n_prompt: int = 32,
    n_generated: int = 32,
) -> Iterator[Compared]:
    """Go on from the beginning of each text, and compare the source of each sentence with the baseline's."""
    silo = Silo(served.lm, store, served.gate)
    for reading in readings:
        prompt = reading.tokens[reading.tokens != served.lm.boundary].tolist()[:n_prompt]
        settings = replace(served.settings, max_tokens=n_generated, temperature=0.0, max_verbatim=None)
        generation = silo.generate(prompt, settings)
        tokens = tuple(generation)
        for sentence in generation.sentences():
            said = generation.text[sentence.start : sentence.end]
            similar = tuple(search.best(said, N_RANKED))
            if sentence.sources and similar:
                source = sentence.sources[0]
                yield Compared((source.document, source.sentence), source.mass, similar, tokens)


def deviation(tokens: Iterable[GeneratedToken]) -> float:
    """The largest difference to one of the masses of any of ``tokens``."""
    sums = (t.parametric_mass + t.unnamed_mass + sum(source.mass for source in t.sources) for t in tokens)
    return max((abs(total - 1) for total in sums), default=0.0)


def precision(found: Sequence[Answered]) -> dict[str, float | int | None]:
    """The figures of planted facts; None where there is no token to speak of."""
    n_tokens = sum(len(one.tokens) for one in found)
    masses = [mass for one in found for mass in one.masses]
    places = [(one.similar, (one.fact.document, one.fact.sentence)) for one in found]
    first = [similar[:1] == (place,) for similar, place in places if similar is not None]
    return {
        "n_facts": len(found),
        "n_whole": sum(one.is_whole for one in found),
        "n_fact_tokens": n_tokens,
        "n_answer_tokens": sum(one.n_tokens for one in found),
        "precision": sum(one.n_right for one in found) / n_tokens if n_tokens else None,
        "mean_mass_of_planted": float(np.mean(masses)) if masses else None,
        "baseline_precision": sum(first) / len(first) if first else None,
    }


def agreement(found: Sequence[Compared]) -> dict[str, float | int | None]:
    """How often the baseline names what is owed most: first, among its ``N_RANKED``, or in the same document."""

    def share(hits: list[bool]) -> float | None:
        return sum(hits) / len(hits) if hits else None

    return {
        "n_sentences": len(found),
        "first": share([one.owed == one.similar[0] for one in found]),
        "among_ranked": share([one.owed in one.similar for one in found]),
        "same_document": share([one.owed[0] == one.similar[0][0] for one in found]),
        "mean_mass_of_first_source": float(np.mean([one.mass for one in found])) if found else None,
    }


def _top(token: GeneratedToken) -> tuple[str, int] | None:
    return (token.sources[0].document, token.sources[0].sentence) if token.sources else None
