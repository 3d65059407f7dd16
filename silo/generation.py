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
from silo.attribution import AttributedSentence, GeneratedToken, attribute_sentences
from silo.decoder import Decoder, Reading
from silo.drafting import Drafter
from silo.errors import BadRequest, EncoderMismatch, PromptTooLong
from silo.gate import Gate
from silo.lm import LanguageModel
from silo.prediction import Prediction, Predictor, Trace
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

    def __init__(self, lm: LanguageModel, datastore: Datastore | None = None, gate: Gate | None = None) -> None:
        if datastore is not None and datastore.manifest.encoder != lm.fingerprint:
            raise EncoderMismatch(
                f"this datastore was written by encoder {datastore.manifest.encoder_name!r} "
                f"({datastore.manifest.encoder:.12}…); the loaded LM is {lm.name!r} ({lm.fingerprint:.12}…). "
                "Load the checkpoint that wrote it, or build the datastore again with `silo datastore build`."
            )
        self.lm = lm
        if gate is not None:
            gate.check_encoder(lm.fingerprint)
        self.datastore = datastore
        self.gate = gate

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
        return score(self.lm, self.datastore, prompt, settings, self.gate, n_top)

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
        self._entries: tuple[int, ...] = ()
        self._predictor = None if silo.datastore is None else Predictor(silo.datastore, settings, silo.gate)
        if self._predictor is not None and self._predictor.is_silent:
            self._predictor = None

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
        history = list(self._prompt)
        length = 0
        for i, step in enumerate(self._steps(decoder, history, random)):
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
        self._finish_reason = "length"

    def _steps(self, reader: Reader, history: list[int], random: np.random.Generator) -> Iterator[GeneratedToken]:
        """Up to ``max_tokens`` tokens; ``history`` grows by each.

        The number that chooses a token is drawn for its place, and what is drafted only says how many are read at
        once. So the tokens are the same with drafts and without. A sequence that is read beside others has no drafts.
        """
        n, store = self._settings.max_tokens, self._silo.datastore
        can_draft = self._settings.draft and store is not None and isinstance(reader, Decoder)
        drafter = Drafter(store) if can_draft and store is not None else None
        read: Sequence[int] = [self._silo.lm.opening, *history]
        made = 0
        while made < n:
            draft = drafter.propose(n - made - 1) if drafter is not None and made else []
            contexts, logprobs = _read(reader, read, draft)
            n_kept = 0
            for row in range(len(draft) + 1):
                step = self._step(contexts[row], logprobs[row], history, random.random())
                history.append(step.id)
                made += 1
                if drafter is not None:
                    drafter.chose(self._entries, self._epoch)
                is_drafted = row < len(draft) and step.id == draft[row]
                n_kept += is_drafted
                yield step
                if not is_drafted:
                    break
            if drafter is not None and draft:
                drafter.judged(len(draft), n_kept)
                assert isinstance(reader, Decoder)
                reader.rewind(reader.length - len(draft) + n_kept)
            read = history[-1:]

    def _step(self, context: np.ndarray, lm_logprobs: np.ndarray, history: Sequence[int], u: float) -> GeneratedToken:
        """Choose one token and trace it; all of it as of one epoch of the datastore."""
        predictor, store = self._predictor, self._silo.datastore
        if predictor is None or store is None:
            prediction = Prediction.of_lm(lm_logprobs)
            token = choose(prediction.logprobs, self._settings.temperature, self._settings.top_p, u)
            return _token(token, prediction, self._settings.top_logprobs, Trace(1.0))
        while True:
            with suppress(ReaderFenced), store.step():
                answers = predictor.ask(context[None], [history])
                (prediction,) = predictor.predict(answers, lm_logprobs[None], [history])
                token = choose(prediction.logprobs, self._settings.temperature, self._settings.top_p, u)
                trace = predictor.trace(prediction, token)
                if trace is not None:
                    self._epoch, self._entries = answers.epoch, trace.entries
                    return _token(token, prediction, self._settings.top_logprobs, trace)


def _read(reader: Reader, tokens: Sequence[int], draft: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Contexts and log-probabilities after the last of ``tokens`` and after each token of ``draft``."""
    if not draft:
        context, logprobs = reader.read(tokens)
        return context.float().cpu().numpy()[None], logprobs.cpu().numpy()[None]
    assert isinstance(reader, Decoder)
    contexts, rows = reader.read_all([*tokens, *draft])
    return contexts.float().cpu().numpy()[len(tokens) - 1 :], rows.cpu().numpy()[len(tokens) - 1 :]


def _token(token: int, prediction: Prediction, n_top: int, trace: Trace) -> GeneratedToken:
    logprob = float(prediction.logprobs[token])
    assert math.isfinite(logprob), "a token of probability zero was chosen"
    top = likeliest(prediction.logprobs, n_top)
    return GeneratedToken(token, "", 0, logprob, top, trace.parametric_mass, trace.sources, trace.unnamed_mass)


def _with_text(token: GeneratedToken, text: str, start: int) -> GeneratedToken:
    return replace(token, text=text, start=start)


def _cut(token: GeneratedToken, end: int) -> GeneratedToken | None:
    """``token`` without the characters from ``end`` on; None where it begins there or later."""
    if token.start >= end:
        return None
    return _with_text(token, token.text[: end - token.start], token.start)
