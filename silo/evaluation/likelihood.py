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


@dataclass(frozen=True)
class Likelihood:
    """What the scores of a domain's documents come to; ratios of sums, so long documents count for more."""

    n_documents: int
    n_tokens: int
    n_bytes: int
    nats_per_token: float
    bits_per_byte: float
    bits_per_byte_interval: tuple[float, float]
    """95 %, by drawing the documents anew with replacement (percentile bootstrap)."""


def score(lm: LanguageModel, document: Document) -> DocumentScore:
    """The likelihood of ``document`` under ``lm``."""
    tokens = np.append(tokenize(lm.tokenizer, document.text).ids, lm.boundary)
    nats = -float(token_logprobs(lm, tokens).sum(dtype=np.float64))
    return DocumentScore(document.id, nats, len(tokens), len(document.text.encode("utf-8")))


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
    n_tokens, n_bytes = (np.array([getattr(s, name) for s in scores]) for name in ("n_tokens", "n_bytes"))
    if not n_bytes.sum():
        raise BadRequest("a likelihood needs at least one document with text; got none")
    drawn = np.random.default_rng(seed).integers(len(scores), size=(N_RESAMPLES, len(scores)))
    resampled = nats[drawn].sum(axis=1) / np.maximum(n_bytes[drawn].sum(axis=1), 1) / math.log(2)
    low, high = np.quantile(resampled, [0.025, 0.975])
    return Likelihood(
        n_documents=len(scores),
        n_tokens=int(n_tokens.sum()),
        n_bytes=int(n_bytes.sum()),
        nats_per_token=float(nats.sum() / n_tokens.sum()),
        bits_per_byte=float(nats.sum() / n_bytes.sum() / math.log(2)),
        bits_per_byte_interval=(float(low), float(high)),
    )


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
