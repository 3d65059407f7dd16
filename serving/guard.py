"""Ends a completion that reads a document out to a key that has had its share of it today.

A sentence of a high-risk document counts as read when a completion repeats a run of its words, whoever asked for
sources or not; what would repeat one more than the budget allows is not said.

The run may begin in the prompt, and may be of a sentence that nobody has ended yet: so it makes no difference into how
many requests a text is cut, as long as each brings the last few words to go on from. ``silo.copyguard``, which sees one
request at a time, could not tell.
"""

import heapq
import re
from collections import defaultdict, deque
from collections.abc import Iterable

from serving.access import Reader
from serving.drafts import Draft
from serving.jobs import Made
from silo.attribution import TokenSource

MIN_WORDS = 8
"""In a row: shorter runs are common to texts that have nothing to do with each other."""
N_SOURCES = 3
"""That are looked at, by falling mass; what is repeated word for word is owed to one."""
_N_TOKENS = 2 * MIN_WORDS
"""The last ones, whose sources are looked at."""

_WORD = re.compile(r"\w+")
Sentence = tuple[str, int]
"""A document, and the number of its sentence."""


class Guard:
    """Looks at one completion of ``prompt``, token by token."""

    def __init__(self, draft: Draft, reader: Reader, prompt: str = "") -> None:
        self._draft, self._reader = draft, reader
        self._before = _words(prompt)[-MIN_WORDS:]
        self._may_go_on = prompt[-1:].isalnum()
        """Whether the prompt may end inside of a word."""
        self._last: deque[tuple[TokenSource, ...]] = deque(maxlen=_N_TOKENS)
        self._n_seen = 0
        """Words of prompt and completion that have been looked at, but for the last, which may go on."""
        self._told: set[Sentence] = set()
        self._known: tuple[int | None, dict[Sentence, list[str]]] = (None, {})
        """Words of sentences, as of an epoch."""

    def forbids(self, event: Made) -> bool:
        """Whether the completion is to end before the token of ``event``, which the draft has not taken."""
        if not self._reader.has_budget:
            return False
        self._last.append(event.token.sources)
        words = self._with_prompt(self._draft.text + event.token.text)
        runs = [words[n - MIN_WORDS : n] for n in range(max(MIN_WORDS, self._n_seen + 1), len(words) + 1)]
        self._n_seen = max(len(words) - 1, 0)
        if not runs:
            return False
        if self._known[0] != event.epoch:
            self._known = event.epoch, {}
        sentences = list(self._sentences(event))
        return any(self._is_over(run, sentences) for run in runs)

    def _with_prompt(self, completion: str) -> list[str]:
        """The words of ``completion``, after what a run can begin with that has a word of it."""
        words = _words(completion)
        if self._before and self._may_go_on and completion[:1].isalnum():
            return [*self._before[:-1], self._before[-1] + words[0], *words[1:]]
        return [*self._before[1 - MIN_WORDS :], *words]

    def _sentences(self, event: Made) -> Iterable[Sentence]:
        """Those to which the last tokens are owed, and those that the LM read before the text: what it copies from them
        is in no sum."""
        masses: defaultdict[Sentence, float] = defaultdict(float)
        for sources in self._last:
            for source in sources:
                masses[source.document, source.sentence] += source.mass
        owed = heapq.nlargest(N_SOURCES, masses, key=lambda one: (masses[one], one))
        read = event.context_sources or self._draft.context_sources
        return dict.fromkeys([*owed, *((one.document, n) for one in read for n in range(*one.sentences))])

    def _is_over(self, run: list[str], sentences: list[Sentence]) -> bool:
        """Whether ``run`` stands in one of ``sentences``, and the key may not be told that one; the first counts."""
        places = [one for one in sentences if _stands_in(run, self._words_of(one))]
        if not places or not self._told.isdisjoint(places):
            return False
        source = TokenSource(*places[0], 0.0)
        passage = self._reader.engine.passage(source)
        if passage is None or self._reader.may_read(source, passage):
            self._told.add(places[0])
            return False
        return True

    def _words_of(self, sentence: Sentence) -> list[str]:
        """Of a sentence of high risk; none of any other."""
        known = self._known[1]
        if sentence not in known:
            passage = self._reader.engine.passage(TokenSource(*sentence, 0.0))
            is_counted = passage is not None and passage.document.facts.risk == "HIGH_RISK"
            known[sentence] = _words(passage.text or "") if passage is not None and is_counted else []
        return known[sentence]


def _words(text: str) -> list[str]:
    return [word.casefold() for word in _WORD.findall(text)]


def _stands_in(run: list[str], words: list[str]) -> bool:
    return any(words[i : i + len(run)] == run for i in range(len(words) - len(run) + 1))
