"""Ends a completion that reads a document out to a key that has had its share of it today.

A sentence of a high-risk document counts as read when a completion repeats a run of its words, whoever asked for
sources or not; what repeats once more than the budget allows is the last thing that is said.
"""

from serving.access import Reader
from serving.drafts import Draft
from serving.rendering import FinalSentences, verbatim
from silo.attribution import AttributedSentence

MIN_WORDS = 8
"""In a row: shorter runs are common to texts that have nothing to do with each other."""
N_SOURCES = 3
"""Of a sentence that are looked at, by falling mass; what is repeated word for word is owed to one."""


class Guard:
    """Looks at one completion as its sentences become final."""

    def __init__(self, draft: Draft, reader: Reader) -> None:
        self._draft, self._reader = draft, reader
        self._final = FinalSentences(draft)
        self._is_on = reader.key is not None

    def forbids_more(self) -> bool:
        """Whether the completion is to end here; asked after each token."""
        return self._is_on and any(self._is_over(sentence) for sentence in self._final.so_far())

    def _is_over(self, sentence: AttributedSentence) -> bool:
        text = self._draft.text[sentence.start : sentence.end]
        for source in sentence.sources[:N_SOURCES]:
            passage = self._reader.engine.passage(source)
            if passage is None or passage.text is None or passage.document.facts.risk != "HIGH_RISK":
                continue
            if len(verbatim(text, passage.text).split()) >= MIN_WORDS and not self._reader.may_read(source, passage):
                return True
        return False
