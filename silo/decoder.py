"""Reading sequences token by token: what an LM says after each, one sequence at a time or many side by side.

Knows tokens and tensors; how a body runs is ``llama``'s business, or that of ``transformers``, whose own forward with
its own cache serves every other architecture. Both give the log-probabilities of the model's forward, to float
rounding, which differs with the shape of what is read at once. What must not depend on other requests, to the bit, is
read alone: by a ``Decoder``, or by a ``BatchDecoder`` that is ``deterministic``.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from silo.llama import LlamaBody, check_rewind, check_room

Head = Callable[[Tensor], Tensor]
"""From context vectors to log-probabilities."""


@runtime_checkable
class CachedSequence(Protocol):
    """One sequence that a body reads, with a cache of what it has read."""

    @property
    def length(self) -> int:
        """Tokens that were read."""
        ...

    def read(self, tokens: Sequence[int]) -> Float[Tensor, "tokens dimension"]:
        """The context vector after each of ``tokens``, which follow what was read before."""
        ...

    def rewind(self, length: int) -> None:
        """Forget all but the first ``length`` tokens."""
        ...


@runtime_checkable
class Body(Protocol):
    """An LM up to its context vectors."""

    context_length: int

    def sequence(self, capacity: int) -> CachedSequence:
        """An empty sequence with room for ``capacity`` tokens."""
        ...


@runtime_checkable
class Rows(Protocol):
    """Several sequences in rows from 0 up, with no row free between two."""

    def add(self) -> None:
        """Begin an empty sequence in the next row."""
        ...

    def leave(self, row: int) -> None:
        """Give up a row; the last one takes its place."""
        ...

    def rewind(self, row: int, length: int) -> None:
        """Forget all but the first ``length`` tokens of a row."""
        ...

    def read(self, rows: Sequence[int], runs: Sequence[Sequence[int]]) -> Float[Tensor, "tokens dimension"]:
        """Read on in ``rows``, distinct ones; the context vector after each token, one run after the other."""
        ...


class Reading(NamedTuple):
    """What an LM makes of a sequence."""

    context: Float[Tensor, " dimension"]
    """The context vector after its last token."""
    logprobs: Float[Tensor, " vocabulary"]
    """Natural log of the next token's probability."""


def body_of(model: PreTrainedModel) -> Body:
    """The fastest body there is for ``model``."""
    return LlamaBody(model) if LlamaBody.fits(model) else TransformersBody(model)


class Decoder:
    """One sequence, read token by token; batch 1."""

    def __init__(self, body: Body, head: Head, capacity: int | None = None) -> None:
        self._sequence = body.sequence(body.context_length if capacity is None else capacity)
        self._head = head

    @property
    def length(self) -> int:
        """Tokens that were read, the opening one included."""
        return self._sequence.length

    def read(self, tokens: Sequence[int]) -> Reading:
        """Read ``tokens``; what the LM makes of the sequence then.

        Raises:
            PromptTooLong: the sequence has no room for them.
        """
        context = self.advance(tokens)
        return Reading(context, self.logprobs(context))

    def advance(self, tokens: Sequence[int]) -> Float[Tensor, " dimension"]:
        """Read ``tokens``; the context vector after the last alone, which costs no output matrix."""
        return self.advance_all(tokens)[-1]

    def advance_all(self, tokens: Sequence[int]) -> Float[Tensor, "tokens dimension"]:
        """Read ``tokens``; the context vector after each."""
        with torch.inference_mode():
            return self._sequence.read(tokens)

    def logprobs(self, contexts: Float[Tensor, "... dimension"]) -> Float[Tensor, "... vocabulary"]:
        """Log-probabilities of what follows each of ``contexts``."""
        with torch.inference_mode():
            return self._head(contexts)

    def close(self) -> None:
        """Nothing is held that others wait for."""

    def read_all(
        self, tokens: Sequence[int]
    ) -> tuple[Float[Tensor, "tokens dimension"], Float[Tensor, "tokens vocabulary"]]:
        """As ``read``, with a row for each of ``tokens``: what the LM makes of the sequence up to that one."""
        contexts = self.advance_all(tokens)
        return contexts, self.logprobs(contexts)

    def rewind(self, length: int) -> None:
        """Forget all but the first ``length`` tokens. Raises ValueError where so many were not read."""
        self._sequence.rewind(length)


class BatchDecoder:
    """Sequences of different lengths that are read side by side; they join and leave between steps.

    Where it is ``deterministic`` each sequence is run alone: its bits are those that a ``Decoder`` gives, whatever
    else is read. Otherwise they agree to float rounding, and a step costs far less than so many steps of one.
    """

    def __init__(
        self, body: Body, head: Head, n_slots: int, capacity: int | None = None, deterministic: bool = False
    ) -> None:
        capacity = body.context_length if capacity is None else capacity
        self._is_alone = deterministic
        self._rows: Rows
        if isinstance(body, LlamaBody) and not deterministic:
            self._rows = body.rows(n_slots, capacity)
        else:
            self._rows = SeparateRows(body, capacity)
        self._head = head
        self._n_slots = n_slots
        self._slots: list[int] = []
        """The slot of each row."""

    @property
    def n_free(self) -> int:
        """How many more sequences may join."""
        return self._n_slots - len(self._slots)

    def join(self, prompts: Sequence[Sequence[int]]) -> list[tuple[int, Reading]]:
        """Read ``prompts``, of at least one token each, in free slots: for each its slot, and what the LM makes of it.

        Raises:
            RuntimeError: there are not so many free slots.
            PromptTooLong: a slot has no room for a prompt; none of them joins then.
        """
        if len(prompts) > self.n_free:
            raise RuntimeError(f"{len(prompts)} prompts need a slot each; {self.n_free} of {self._n_slots} are free")
        first = len(self._slots)
        self._slots += [slot for slot in range(self._n_slots) if slot not in self._slots][: len(prompts)]
        for _ in prompts:
            self._rows.add()
        slots = self._slots[first:]
        try:
            readings = self._read(dict(zip(slots, prompts, strict=True)))
        except BaseException:
            for slot in slots:
                self.leave(slot)
            raise
        return [(slot, Reading(contexts[-1], logprobs[-1])) for slot, (contexts, logprobs) in readings.items()]

    def leave(self, slot: int) -> None:
        """Free a slot. Raises KeyError where it is free."""
        row = self._row(slot)
        self._rows.leave(row)
        last = self._slots.pop()
        if row < len(self._slots):
            self._slots[row] = last

    def rewind(self, slot: int, length: int) -> None:
        """Forget all but the first ``length`` tokens of a slot; raises KeyError or ValueError."""
        self._rows.rewind(self._row(slot), length)

    def step(self, tokens: Mapping[int, int]) -> dict[int, Reading]:
        """Read one token in each of some slots; what the LM makes of each of their sequences then. Raises as below."""
        runs = self._read({slot: [token] for slot, token in tokens.items()})
        return {slot: Reading(contexts[0], logprobs[0]) for slot, (contexts, logprobs) in runs.items()}

    def read_all(self, runs: Mapping[int, Sequence[int]]) -> dict[int, tuple[Tensor, Tensor]]:
        """Read on in some slots, one or more tokens in each; for each what ``Decoder.read_all`` gives.

        Raises:
            KeyError: a slot is free.
            PromptTooLong: a sequence has no room for so many; nothing is read then.
        """
        return self._read(runs, all_rows=True)

    def _read(self, runs: Mapping[int, Sequence[int]], *, all_rows: bool = False) -> dict[int, tuple[Tensor, Tensor]]:
        """Contexts and log-probabilities after each token of each run, or after the last of each."""
        if not runs:
            return {}
        by_row = sorted((self._row(slot), slot) for slot in runs)
        sizes = [len(runs[slot]) for _, slot in by_row]
        with torch.inference_mode():
            contexts = self._rows.read([row for row, _ in by_row], [runs[slot] for _, slot in by_row]).split(sizes)
            if not all_rows:
                contexts = tuple(part[-1:] for part in contexts)
            if self._is_alone:  # a product of many rows rounds each of them in another way than one of one row
                logprobs = [self._head(part) if len(part) > 1 else self._head(part[0])[None] for part in contexts]
            else:
                logprobs = list(self._head(torch.cat(contexts)).split([len(part) for part in contexts]))
        found = {slot: (contexts[i], logprobs[i]) for i, (_, slot) in enumerate(by_row)}
        return {slot: found[slot] for slot in runs}

    def _row(self, slot: int) -> int:
        try:
            return self._slots.index(slot)
        except ValueError:
            raise KeyError(f"slot {slot} is free; those in use are {sorted(self._slots)}") from None


class SeparateRows:
    """Rows that are run one by one."""

    def __init__(self, body: Body, capacity: int) -> None:
        self._body, self._capacity = body, capacity
        self._sequences: list[CachedSequence] = []

    def add(self) -> None:
        """As ``Rows.add``."""
        self._sequences.append(self._body.sequence(self._capacity))

    def leave(self, row: int) -> None:
        """As ``Rows.leave``."""
        last = self._sequences.pop()
        if row < len(self._sequences):
            self._sequences[row] = last

    def rewind(self, row: int, length: int) -> None:
        """As ``Rows.rewind``."""
        self._sequences[row].rewind(length)

    def read(self, rows: Sequence[int], runs: Sequence[Sequence[int]]) -> Float[Tensor, "tokens dimension"]:
        """As ``Rows.read``."""
        for row, run in zip(rows, runs, strict=True):
            check_room(self._sequences[row].length + len(run), min(self._capacity, self._body.context_length))
        return torch.cat([self._sequences[row].read(run) for row, run in zip(rows, runs, strict=True)])


class TransformersBody:
    """Any causal LM, by the forward of ``transformers``."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self.context_length: int = model.config.max_position_embeddings

    def sequence(self, capacity: int) -> "TransformersSequence":
        """As ``Body.sequence``."""
        return TransformersSequence(self._model, min(capacity, self.context_length))


class TransformersSequence:
    """One sequence with the cache of ``transformers``."""

    def __init__(self, model: PreTrainedModel, capacity: int) -> None:
        self._model, self._capacity = model, capacity
        self._cache = DynamicCache(config=model.config)
        self._tokens: list[int] = []

    @property
    def length(self) -> int:
        """As ``CachedSequence.length``."""
        return len(self._tokens)

    def read(self, tokens: Sequence[int]) -> Float[Tensor, "tokens dimension"]:
        """As ``CachedSequence.read``."""
        check_room(self.length + len(tokens), self._capacity)
        ids = torch.tensor([list(tokens)], device=self._model.device)
        out = self._model.base_model(input_ids=ids, past_key_values=self._cache, use_cache=True)
        self._tokens += tokens
        states: Tensor = out.last_hidden_state[0]
        return states

    def rewind(self, length: int) -> None:
        """As ``CachedSequence.rewind``. A cache that cannot be cut back, as a recurrent model's, is made anew."""
        check_rewind(length, self.length)
        kept = self._tokens[:length]
        if length and all(type(layer) is DynamicLayer for layer in self._cache.layers):
            if length < self.length:
                self._cache.crop(length - self.length)
            self._tokens = kept
            return
        self._cache, self._tokens = DynamicCache(config=self._model.config), []
        if kept:
            with torch.inference_mode():
                self.read(kept)
