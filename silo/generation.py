"""Where the halves meet: an LM continues a prompt, with a datastore mixed in and every source named.

Each step reads the LM, searches the datastore, mixes, chooses a token, and traces the chosen token to its sources
while the search still holds; if the datastore changed in between, the step searches again. An opt-out waits for steps
that run, or has them done again: so no token is chosen by, or owed to, an entry after its removal was acknowledged.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from datastore.errors import ReaderFenced
from datastore.store import Datastore
from silo.attribution import AttributedSentence, ContextSource, GeneratedToken, attribute_sentences
from silo.context_passages import GrowingText, PassageFinder, Reader
from silo.copyguard import CopyGuard
from silo.drafting import Drafter
from silo.errors import BadRequest, EncoderMismatch, PromptTooLong
from silo.gate import GATE_NAME, Gate
from silo.lm import LanguageModel
from silo.packaged import location
from silo.passages import PassageEncoder
from silo.prediction import Prediction, Predictor, Trace
from silo.sampling import choose, likeliest
from silo.scored import ScoredText
from silo.scoring import echoed, score
from silo.settings import GenerationSettings
from silo.textstream import TextStream, find_stop, n_held_back
from silo.tokenizer import tokenize

_MAX_DRAWS = 64
"""That the copy guard may forbid before the whole mixture is asked, which says what is left."""


class Silo:
    """An LM, alone or joined with a datastore that the same LM wrote.

    Raises:
        EncoderMismatch: another LM wrote the datastore: its keys and token ids would mean nothing here.
    """

    can_draft = True
    """Whether its sequences can be read ahead and taken back."""

    def __init__(
        self,
        lm: LanguageModel,
        datastore: Datastore | None = None,
        gate: Gate | None = None,
        max_verbatim: int | None = None,
        verbatim_allowance: int | None = None,
    ) -> None:
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
        self.max_verbatim = max_verbatim
        """The most tokens in a row of high-risk text that any request may have; None leaves it to the request."""
        self.verbatim_allowance = verbatim_allowance
        """By how many any request may go on with a run of its prompt; None leaves it to the request."""
        self._passage_encoder: PassageEncoder | None = None

    @classmethod
    def open(
        cls,
        model: str | Path,
        datastore: str | Path | None = None,
        device: str = "cpu",
        max_verbatim: int | None = None,
        verbatim_allowance: int | None = None,
    ) -> "Silo":
        """Load a checkpoint (a folder or a hub id), open a datastore, and load the gate that lies in either folder.

        Raises what any of them raises.
        """
        if datastore is None:
            return cls(LanguageModel.load(model, device))
        store = Datastore.open(datastore)
        lm, gate = LanguageModel.load(model, device), gate_of(model, datastore)
        return cls(lm, store, gate, max_verbatim, verbatim_allowance)

    def generate(self, prompt: str | Sequence[int], settings: GenerationSettings) -> "Generation":
        """Begin to continue ``prompt``, a text or token ids.

        Raises:
            PromptTooLong: prompt and ``max_tokens`` do not fit the LM's context.
            BadRequest: a token id is outside the vocabulary, or passages are to be found by vectors that are not there.
        """
        if settings.retrieval is not None and self.datastore is not None:
            self._check_scorer(settings.retrieval.scorer)
        return Generation(self, self._ids(prompt, settings), settings)

    def score(self, prompt: str | Sequence[int], settings: GenerationSettings, n_top: int | None) -> ScoredText:
        """The text of ``prompt``, and unless ``n_top`` is None the log-probability of each of its tokens, and of as
        many of the likeliest in its place. Raises as ``generate``.
        """
        if n_top is None:
            return echoed(self.lm, prompt)
        self._ids(prompt, settings)
        return score(self.lm, self.datastore, prompt, settings, self.gate, n_top)

    def sequence(self) -> Reader:
        """A new sequence to be read and continued. Whoever serves many requests reads them side by side instead."""
        return self.lm.decoder()

    def reading(self, n_prompt: int, settings: GenerationSettings, drafter: Drafter | None = None) -> GrowingText:
        """The LM as ``settings`` let it read a prompt of ``n_prompt`` tokens and what follows, ahead of it by drafts.

        Raises:
            EncoderMismatch, NotInstalled: passages are compared by vectors, and what made them is not here.
        """
        retrieval = settings.retrieval
        if retrieval is None or self.datastore is None:
            return GrowingText(self.lm, self.sequence, n_prompt, drafter=drafter)
        if retrieval.scorer != "bm25" and self._passage_encoder is None:
            self._check_scorer(retrieval.scorer)
            self._passage_encoder = PassageEncoder.load_for(self.datastore.passage_settings)
        room = self.lm.context_length - 1 - n_prompt - settings.max_tokens
        finder = PassageFinder(self.datastore, self.lm, retrieval, self._passage_encoder)
        begin = self.sequence if retrieval.n_passages == 1 else self.lm.decoder
        return GrowingText(self.lm, begin, n_prompt, room, finder, drafter)

    def _check_scorer(self, scorer: str) -> None:
        assert self.datastore is not None
        if scorer != "bm25" and not self.datastore.passage_settings.dimension:
            raise BadRequest(
                f"passage scorer {scorer!r} compares vectors, and this datastore keeps none. "
                "Ask for bm25, or build it with `silo datastore build --passages`."
            )

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


def gate_of(model: str | Path, datastore: str | Path) -> Gate | None:
    """The gate that lies in the folder of the datastore, or else in that of the checkpoint. Raises BadGate."""
    paths = [Path(folder) / GATE_NAME for folder in (datastore, location(model))]
    return next((Gate.load(path) for path in paths if path.is_file()), None)


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
        self._drafter: Drafter | None = None
        if settings.draft and silo.can_draft and silo.datastore is not None:
            self._drafter = Drafter(silo.datastore, len(self._prompt) + settings.max_tokens)
        self._predictor = None if silo.datastore is None else Predictor(silo.datastore, settings, silo.gate)
        if self._predictor is not None and self._predictor.is_silent:
            self._predictor = None
        self._guard = _guard(silo, self._prompt, settings)
        self._context_sources: list[ContextSource] = []

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

    @property
    def context_sources(self) -> tuple[ContextSource, ...]:
        """The passages that the LM read before the text, and for which tokens; masses do not account for them."""
        return tuple(self._context_sources)

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
        with closing(self._silo.reading(len(self._prompt), self._settings, self._drafter)) as reading:
            yield from self._read_from(reading)

    def _read_from(self, reading: GrowingText) -> Iterator[GeneratedToken]:
        lm, settings = self._silo.lm, self._settings
        random = np.random.default_rng(settings.seed % (1 << 64))
        stream = TextStream(lm.tokenizer, self._prompt)
        history = list(self._prompt)
        length = 0
        for i in range(settings.max_tokens):
            step = self._step(reading, history, random.random())
            history.append(step.id)
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

    def _step(self, reading: GrowingText, history: Sequence[int], u: float) -> GeneratedToken:
        """Choose one token and trace it; all of it as of one epoch of the datastore.

        The LM reads outside of the step, which opt-outs wait for; what it read of the datastore must be as of the
        epoch of the step, or it reads again. Where the token may be drawn without the LM, it reads the last few tokens
        when it is asked, several of them at once.
        """
        store = self._silo.datastore
        while True:
            if not (self._can_branch and reading.may_wait(history)):
                reading.read(history)
            if store is None or (self._predictor is None and self._guard is None and reading.epoch is None):
                prediction = Prediction.of_lm(reading.logprobs())
                token, _ = self._choose(prediction, history, u)
                return _token(token, prediction, self._settings.top_logprobs, Trace(1.0))
            with suppress(ReaderFenced), store.step():
                if reading.epoch in (None, store.epoch):
                    step = self._branch(reading, history) or self._mix(reading, history, u)
                    if step is not None:
                        self._note(reading, len(history) - len(self._prompt))
                        return step

    def _mix(self, reading: GrowingText, history: Sequence[int], u: float) -> GeneratedToken | None:
        """A token of the mixture; None where the datastore changed meanwhile."""
        reading.catch_up(history)
        store, predictor, lm_logprobs = self._silo.datastore, self._predictor, reading.logprobs()
        assert store is not None
        if predictor is None:
            epoch = store.epoch
            prediction = Prediction.of_lm(lm_logprobs)
        else:
            answers = predictor.ask(reading.context[None], [history])
            epoch = answers.epoch
            (prediction,) = predictor.predict(answers, lm_logprobs[None], [history])
        token, prediction = self._choose(prediction, history, u)
        if predictor is None or prediction.epoch is None:
            trace = Trace(1.0) if store.epoch == epoch else None
        else:
            trace = predictor.trace(prediction, token)
        if trace is None or reading.epoch not in (None, epoch):
            return None
        self._epoch = epoch
        if self._drafter is not None:
            self._drafter.chose(trace.entries, epoch)
        return _token(token, prediction, self._settings.top_logprobs, trace)

    def _branch(self, reading: GrowingText, history: Sequence[int]) -> GeneratedToken | None:
        """A token drawn from one part of the mixture; None where that will not do, or the copy guard forbids many."""
        store, predictor = self._silo.datastore, self._predictor
        if store is None or predictor is None or not self._can_branch:
            return None

        def read() -> GrowingText:
            reading.catch_up(history)
            return reading

        random = self._random(history, 0)
        for _ in range(_MAX_DRAWS):
            drawn = predictor.draw(lambda: read().context, lambda: read().logprobs(), history, random)
            if drawn is None:
                return None
            token, trace, epoch = drawn
            if not self._is_forbidden(history, token):
                if store.epoch != epoch or reading.epoch not in (None, epoch):
                    return None
                self._epoch = epoch
                if self._drafter is not None:
                    self._drafter.chose(trace.entries, epoch)
                return GeneratedToken(
                    token, "", 0, math.nan, (), trace.parametric_mass, trace.sources, trace.unnamed_mass
                )
        return None

    @property
    def _can_branch(self) -> bool:
        return self._settings.can_branch and self._predictor is not None and self._predictor.can_branch

    def _choose(self, prediction: Prediction, history: Sequence[int], u: float) -> tuple[int, Prediction]:
        """The token, and what it was chosen from: where the copy guard leaves nothing of the mixture, the LM.

        A token that is forbidden is taken out, and the choice made again from the rest.
        """
        settings = self._settings
        token = choose(prediction.logprobs, settings.temperature, settings.top_p, u)
        allowed = prediction.logprobs
        n_excluded = 0
        while self._is_forbidden(history, token):
            n_excluded += 1
            allowed = allowed.copy() if n_excluded == 1 else allowed
            allowed[token] = -np.inf
            if not np.isfinite(allowed).any():
                excluded = np.isfinite(prediction.logprobs)
                prediction = Prediction.of_lm(prediction.lm_logprobs)
                allowed = np.where(excluded, -np.inf, prediction.logprobs)
            u = self._random(history, n_excluded).random()
            token = choose(allowed, settings.temperature, settings.top_p, u)
        return token, prediction

    def _is_forbidden(self, history: Sequence[int], token: int) -> bool:
        return self._guard is not None and self._guard.forbids([*history[len(self._prompt) :], token])

    def _random(self, history: Sequence[int], attempt: int) -> np.random.Generator:
        """The numbers of one position, the same however often its step is done again."""
        return np.random.default_rng([self._settings.seed % (1 << 64), len(history), attempt])

    def _note(self, reading: GrowingText, i: int) -> None:
        """Keep what the LM read before token ``i`` of the completion."""
        for passage in reading.passages:
            source = ContextSource(passage.document, passage.sentences, (i, i + 1))
            for n, known in enumerate(self._context_sources):
                if known.tokens[1] == i and (known.document, known.sentences) == (source.document, source.sentences):
                    self._context_sources[n] = replace(known, tokens=(known.tokens[0], i + 1))
                    break
            else:
                self._context_sources.append(source)


def _guard(silo: Silo, prompt: Sequence[int], settings: GenerationSettings) -> CopyGuard | None:
    """What keeps the strictest of the limits that were set."""
    limits = [limit for limit in (settings.max_verbatim, silo.max_verbatim) if limit is not None]
    if silo.datastore is None or not limits:
        return None
    allowances = [n for n in (settings.verbatim_allowance, silo.verbatim_allowance) if n is not None]
    return CopyGuard(silo.datastore, min(limits), prompt, min(allowances, default=0))


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
