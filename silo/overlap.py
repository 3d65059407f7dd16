"""How much of one text is in another, by runs of words; and which documents repeat an evaluation.

Pure functions on documents; opens no file and knows neither the LM nor the datastore, so that training text
and datastore text are held against evaluations by the same rule. A gain on an evaluation whose text was
in the datastore is a copy, not a prediction; hence Brown et al. (2020), appendix C: runs of 13 words.

A document repeats an evaluation where a share of its own runs is in it, or where one passage of it is: a
long book that holds one test document whole has a small share and is no less a leak.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, UInt64

from silo.documents import Document
from silo.shingles import ngrams, words

N = 13
"""Words in a run, by default."""
MAX_SHARE = 0.1
MAX_WORDS = 100
"""What `silo datastore` goes by, and a recipe that names none of its own."""


@dataclass(frozen=True)
class Evaluation:
    """The runs of words of one evaluation."""

    name: str
    n: int
    ngrams: UInt64[np.ndarray, " ngrams"]
    """Sorted, each once."""

    @classmethod
    def of(cls, name: str, documents: Iterable[Document], n: int = N) -> "Evaluation":
        """The runs of ``documents``. Those shorter than ``n`` words have none and cannot be found again."""
        found = [np.unique(ngrams(words(document.text), n)) for document in documents]
        return cls(name, n, np.unique(np.concatenate(found or [np.zeros(0, np.uint64)])))

    def holds(self, runs: UInt64[np.ndarray, " runs"]) -> Bool[np.ndarray, " runs"]:
        """Which of ``runs`` occur in the evaluation."""
        if not len(self.ngrams):
            return np.zeros(len(runs), dtype=bool)
        at = np.minimum(np.searchsorted(self.ngrams, runs), len(self.ngrams) - 1)
        return self.ngrams[at] == runs


@dataclass(frozen=True)
class Repeat:
    """What a document has in common with an evaluation."""

    evaluation: str
    share: float
    """Of the document's runs, those that occur in the evaluation."""
    n_words: int
    """Length of the longest passage whose runs all occur there; 0 where none does."""

    def __str__(self) -> str:
        return f"repeats {self.evaluation}: {self.share:.1%} of its runs, at most {self.n_words} words on end"


def repeat(text: str, evaluation: Evaluation) -> Repeat:
    """What ``text`` has in common with ``evaluation``."""
    return _repeat(ngrams(words(text), evaluation.n), evaluation)


def contaminated(
    text: str, evaluations: Iterable[Evaluation], max_share: float = MAX_SHARE, max_words: int = MAX_WORDS
) -> Repeat | None:
    """The first evaluation that ``text`` repeats: more than ``max_share`` of it, or a passage over ``max_words``."""
    tokens: list[str] | None = None
    runs: dict[int, UInt64[np.ndarray, " runs"]] = {}
    for evaluation in evaluations:
        if evaluation.n not in runs:
            tokens = words(text) if tokens is None else tokens
            runs[evaluation.n] = ngrams(tokens, evaluation.n)
        found = _repeat(runs[evaluation.n], evaluation)
        if found.share > max_share or found.n_words > max_words:
            return found
    return None


def shares(
    documents: Iterable[tuple[str, Document]], evaluations: Iterable[Evaluation]
) -> Mapping[str, Mapping[str, float]]:
    """For each evaluation and each domain of training text: the share of the *evaluation's* runs that occur there.

    ``documents`` come with the name of their domain. This is figure 2 of Min et al. (2023), for n words. The
    key ``all`` is the share that occurs in any domain, which is less than the sum where domains share text.
    """
    evaluations = list(evaluations)
    seen: dict[str, list[np.ndarray]] = {}
    for domain, document in documents:
        if domain not in seen:
            seen[domain] = [np.zeros(len(evaluation.ngrams), dtype=bool) for evaluation in evaluations]
        for n in {evaluation.n for evaluation in evaluations}:
            runs = np.unique(ngrams(words(document.text), n))
            for flags, evaluation in zip(seen[domain], evaluations, strict=True):
                if evaluation.n == n and len(evaluation.ngrams):
                    found = runs[evaluation.holds(runs)]
                    flags[np.searchsorted(evaluation.ngrams, found)] = True
    table: dict[str, dict[str, float]] = {}
    for index, evaluation in enumerate(evaluations):
        columns = {domain: flags[index] for domain, flags in seen.items()}
        columns["all"] = np.any([np.zeros(len(evaluation.ngrams), dtype=bool), *columns.values()], axis=0)
        total = max(len(evaluation.ngrams), 1)
        table[evaluation.name] = {domain: float(flags.sum()) / total for domain, flags in columns.items()}
    return table


def read_evaluations(locations: Iterable[str], n: int = N) -> Iterator[Evaluation]:
    """The evaluation at each location, named by it."""
    from silo.corpora import read_documents

    for location in locations:
        yield Evaluation.of(location, read_documents(location), n)


def _repeat(runs: UInt64[np.ndarray, " runs"], evaluation: Evaluation) -> Repeat:
    held = evaluation.holds(runs)
    if not held.any():
        return Repeat(evaluation.name, 0.0, 0)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], held.astype(np.int8), [0]])))
    longest = int((edges[1::2] - edges[::2]).max())
    return Repeat(evaluation.name, float(held.mean()), longest + evaluation.n - 1)
