"""What a store still does for a text: the mean log-probability of its tokens with the store and without.

The owner's question after an opt-out: does the model know my text better for having the datastore? Reads the text
token by token as generation would, in windows of the LM's context, each token after the true ones before it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from silo.errors import BadRequest
from silo.generation import Silo
from silo.lm import LanguageModel
from silo.mixture import neighbor_logprobs
from silo.settings import DEFAULT_KNN_SHARE, KnnSettings
from silo.tokenizer import tokenize

_BATCH = 64
"""Contexts that are searched for at a time."""


@dataclass(frozen=True)
class Probe:
    """How likely the tokens of a text are, in nats per token."""

    n_tokens: int
    lm_logprob: float
    """Mean natural log of each token's probability by the LM alone."""
    mixture_logprob: float
    """The same by the mixture with the datastore."""
    epoch: int
    """The state of the datastore that answered."""

    @property
    def gain(self) -> float:
        """What the datastore adds to the mean log-probability, in nats per token; negative where it misleads."""
        return self.mixture_logprob - self.lm_logprob


def probe(silo: Silo, text: str, knn: KnnSettings | None = None) -> Probe:
    """The log-probability of ``text`` by the LM of ``silo``, alone and with its datastore.

    Raises:
        BadRequest: ``silo`` has no datastore, or ``text`` has no token.
    """
    store, settings = silo.datastore, knn or KnnSettings()
    if store is None:
        raise BadRequest("a probe compares an LM alone with the same LM and a datastore; name a datastore")
    tokens = tokenize(silo.lm.tokenizer, text).ids
    if not len(tokens):
        raise BadRequest("a probe needs a text of at least one token; this one has none")
    contexts, lm_logprobs = _read(silo.lm, tokens)
    temperature = settings.temperature or store.manifest.knn_temperature
    weight = DEFAULT_KNN_SHARE if settings.weight is None else settings.weight
    while True:
        epoch = store.epoch
        mixed = np.empty(len(tokens))
        for start in range(0, len(tokens), _BATCH):
            rows = slice(start, start + _BATCH)
            found = store.search(contexts[rows], settings.k, settings.n_probe)
            if found.epoch != epoch:
                break
            mixed[rows] = [
                _mixed(lm_logprob, int(token), values, neighbor_logprobs(distances, temperature), weight)
                for lm_logprob, token, values, distances in zip(
                    lm_logprobs[rows], tokens[rows], found.values, found.squared_distances, strict=True
                )
            ]
        else:
            return Probe(len(tokens), float(lm_logprobs.mean()), float(mixed.mean()), epoch)


def token_ids(lm: LanguageModel, text: str) -> Sequence[int]:
    """The tokens of ``text`` as plain numbers, for what knows no tokenizer."""
    ids: list[int] = tokenize(lm.tokenizer, text).ids.tolist()
    return ids


def _mixed(lm_logprob: float, token: int, values: np.ndarray, shares: np.ndarray, weight: float) -> float:
    """Natural log of ``token``'s probability in the mixture; without a neighbor, the LM's own."""
    if weight == 0 or not np.isfinite(shares).any():
        return lm_logprob
    by_neighbors = np.exp(shares[(values == token) & np.isfinite(shares)]).sum()
    return float(np.log((1 - weight) * np.exp(lm_logprob) + weight * by_neighbors))


def _read(lm: LanguageModel, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The context vector before each token, ``(n, d)``, and the LM's log-probability of the token, ``(n,)``."""
    sequence = torch.from_numpy(np.concatenate([[lm.opening], tokens]).astype(np.int64))
    n, window = len(tokens), min(lm.context_length, len(sequence))
    contexts, logprobs = np.empty((n, lm.dimension), np.float32), np.empty(n)
    filled = 0
    while filled < n:
        # Half of each window is context that was read before, but for the first, which has none.
        start = max(0, min(filled - window // 2, len(sequence) - window)) if filled else 0
        stop = min(start + window, n)
        states = lm.contexts(sequence[None, start:stop])[0, filled - start :]
        following = sequence[filled + 1 : stop + 1].to(states.device)
        chosen = lm.logprobs(states).gather(1, following[:, None])[:, 0]
        contexts[filled:stop] = states.float().cpu().numpy()
        logprobs[filled:stop] = chosen.double().cpu().numpy()
        filled = stop
    return contexts, logprobs
