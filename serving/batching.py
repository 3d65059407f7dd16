"""Many requests, one LM: their next tokens are read side by side.

Each completion has a thread of its own, which searches the datastore, mixes and chooses; what it asks of the LM it
hands to one thread that owns the batch. That thread waits a moment for those that were in the last step and have not
asked yet, then reads one token of each in one step. Sequences join and leave between steps: new prompts are read
together, before the next step of the others.

In a batch floats are rounded differently with the number of rows, so the last bits of a completion depend on who
else is served; what was measured is in ``tests/serving/test_batching.py``. ``alone`` gives the bits of batch 1.
"""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue

from jaxtyping import Float
from torch import Tensor

from silo.context_passages import Reader
from silo.decoder import BatchDecoder, Reading
from silo.generation import Silo

PATIENCE = 0.004
"""Seconds that a step waits for those that were in the last one: a search takes about that long."""
_SHARE = 0.5
"""Of the last step's duration, that a step waits if that is less."""


class SharedSilo(Silo):
    """A ``Silo`` whose completions are read side by side."""

    can_draft = False

    def __init__(self, silo: Silo, n_slots: int) -> None:
        super().__init__(silo.lm, silo.datastore, silo.gate, silo.max_verbatim, silo.verbatim_allowance)
        self.alone = silo
        self._batch = Batch(silo.lm.batch_decoder(n_slots))

    def sequence(self) -> Reader:
        """A sequence of the batch."""
        return SharedSequence(self._batch)

    @property
    def batch(self) -> "Batch":
        """The sequences that are read side by side."""
        return self._batch

    def close(self) -> None:
        """End the batch's thread; who waits for it gets RuntimeError."""
        self._batch.close()


@dataclass(eq=False)
class SharedSequence:
    """One sequence of a batch; read by one thread."""

    batch: "Batch"
    slot: int | None = None
    answers: "SimpleQueue[Reading | Exception]" = field(default_factory=SimpleQueue)
    _length: int = 0
    _logprobs: Tensor | None = None

    @property
    def length(self) -> int:
        """Tokens that were read."""
        return self._length

    def read(self, tokens: Sequence[int]) -> Reading:
        """As ``Decoder.read``."""
        self.batch.ask(self, tokens)
        answer = self.answers.get()
        if isinstance(answer, Exception):
            raise answer
        self._length += len(tokens)
        return answer

    def advance_all(self, tokens: Sequence[int]) -> Float[Tensor, "1 dimension"]:
        """Read ``tokens``; the context vector after the last."""
        context, self._logprobs = self.read(tokens)
        return context[None]

    def logprobs(self, contexts: Float[Tensor, "... dimension"]) -> Float[Tensor, "... vocabulary"]:
        """Those after the last token, of which ``contexts`` is: they were made in the step that read it."""
        assert self._logprobs is not None, "nothing was read yet"
        return self._logprobs.expand(*contexts.shape[:-1], -1)

    def rewind(self, length: int) -> None:
        """Raise ValueError where that is not how long it is: sequences that share steps are not taken back."""
        if length != self._length:
            raise ValueError(f"a sequence of {self._length} tokens that is read beside others stays as it is")

    def close(self) -> None:
        """Leave the batch."""
        self.batch.leave(self)


class Batch:
    """A thread that reads for all."""

    def __init__(self, decoder: BatchDecoder) -> None:
        self._decoder = decoder
        self._changed = threading.Condition()
        self._asked: dict[SharedSequence, Sequence[int]] = {}
        self._running: set[SharedSequence] = set()
        """Those that were answered and have not left: the next step waits for them, for a moment."""
        self._left: list[SharedSequence] = []
        self._is_closed = False
        self._seconds = PATIENCE
        self.n_steps = 0
        self.n_read = 0
        """Tokens that all steps read together; over ``n_steps`` it is how full they were."""
        self._thread = threading.Thread(target=self._work, name="batch", daemon=True)
        self._thread.start()

    def ask(self, sequence: SharedSequence, tokens: Sequence[int]) -> None:
        """Have ``tokens`` read; the answer goes to the sequence."""
        with self._changed:
            if self._is_closed:
                raise RuntimeError("the batch is closed")
            self._asked[sequence] = list(tokens)
            self._running.discard(sequence)
            self._changed.notify()

    def leave(self, sequence: SharedSequence) -> None:
        """The sequence is read no further."""
        with self._changed:
            self._running.discard(sequence)
            self._asked.pop(sequence, None)
            self._left.append(sequence)
            self._changed.notify()

    def close(self) -> None:
        """End the thread after its step."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join(timeout=10)

    def _work(self) -> None:
        while (asked := self._gathered()) is not None:
            started = time.monotonic()
            joining = {sequence: tokens for sequence, tokens in asked.items() if sequence.slot is None}
            step = {sequence: tokens for sequence, tokens in asked.items() if sequence.slot is not None}
            if joining:
                self._join(joining)
            for n in range(max(map(len, step.values()), default=0)):
                last = {s: len(tokens) == n + 1 for s, tokens in step.items() if len(tokens) > n}
                self._step({s: step[s][n] for s in last}, [s for s, is_last in last.items() if is_last])
            if step:
                self._seconds = time.monotonic() - started
        for sequence in self._asked:
            sequence.answers.put(RuntimeError("the batch is closed"))

    def _gathered(self) -> "dict[SharedSequence, Sequence[int]] | None":
        """What is to be read next; None at the end."""
        with self._changed:
            while not self._asked and not self._left and not self._is_closed:
                self._changed.wait()
            deadline = time.monotonic() + min(PATIENCE, _SHARE * self._seconds)
            while self._running and (rest := deadline - time.monotonic()) > 0 and not self._is_closed:
                self._changed.wait(rest)
            if self._is_closed:
                return None
            asked, self._asked = self._asked, {}
            left, self._left = self._left, []
        for sequence in left:
            if sequence.slot is not None:
                self._decoder.leave(sequence.slot)
        return asked

    def _join(self, joining: "dict[SharedSequence, Sequence[int]]") -> None:
        """Read new prompts, together; where one of them fails they are read one by one, so that it fails alone."""
        try:
            answers = self._decoder.join(list(joining.values()))
        except Exception as error:
            if len(joining) == 1:
                self._tell(next(iter(joining)), error)
                return
            for sequence, tokens in joining.items():
                self._join({sequence: tokens})
            return
        for sequence, (slot, reading) in zip(joining, answers, strict=True):
            sequence.slot = slot
            self._tell(sequence, reading)

    def _step(self, step: "dict[SharedSequence, int]", answered: "Sequence[SharedSequence]") -> None:
        try:
            readings = self._decoder.step({s.slot: token for s, token in step.items() if s.slot is not None})
        except Exception as error:
            for sequence in step:
                self._tell(sequence, error)
            return
        self.n_steps += 1
        self.n_read += len(step)
        for sequence in answered:
            assert sequence.slot is not None
            self._tell(sequence, readings[sequence.slot])

    def _tell(self, sequence: SharedSequence, answer: Reading | Exception) -> None:
        with self._changed:
            if sequence not in self._left:
                self._running.add(sequence)
        sequence.answers.put(answer)
