"""Where the halves meet: an LM continues a prompt, with a datastore mixed in and every source named.

Each step reads the LM, searches the datastore, mixes, chooses a token, and traces the chosen token to its sources
while the search still holds; if the datastore changed in between, the step searches again. An opt-out waits for steps
that run, or has them done again: so no token is chosen by, or owed to, an entry after its removal was acknowledged.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np

from datastore.errors import ReaderFenced
from datastore.store import Datastore
from silo.attribution import (
    AttributedSentence,
    GeneratedToken,
    TokenSource,
    attribute_sentences,
    gather,
)
from silo.decoder import Reading
from silo.errors import BadRequest, EncoderMismatch, PromptTooLong
from silo.lm import LanguageModel
from silo.mixture import candidates, interpolate, neighbor_logprobs, token_masses
from silo.sampling import choose, likeliest
from silo.scored import ScoredText
from silo.scoring import echoed, score
from silo.settings import GenerationSettings
from silo.textstream import TextStream, find_stop, n_held_back
from silo.tokenizer import tokenize


@runtime_checkable
class Reader(Protocol):
    """A sequence that is read token by token; ``decoder.Decoder`` is one."""

    def read(self, tokens: Sequence[int]) -> Reading:
        """Read ``tokens``; what the LM makes of the sequence then."""
        ...


class Silo:
    """An LM, alone or joined with a datastore that the same LM wrote.

    Raises:
        EncoderMismatch: another LM wrote the datastore: its keys and token ids would mean nothing here.
    """

    def __init__(self, lm: LanguageModel, datastore: Datastore | None = None) -> None:
        if datastore is not None and datastore.manifest.encoder != lm.fingerprint:
            raise EncoderMismatch(
                f"this datastore was written by encoder {datastore.manifest.encoder_name!r} "
                f"({datastore.manifest.encoder:.12}…); the loaded LM is {lm.name!r} ({lm.fingerprint:.12}…). "
                "Load the checkpoint that wrote it, or build the datastore again with `silo datastore build`."
            )
        self.lm = lm
        self.datastore = datastore

    @classmethod
    def open(cls, model: str | Path, datastore: str | Path | None = None, device: str = "cpu") -> "Silo":
        """Load a checkpoint (a folder or a hub id) and open a datastore. Raises what either raises."""
        store = None if datastore is None else Datastore.open(datastore)
        return cls(LanguageModel.load(model, device), store)

    def generate(self, prompt: str | Sequence[int], settings: GenerationSettings) -> "Generation":
        """Begin to continue ``prompt``, a text or token ids.

        Raises:
            PromptTooLong: prompt and ``max_tokens`` do not fit the LM's context.
            BadRequest: a token id is outside the vocabulary.
        """
        ids = self._ids(prompt, settings)
        return Generation(self, ids, settings)

    def score(self, prompt: str | Sequence[int], settings: GenerationSettings, n_top: int | None) -> ScoredText:
        """The text of ``prompt``, and unless ``n_top`` is None the log-probability of each of its tokens, and of as
        many of the likeliest in its place. Raises as ``generate``.
        """
        if n_top is None:
            return echoed(self.lm, prompt)
        self._ids(prompt, settings)
        return score(self.lm, self.datastore, prompt, settings.knn, n_top)

    @contextmanager
    def reading(self) -> Iterator[Reader]:
        """A new sequence to be read and continued. Whoever serves many requests reads them side by side instead."""
        yield self.lm.decoder()

    def _ids(self, prompt: str | Sequence[int], settings: GenerationSettings) -> list[int]:
        """The tokens of ``prompt``, which must leave room for ``max_tokens``."""
        if isinstance(prompt, str):
            ids = [int(token) for token in tokenize(self.lm.tokenizer, prompt).ids]
        else:
            ids = list(prompt)
            if strange := [token for token in ids if not 0 <= token < self.lm.vocab_size]:
                raise BadRequest(f"token ids must lie from 0 to {self.lm.vocab_size - 1}; got {strange[0]}")
        room = self.lm.context_length - 1
        if len(ids) + settings.max_tokens > room:
            raise PromptTooLong(
                f"the prompt has {len(ids)} tokens and max_tokens is {settings.max_tokens}; together they must "
                f"not exceed {room}. Shorten the prompt, or ask for fewer tokens."
            )
        return ids


class Generation:
    """One completion in the making. Iterate it once: tokens come as soon as no stop text can take them back."""

    def __init__(self, silo: Silo, prompt: Sequence[int], settings: GenerationSettings) -> None:
        self._silo = silo
        self._settings = settings
        self._prompt = list(prompt)
        self._released: list[GeneratedToken] = []
        self._text = ""
        self._finish_reason: Literal["stop", "length"] | None = None
        self._epoch = None if silo.datastore is None else silo.datastore.epoch

    @property
    def n_prompt_tokens(self) -> int:
        """Tokens of the prompt, without the one that opens every text."""
        return len(self._prompt)

    @property
    def text(self) -> str:
        """The completion so far; it only grows, and has no part of a stop text."""
        return self._text

    @property
    def tokens(self) -> tuple[GeneratedToken, ...]:
        """The tokens so far."""
        return tuple(self._released)

    @property
    def finish_reason(self) -> Literal["stop", "length"] | None:
        """``stop``: the end of a text, or a stop text; ``length``: max_tokens. None until the end."""
        return self._finish_reason

    @property
    def datastore_epoch(self) -> int | None:
        """The state of the datastore that answered last; None without one."""
        return self._epoch

    def sentences(self) -> tuple[AttributedSentence, ...]:
        """The sentences of the text so far, with their sources."""
        return attribute_sentences(self._text, self._released)

    def __iter__(self) -> Iterator[GeneratedToken]:
        """Make the completion; closing the iterator ends it."""
        stops = self._settings.stop
        waiting: list[GeneratedToken] = []
        text = ""
        for token in self._raw():
            waiting.append(token)
            text += token.text
            cut = find_stop(text, stops)
            if cut is not None:
                self._finish_reason = "stop"
                yield from self._release(t for t in (_cut(token, cut) for token in waiting) if t is not None)
                return
            sure = len(text) - n_held_back(text, stops)
            n_sure = next((i for i, t in enumerate(waiting) if t.start + len(t.text) > sure), len(waiting))
            yield from self._release(waiting[:n_sure])
            del waiting[:n_sure]
        yield from self._release(waiting)

    def _release(self, tokens: "Iterator[GeneratedToken] | Sequence[GeneratedToken]") -> Iterator[GeneratedToken]:
        for token in tokens:
            self._released.append(token)
            self._text += token.text
            yield token

    def _raw(self) -> Iterator[GeneratedToken]:
        """Tokens as they are chosen, without regard to stop texts."""
        if self._settings.max_tokens == 0:
            self._finish_reason = "length"
            return
        with self._silo.reading() as decoder:
            yield from self._chosen(decoder)

    def _chosen(self, decoder: Reader) -> Iterator[GeneratedToken]:
        lm, settings = self._silo.lm, self._settings
        random = np.random.default_rng(settings.seed % (1 << 64))
        stream = TextStream(lm.tokenizer, self._prompt)
        read: Sequence[int] = [lm.opening, *self._prompt]
        length = 0
        for i in range(settings.max_tokens):
            context, lm_logprobs = decoder.read(read)
            step = self._step(context.float().cpu().numpy(), lm_logprobs.cpu().numpy(), random.random())
            if step.id == lm.boundary:
                self._finish_reason = "stop"
                tail = stream.flush()
                if tail:
                    yield _with_text(step, tail, length)
                return
            text = stream.push(step.id)
            if i == settings.max_tokens - 1:
                text += stream.flush()
            yield _with_text(step, text, length)
            length += len(text)
            read = [step.id]
        self._finish_reason = "length"

    def _step(self, context: np.ndarray, lm_logprobs: np.ndarray, u: float) -> GeneratedToken:
        """Choose one token and trace it; all of it as of one epoch of the datastore."""
        settings, knn, store = self._settings, self._settings.knn, self._silo.datastore
        if store is None or knn.weight == 0:
            logprobs = lm_logprobs.astype(np.float64)
            token = choose(logprobs, settings.temperature, settings.top_p, u)
            return _token(token, logprobs, settings.top_logprobs, 1.0, ())
        temperature = knn.temperature or store.manifest.knn_temperature
        while True:
            with suppress(ReaderFenced), store.step():
                found = store.search(context[None], knn.k, knn.n_probe)
                shares = neighbor_logprobs(found.squared_distances[0], temperature)
                values = found.values[0]
                logprobs = interpolate(lm_logprobs, candidates(values, shares), knn.weight)
                token = choose(logprobs, settings.temperature, settings.top_p, u)
                parametric, proposers, masses = token_masses(
                    token, float(lm_logprobs[token]), values, shares, knn.weight
                )
                places = store.locate(found.entries[0][proposers], found.epoch)
                if places is not None:
                    self._epoch = found.epoch
                    named = (
                        (place.document, place.sentence, float(m)) for place, m in zip(places, masses, strict=True)
                    )
                    return _token(token, logprobs, settings.top_logprobs, parametric, gather(named))


def _token(
    token: int, logprobs: np.ndarray, n_top: int, parametric: float, sources: tuple[TokenSource, ...]
) -> GeneratedToken:
    logprob = float(logprobs[token])
    assert math.isfinite(logprob), "a token of probability zero was chosen"
    return GeneratedToken(token, "", 0, logprob, likeliest(logprobs, n_top), parametric, sources)


def _with_text(token: GeneratedToken, text: str, start: int) -> GeneratedToken:
    return replace(token, text=text, start=start)


def _cut(token: GeneratedToken, end: int) -> GeneratedToken | None:
    """``token`` without the characters from ``end`` on; None where it begins there or later."""
    if token.start >= end:
        return None
    return _with_text(token, token.text[: end - token.start], token.start)
