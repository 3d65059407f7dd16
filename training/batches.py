"""Batches of a token stream, each a function of (seed, step) alone.

Works on token ids. The stream is cut into windows from an offset that changes with the epoch, and an epoch
visits each window once, in an order drawn from (seed, epoch). So a resumed run needs no state of the
data: it asks for the step that it is at.
"""

import functools
from dataclasses import dataclass

import numpy as np
from jaxtyping import Integer

from training.errors import NothingAdmitted


@dataclass(frozen=True)
class Batches:
    """The training batches of one token stream."""

    tokens: Integer[np.ndarray, " tokens"]
    context: int
    batch_size: int
    seed: int

    def __post_init__(self) -> None:
        if len(self.tokens) <= self.context:
            raise NothingAdmitted(
                f"the admitted text has {len(self.tokens):,} tokens; a window needs {self.context + 1:,}. "
                "Admit more text or lower model.context."
            )

    @property
    def n_windows(self) -> int:
        """Windows in an epoch, whatever its offset."""
        return max(1, (len(self.tokens) - self.context) // self.context)

    def at(self, step: int) -> Integer[np.ndarray, "batch length"]:
        """The windows of ``step``, of ``context + 1`` tokens: targets are the inputs moved by one."""
        first = step * self.batch_size
        starts = [self._start(number) for number in range(first, first + self.batch_size)]
        return np.stack([self.tokens[start : start + self.context + 1] for start in starts]).astype(np.int64)

    def _start(self, number: int) -> int:
        epoch, index = divmod(number, self.n_windows)
        order, offset = _epoch(self.seed, epoch, self.n_windows, len(self.tokens) - 1 - self.n_windows * self.context)
        return offset + int(order[index]) * self.context


def document_positions(
    windows: Integer[np.ndarray, "windows length"], boundary: int
) -> Integer[np.ndarray, "windows length"]:
    """Where each token stands in its document: 0 at every boundary and at the start of a window, then 1, 2, ...

    A transformers model that is given these positions lets no token attend across a return to 0, so a document is
    trained on as it will be read: after a boundary, alone.
    """
    here = np.broadcast_to(np.arange(windows.shape[1]), windows.shape)
    starts = np.maximum.accumulate(np.where(windows == boundary, here, 0), axis=1)
    return here - starts


def validation_windows(
    tokens: Integer[np.ndarray, " tokens"], context: int, n_windows: int
) -> Integer[np.ndarray, "windows length"]:
    """At most ``n_windows`` windows of ``context + 1`` tokens, evenly spread; none where the stream is too short."""
    available = (len(tokens) - 1) // context
    chosen = np.unique(np.linspace(0, available - 1, min(n_windows, available)).astype(np.int64))
    windows = [tokens[index * context : (index + 1) * context + 1] for index in chosen]
    return np.asarray(windows, dtype=np.int64).reshape(-1, context + 1)


@functools.lru_cache(maxsize=2)
def _epoch(seed: int, epoch: int, n_windows: int, slack: int) -> tuple[Integer[np.ndarray, " windows"], int]:
    """The order of the windows in ``epoch`` and the offset of the first, from 0 to ``slack``."""
    generator = np.random.default_rng([seed, epoch])
    offset = int(generator.integers(slack + 1))
    return generator.permutation(n_windows), offset
