"""How well an LM predicts each document, alone, and what that says of a domain.

Works on tokens and log-probabilities; reads no corpus. A document is scored as it is encoded: it begins after the
opening token, its windows overlap by half and never reach into another document, and its end is predicted too.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int

from silo.documents import Document
from silo.errors import BadRequest
from silo.lm import LanguageModel
from silo.tokenizer import tokenize

N_RESAMPLES = 1000
_SCORED_AT_ONCE = 1024
"""Rows of log-probabilities over the vocabulary that are in memory together."""


@dataclass(frozen=True)
class DocumentScore:
    """The likelihood of one document."""

    id: str
    nats: float
    """Minus the log-probability of its tokens and its end."""
    n_tokens: int
    """Its end included."""
    n_bytes: int
    """Of its text in UTF-8."""
    n_words: int = 0
    """Of its text, between white space."""


@dataclass(frozen=True)
class Likelihood:
    """What the scores of a domain's documents come to; ratios of sums, so long documents count for more."""

    n_documents: int
    n_tokens: int
    n_bytes: int
    n_words: int
    nats_per_token: float
    nats_per_token_interval: tuple[float, float]
    """95 %, by drawing the documents anew with replacement (percentile bootstrap)."""
    nats_per_byte: float
    bits_per_byte: float
    bits_per_byte_interval: tuple[float, float]
    perplexity_per_token: float
    perplexity_per_word: float
    """Infinite where it is beyond a float, as for a text of one long word."""


@dataclass(frozen=True)
class Difference:
    """How much better one model predicts the same documents than another."""

    nats_per_token: float
    """Positive where the first is better."""
    interval: tuple[float, float]
    """95 %, both scored on the same documents drawn anew."""


def score(lm: LanguageModel, document: Document) -> DocumentScore:
    """The likelihood of ``document`` under ``lm``."""
    tokens = np.append(tokenize(lm.tokenizer, document.text).ids, lm.boundary)
    nats = -float(token_logprobs(lm, tokens).sum(dtype=np.float64))
    return DocumentScore(document.id, nats, len(tokens), len(document.text.encode("utf-8")), len(document.text.split()))


def token_logprobs(lm: LanguageModel, tokens: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Natural log of each token's probability after those before it, in one document that begins with the first.

    Each is predicted from the first window that holds it, so all but those of the first window see at least half a
    window of what precedes them.
    """
    found = np.empty(len(tokens), dtype=np.float32)
    for start, states in fresh_contexts(lm, tokens):
        targets = torch.from_numpy(np.asarray(tokens[start : start + len(states)], dtype=np.int64)).to(lm.device)
        parts = zip(states.split(_SCORED_AT_ONCE), targets.split(_SCORED_AT_ONCE), strict=True)
        chosen = [lm.logprobs(some).gather(1, wanted[:, None])[:, 0] for some, wanted in parts]
        found[start : start + len(states)] = torch.cat(chosen).cpu().numpy()
    return found


def fresh_contexts(
    lm: LanguageModel, tokens: Int[np.ndarray, " n"]
) -> Iterator[tuple[int, Float[torch.Tensor, "m dimension"]]]:
    """The context vectors from which each of ``tokens`` is predicted, in runs: the first position, and its vectors.

    Each comes from the first window that holds it; the vector at position 0 is that of the opening token.
    """
    filled = 0
    for starts, windows in lm.windows(tokens[:-1]):
        for start, states in zip(starts, lm.contexts(windows), strict=True):
            yield filled, states[filled - start :]
            filled = start + len(states)


def likelihood(scores: Sequence[DocumentScore], seed: int = 0) -> Likelihood:
    """What ``scores`` come to together.

    Raises:
        BadRequest: there are none, or the documents have no text.
    """
    nats = np.array([s.nats for s in scores])
    n_tokens, n_bytes, n_words = (
        np.array([getattr(s, name) for s in scores]) for name in ("n_tokens", "n_bytes", "n_words")
    )
    if not n_bytes.sum():
        raise BadRequest("a likelihood needs at least one document with text; got none")
    drawn = _drawn(len(scores), seed)
    resampled = nats[drawn].sum(axis=1)
    bits = resampled / np.maximum(n_bytes[drawn].sum(axis=1), 1) / math.log(2)
    per_token = float(nats.sum() / n_tokens.sum())
    return Likelihood(
        n_documents=len(scores),
        n_tokens=int(n_tokens.sum()),
        n_bytes=int(n_bytes.sum()),
        n_words=int(n_words.sum()),
        nats_per_token=per_token,
        nats_per_token_interval=_interval(resampled / n_tokens[drawn].sum(axis=1)),
        nats_per_byte=float(nats.sum() / n_bytes.sum()),
        bits_per_byte=float(nats.sum() / n_bytes.sum() / math.log(2)),
        bits_per_byte_interval=_interval(bits),
        perplexity_per_token=_exp(per_token),
        perplexity_per_word=_exp(float(nats.sum() / max(n_words.sum(), 1))),
    )


def difference(first: Sequence[DocumentScore], second: Sequence[DocumentScore], seed: int = 0) -> Difference:
    """By how much the model of ``first`` is better than that of ``second``.

    Raises:
        BadRequest: they are not of the same documents, in the same order and the same tokens.
    """
    if [(s.id, s.n_tokens) for s in first] != [(s.id, s.n_tokens) for s in second] or not first:
        raise BadRequest("a difference needs scores of the same documents by models with one tokenizer")
    gains = np.array([b.nats - a.nats for a, b in zip(first, second, strict=True)])
    n_tokens = np.array([s.n_tokens for s in first])
    drawn = _drawn(len(first), seed)
    resampled = gains[drawn].sum(axis=1) / n_tokens[drawn].sum(axis=1)
    return Difference(float(gains.sum() / n_tokens.sum()), _interval(resampled))


def likelihood_of(lm: LanguageModel, documents: Iterable[Document], max_bytes: int | None = None) -> Likelihood:
    """The likelihood of ``documents`` in order, until the texts scored have ``max_bytes`` bytes."""
    scores: list[DocumentScore] = []
    n_bytes = 0
    for document in documents:
        if max_bytes is not None and n_bytes >= max_bytes:
            break
        scores.append(score(lm, document))
        n_bytes += scores[-1].n_bytes
    return likelihood(scores)


def _drawn(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(n, size=(N_RESAMPLES, n))


def _interval(resampled: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(resampled, [0.025, 0.975])
    return float(low), float(high)


def _exp(nats: float) -> float:
    return math.exp(nats) if nats < 700 else math.inf
