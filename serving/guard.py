"""Ends a completion that reads a document out to a key that has had its share of it today.

A sentence of a high-risk document counts as read when a completion repeats a run of its words, whoever asked for
sources or not; what repeats once more than the budget allows is the last thing that is said.
"""

from serving.access import Reader
from serving.drafts import Draft
from serving.rendering import FinalSentences, verbatim
from silo.attribution import AttributedSentence, TokenSource

MIN_WORDS = 8
"""In a row: shorter runs are common to texts that have nothing to do with each other."""
N_SOURCES = 3
"""Of a sentence that are looked at, by falling mass; what is repeated word for word is owed to one."""


class Guard:
    """Looks at one completion as its sentences become final."""

    def __init__(self, draft: Draft, reader: Reader) -> None:
        self._draft, self._reader = draft, reader
        self._final = FinalSentences(draft)
        self._is_on = reader.has_budget

    def forbids_more(self) -> bool:
        """Whether the completion is to end here; asked after each token."""
        return self._is_on and any(self._is_over(sentence) for sentence in self._final.so_far())

    def _is_over(self, sentence: AttributedSentence) -> bool:
        text = self._draft.text[sentence.start : sentence.end]
        owed = [(self._run(text, source), source) for source in sentence.sources[:N_SOURCES]]
        read = [(self._run(text, source), source) for source in self._read()]
        for n_words, source in owed + sorted(read, key=lambda one: -one[0])[:1]:
            passage = self._reader.engine.passage(source) if n_words >= MIN_WORDS else None
            if passage is not None and not self._reader.may_read(source, passage):
                return True
        return False

    def _run(self, text: str, source: TokenSource) -> int:
        """How many words in a row ``text`` has from the sentence ``source``, where that is of high risk."""
        passage = self._reader.engine.passage(source)
        if passage is None or passage.text is None or passage.document.facts.risk != "HIGH_RISK":
            return 0
        return len(verbatim(text, passage.text).split())

    def _read(self) -> list[TokenSource]:
        """Sentences that the LM read before the text: what it copies from them is in no sum."""
        read = {(one.document, n) for one in self._draft.context_sources for n in range(*one.sentences)}
        return [TokenSource(document, sentence, 0.0) for document, sentence in sorted(read)]
