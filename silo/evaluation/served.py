"""A text as it is served: what the mixture of LM and datastore gives to each of its tokens, at whatever epoch.

The LM reads a text once; a store is asked as often as it changes, by the code that generation uses (`silo.prediction`)
and with the shares or the gate that it is served with. Nothing is tuned here.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from datastore.store import Datastore
from silo.documents import Document
from silo.errors import BadRequest
from silo.evaluation.likelihood import DocumentScore, fresh_contexts
from silo.gate import Gate
from silo.lm import LanguageModel
from silo.prediction import Answers, Prediction, Predictor
from silo.settings import GenerationSettings
from silo.tokenizer import tokenize

_AT_ONCE = 64
"""Positions that are searched together."""


@dataclass(frozen=True)
class Reading:
    """A text as the LM read it: alone, in windows that overlap by half."""

    id: str
    tokens: Int[np.ndarray, " n"]
    """With the end of the text, unless it was cut off."""
    states: Float[Tensor, "n dimension"]
    """The LM's context vector before each token."""
    lm_logprobs: Float[np.ndarray, " n"]
    """Natural log of the LM's probability of each token."""
    n_bytes: int
    n_words: int

    @property
    def lm_score(self) -> DocumentScore:
        """The likelihood of the text by the LM alone."""
        return self.score(self.lm_logprobs)

    def score(self, logprobs: Float[np.ndarray, " n"]) -> DocumentScore:
        """The likelihood of the text by whoever gave its tokens ``logprobs``."""
        nats = -float(logprobs.sum(dtype=np.float64))
        return DocumentScore(self.id, nats, len(self.tokens), self.n_bytes, self.n_words)


@dataclass(frozen=True)
class Asked:
    """What a store said at some positions of a text, as of one epoch."""

    rows: tuple[int, ...]
    predictor: Predictor
    answers: Answers
    predictions: tuple[Prediction, ...]
    histories: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Served:
    """How an LM and a store are mixed."""

    lm: LanguageModel
    settings: GenerationSettings = GenerationSettings()  # noqa: RUF009, frozen
    gate: Gate | None = None

    def __post_init__(self) -> None:
        if self.gate is not None:
            self.gate.check_encoder(self.lm.fingerprint)

    def read(self, document: Document, max_tokens: int | None = None) -> Reading:
        """What the LM makes of ``document``, or of its first ``max_tokens`` tokens.

        Raises:
            BadRequest: it has no token.
        """
        found = tokenize(self.lm.tokenizer, document.text)
        if not len(found):
            raise BadRequest(f"document {document.id!r} has no token; name one with a text")
        tokens, text = np.append(found.ids, self.lm.boundary), document.text
        if max_tokens is not None and len(tokens) > max_tokens:
            tokens, text = tokens[:max_tokens], text[: int(found.ends[max_tokens - 1])]
        states = torch.cat([states for _, states in fresh_contexts(self.lm, tokens)])
        logprobs = [
            self.lm.logprobs(some).gather(1, wanted[:, None].to(some.device))[:, 0].cpu()
            for some, wanted in zip(states.split(_AT_ONCE), torch.from_numpy(tokens).split(_AT_ONCE), strict=True)
        ]
        return Reading(
            document.id, tokens, states, torch.cat(logprobs).numpy(), len(text.encode("utf-8")), len(text.split())
        )

    def ask(self, store: Datastore, reading: Reading, rows: tuple[int, ...] | None = None) -> Iterator[Asked]:
        """What ``store`` says at ``rows`` of a text, or everywhere; some at a time."""
        predictor = Predictor(store, self.settings, self.gate)
        wanted = tuple(range(len(reading.tokens))) if rows is None else rows
        tokens = reading.tokens.tolist()
        for first in range(0, len(wanted), _AT_ONCE):
            some = wanted[first : first + _AT_ONCE]
            states = reading.states[list(some)]
            histories = tuple(tuple(tokens[:row]) for row in some)
            answers = predictor.ask(states.float().cpu().numpy(), histories)
            predictions = predictor.predict(answers, self.lm.logprobs(states).cpu().numpy(), histories)
            yield Asked(some, predictor, answers, tuple(predictions), histories)

    def logprobs(self, store: Datastore, reading: Reading) -> Float[np.ndarray, " n"]:
        """Natural log of what the mixture gives to each token of a text."""
        found = [
            float(prediction.logprobs[reading.tokens[row]])
            for asked in self.ask(store, reading)
            for row, prediction in zip(asked.rows, asked.predictions, strict=True)
        ]
        return np.array(found)
