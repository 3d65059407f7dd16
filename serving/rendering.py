"""Tokens, sentences and sources in the form in which answers carry them.

The OpenAI shape where it has one: ``logprobs`` as its completions have them, and annotations with its
names (``start_index``, ``end_index``, ``title``, ``url``) around what only SILO knows: license, owner, mass.
Indices count characters (code points) of the choice's text. Makes plain JSON values; knows nothing of HTTP.
"""

from collections.abc import Callable, Iterable
from typing import Any

from serving.engine import Passage
from serving.protocols import Generation
from silo.attribution import AttributedSentence, GeneratedToken, TokenSource
from silo.sentences import sentence_spans

MAX_SOURCE_CHARACTERS = 300
"""Of a source sentence: enough to recognize it by."""

MAX_SHOWN_SOURCES = 16
"""Of a generated sentence. It may have hundreds, and each that is shown is looked up."""

LOWEST_LOGPROB = -9999.0
"""Stands for minus infinity, which JSON has not; the OpenAI API uses the same number."""

PassageOf = Callable[[TokenSource], Passage | None]


def logprobs_json(tokens: Iterable[GeneratedToken], token_text: Callable[[int], str], n_top: int) -> dict[str, Any]:
    """The ``logprobs`` of a choice: the chosen tokens, and the ``n_top`` likeliest beside each.

    A chosen token is in its own ``top_logprobs`` too, likely or not, as it is in the OpenAI API.
    """
    columns: dict[str, Any] = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
    for token in tokens:
        name, logprob = token_text(token.id), _finite(token.logprob)
        top: dict[str, float] = {}
        for other, other_logprob in token.top_logprobs[:n_top]:
            top.setdefault(token_text(other), _finite(other_logprob))
        top[name] = logprob
        columns["tokens"].append(name)
        columns["token_logprobs"].append(logprob)
        columns["top_logprobs"].append(top)
        columns["text_offset"].append(token.start)
    return columns


class SentenceFeed:
    """The annotations of a completion in the making, each handed out once: when its sentence is final.

    A sentence is final when a later one has begun, or at the end.
    """

    def __init__(self, generation: Generation, passage_of: PassageOf) -> None:
        self._generation = generation
        self._passage_of = passage_of
        self._n_begun = 1
        self._n_told = 0

    def so_far(self) -> list[dict[str, Any]]:
        """The annotations that became final since the last call."""
        spans = sentence_spans(self._generation.text)
        if len(spans) <= self._n_begun:
            return []
        self._n_begun = len(spans)
        begun = spans[-1][0]
        return self._tell(sentence for sentence in self._generation.sentences() if sentence.end <= begun)

    def rest(self) -> list[dict[str, Any]]:
        """The remaining annotations, after the end."""
        return self._tell(self._generation.sentences())

    def _tell(self, final: Iterable[AttributedSentence]) -> list[dict[str, Any]]:
        fresh = list(final)[self._n_told :]
        self._n_told += len(fresh)
        return [annotation_json(sentence, self._passage_of) for sentence in fresh]


def annotation_json(sentence: AttributedSentence, passage_of: PassageOf) -> dict[str, Any]:
    """A generated sentence with its sources; their masses and the parametric one sum to one.

    Sources come by falling mass, every one with its document and mass; the first ``MAX_SHOWN_SOURCES``
    are shown in full. One of those that has left the datastore keeps its mass, so that the sum stays
    true, and shows nothing but the id that it was known by.
    """
    shown, rest = sentence.sources[:MAX_SHOWN_SOURCES], sentence.sources[MAX_SHOWN_SOURCES:]
    return {
        "type": "silo_attribution",
        "start_index": sentence.start,
        "end_index": sentence.end,
        "parametric_mass": sentence.parametric_mass,
        "sources": [
            *(_source_json(source, passage_of(source)) for source in shown),
            *({"document_id": source.document, "mass": source.mass} for source in rest),
        ],
    }


def _source_json(source: TokenSource, passage: Passage | None) -> dict[str, Any]:
    if passage is None:
        return {"document_id": source.document, "mass": source.mass, "removed": True}
    facts = passage.document.facts
    return {
        "document_id": source.document,
        "title": facts.title,
        "url": facts.url,
        "license": facts.license,
        "owner": facts.owner,
        "source": facts.source,
        "sentence": source.sentence,
        "text": passage.text.strip()[:MAX_SOURCE_CHARACTERS],
        "mass": source.mass,
        "removed": False,
    }


def _finite(logprob: float) -> float:
    return max(logprob, LOWEST_LOGPROB)
