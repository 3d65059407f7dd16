"""Tokens, sentences and sources in the form in which answers carry them.

The OpenAI shape where it has one: ``logprobs`` as its completions have them, and annotations with its
names (``start_index``, ``end_index``, ``title``, ``url``) around what only SILO knows: license, owner, mass.
Indices count characters (code points) of the choice's text. Makes plain JSON values; knows nothing of HTTP.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from difflib import SequenceMatcher
from typing import Any, Protocol

from serving.engine import Passage
from silo.attribution import AttributedSentence, ContextSource, GeneratedToken, TokenSource
from silo.scored import ScoredText, ScoredToken
from silo.sentences import sentence_spans

MAX_SHOWN_SOURCES = 16
"""Of a generated sentence. It may have hundreds, and each that is shown is looked up."""

LOWEST_LOGPROB = -9999.0
"""Stands for minus infinity, which JSON has not; the OpenAI API uses the same number."""

MAX_TOP = 20
"""Likeliest tokens that are told of one place."""

OF_LARGEST = ("title", "url", "document_id", "license", "owner", "sentence", "mass", "verbatim")

_WORD = re.compile(r"\w+|[^\w\s]")

PassageOf = Callable[[TokenSource], Passage | None]


def logprobs_json(
    tokens: Iterable[GeneratedToken | ScoredToken], token_text: Callable[[int], str], n_top: int, start: int = 0
) -> dict[str, Any]:
    """The ``logprobs`` of a choice: the chosen tokens, and the ``n_top`` likeliest beside each.

    ``start`` is where the text of ``tokens`` begins in that of the choice.

    A chosen token is in its own ``top_logprobs`` too, likely or not, as it is in the OpenAI API.
    """
    columns: dict[str, Any] = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
    for token in tokens:
        name, logprob = token_text(token.id), _finite(token.logprob)
        top: dict[str, float] = {}
        for other, other_logprob in token.top_logprobs[:n_top]:
            top.setdefault(token_text(other), _finite(other_logprob))
        top[name] = max(logprob, top.get(name, logprob))
        columns["tokens"].append(name)
        columns["token_logprobs"].append(logprob)
        columns["top_logprobs"].append(top)
        columns["text_offset"].append(start + token.start)
    return columns


def echo_logprobs_json(prompt: ScoredText, token_text: Callable[[int], str]) -> dict[str, Any]:
    """The ``logprobs`` of an echoed prompt; its first token has none, as in the OpenAI API."""
    columns = logprobs_json(prompt.tokens, token_text, MAX_TOP)
    for name in ("token_logprobs", "top_logprobs"):
        columns[name][:1] = [None] * len(columns[name][:1])
    return columns


class Growing(Protocol):
    """A completion in the making."""

    @property
    def text(self) -> str:
        """So far."""
        ...

    @property
    def epoch(self) -> int | None:
        """The version of the datastore that answered last."""
        ...

    def sentences(self) -> Sequence[AttributedSentence]:
        """So far, with their sources."""
        ...


class FinalSentences:
    """The sentences of a completion in the making, each handed out once: when it is final.

    A sentence is final when a later one has begun, or at the end.
    """

    def __init__(self, generation: Growing) -> None:
        self._generation = generation
        self._n_begun = 1
        self._n_told = 0

    def so_far(self) -> list[AttributedSentence]:
        """Those that became final since the last call."""
        spans = sentence_spans(self._generation.text)
        if len(spans) <= self._n_begun:
            return []
        self._n_begun = len(spans)
        begun = spans[-1][0]
        return self._tell(sentence for sentence in self._generation.sentences() if sentence.end <= begun)

    def rest(self) -> list[AttributedSentence]:
        """The remaining ones, after the end."""
        return self._tell(self._generation.sentences())

    def _tell(self, final: Iterable[AttributedSentence]) -> list[AttributedSentence]:
        fresh = list(final)[self._n_told :]
        self._n_told += len(fresh)
        return fresh


class SentenceFeed:
    """The annotations of a completion in the making, as its sentences become final."""

    def __init__(self, generation: Growing, passage_of: PassageOf) -> None:
        self._generation = generation
        self._passage_of = passage_of
        self._final = FinalSentences(generation)

    def so_far(self) -> list[dict[str, Any]]:
        """The annotations that became final since the last call."""
        return self._rendered(self._final.so_far())

    def rest(self) -> list[dict[str, Any]]:
        """The remaining annotations, after the end."""
        return self._rendered(self._final.rest())

    def _rendered(self, sentences: Iterable[AttributedSentence]) -> list[dict[str, Any]]:
        text, epoch = self._generation.text, self._generation.epoch
        return [
            annotation_json(sentence, text[sentence.start : sentence.end], epoch, self._passage_of)
            for sentence in sentences
        ]


def annotation_json(
    sentence: AttributedSentence, text: str, epoch: int | None, passage_of: PassageOf
) -> dict[str, Any]:
    """A generated sentence, which reads ``text``, with its sources.

    Their masses, the parametric one and ``unnamed_mass`` sum to one.

    The fields of the largest source stand on the annotation itself too, where clients look that know the
    ``url_citation`` of the OpenAI API.

    Sources come by falling mass, every one with its document and mass; the first ``MAX_SHOWN_SOURCES``
    are shown in full. One of those that has left the datastore keeps its mass, so that the sum stays
    true, and shows nothing but the id that it was known by.
    """
    shown, rest = sentence.sources[:MAX_SHOWN_SOURCES], sentence.sources[MAX_SHOWN_SOURCES:]
    sources = [
        *(_source_json(source, text, passage_of(source)) for source in shown),
        *({"document_id": source.document, "mass": source.mass} for source in rest),
    ]
    return {
        "type": "silo_attribution",
        "start_index": sentence.start,
        "end_index": sentence.end,
        **{name: sources[0].get(name) if sources else None for name in OF_LARGEST},
        "parametric_mass": sentence.parametric_mass,
        "unnamed_mass": sentence.unnamed_mass,
        "datastore_version": epoch,
        "sources": sources,
    }


def context_json(
    sources: Iterable[ContextSource], tokens: Sequence[GeneratedToken], passage_of: PassageOf
) -> list[dict[str, Any]]:
    """What the LM read before the text, and for which of its ``tokens``; no mass, since no sum has it.

    ``text`` is how it begins. One that has left the datastore shows nothing but the id that it was known by.
    """
    return [_context_json(source, tokens, passage_of) for source in sources]


def _context_json(source: ContextSource, tokens: Sequence[GeneratedToken], passage_of: PassageOf) -> dict[str, Any]:
    first, last = source.tokens[0], min(source.tokens[1], len(tokens)) - 1
    start = tokens[first].start if first <= last else 0
    end = tokens[last].start + len(tokens[last].text) if first <= last else 0
    same = {"document_id": source.document, "start_index": start, "end_index": end}
    passage = passage_of(TokenSource(source.document, source.sentences[0], 0.0))
    if passage is None:
        return same | {"removed": True}
    facts = passage.document.facts
    return same | {
        "title": facts.title,
        "url": facts.url,
        "license": facts.license,
        "owner": facts.owner,
        "source": facts.source,
        "sentences": list(source.sentences),
        "text": passage.excerpt,
        "removed": False,
    }


def shifted(annotations: Iterable[dict[str, Any]], characters: int) -> list[dict[str, Any]]:
    """``annotations`` of a text that has so many ``characters`` put before it, or taken away where negative."""
    return [
        note
        | {"start_index": max(0, note["start_index"] + characters), "end_index": max(0, note["end_index"] + characters)}
        for note in annotations
    ]


def verbatim(text: str, source: str) -> str:
    """The longest run of words that ``text`` takes from ``source`` as it stands there; empty where it has no two."""
    words, own = [[match.span() for match in _WORD.finditer(t)] for t in (text, source)]
    names = [text[start:end].casefold() for start, end in words]
    theirs = [source[start:end].casefold() for start, end in own]
    run = SequenceMatcher(None, names, theirs, autojunk=False).find_longest_match()
    return text[words[run.a][0] : words[run.a + run.size - 1][1]] if run.size > 1 else ""


def _source_json(source: TokenSource, text: str, passage: Passage | None) -> dict[str, Any]:
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
        "text": passage.excerpt,
        "verbatim": None if passage.text is None else verbatim(text, passage.text),
        "mass": source.mass,
        "removed": False,
    }


def chat_logprobs_json(
    tokens: Iterable[GeneratedToken], token_text: Callable[[int], str], n_top: int
) -> dict[str, Any]:
    """The ``logprobs`` of a choice in a conversation."""

    def entry(name: str, logprob: float) -> dict[str, Any]:
        return {"token": name, "logprob": _finite(logprob), "bytes": list(name.encode())}

    return {
        "content": [
            entry(token_text(token.id), token.logprob)
            | {"top_logprobs": [entry(token_text(other), logprob) for other, logprob in token.top_logprobs[:n_top]]}
            for token in tokens
        ],
        "refusal": None,
    }


def _finite(logprob: float) -> float:
    return max(logprob, LOWEST_LOGPROB)
