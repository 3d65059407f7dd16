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

    def join(self, tokens: Sequence[int]) -> Float[Tensor, "tokens dimension"]:
        """Read a new sequence, which becomes the last row."""
        ...

    def leave(self, row: int) -> None:
        """Give up a row; the last one takes its place."""
        ...

    def step(self, rows: Sequence[int], tokens: Sequence[int]) -> Float[Tensor, "rows dimension"]:
        """Read one token in each of ``rows``, distinct ones; the context vector after each."""
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
        with torch.inference_mode():
            context = self._sequence.read(tokens)[-1]
            return Reading(context, self._head(context))

    def read_all(
        self, tokens: Sequence[int]
    ) -> tuple[Float[Tensor, "tokens dimension"], Float[Tensor, "tokens vocabulary"]]:
        """As ``read``, with a row for each of ``tokens``: what the LM makes of the sequence up to that one."""
        with torch.inference_mode():
            contexts = self._sequence.read(tokens)
            return contexts, self._head(contexts)

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

    def join(self, prompt: Sequence[int]) -> tuple[int, Reading]:
        """Read ``prompt``, at least one token, in a free slot: its number, and what the LM makes of the prompt.

        Raises:
            RuntimeError: no slot is free.
            PromptTooLong: a slot has no room for it.
        """
        slot = next((slot for slot in range(self._n_slots) if slot not in self._slots), None)
        if slot is None:
            raise RuntimeError(f"all {self._n_slots} slots are taken; let one leave first")
        with torch.inference_mode():
            context = self._rows.join(prompt)[-1]
            self._slots.append(slot)
            return slot, Reading(context, self._head(context))

    def leave(self, slot: int) -> None:
        """Free a slot. Raises KeyError where it is free."""
        row = self._row(slot)
        self._rows.leave(row)
        last = self._slots.pop()
        if row < len(self._slots):
            self._slots[row] = last

    def step(self, tokens: Mapping[int, int]) -> dict[int, Reading]:
        """Read one token in each of some slots; what the LM makes of each of their sequences then.

        Raises:
            KeyError: a slot is free.
            PromptTooLong: a sequence has no room for another token.
        """
        if not tokens:
            return {}
        rows = {self._row(slot): slot for slot in tokens}
        order = sorted(rows)
        with torch.inference_mode():
            contexts = self._rows.step(order, [tokens[rows[row]] for row in order])
            # A product of many rows rounds each of them in another way than one of one row.
            logprobs = [self._head(context) for context in contexts] if self._is_alone else self._head(contexts)
        return {rows[row]: Reading(contexts[i], logprobs[i]) for i, row in enumerate(order)}

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

    def join(self, tokens: Sequence[int]) -> Float[Tensor, "tokens dimension"]:
        """As ``Rows.join``."""
        sequence = self._body.sequence(self._capacity)
        states = sequence.read(tokens)
        self._sequences.append(sequence)
        return states

    def leave(self, row: int) -> None:
        """As ``Rows.leave``."""
        last = self._sequences.pop()
        if row < len(self._sequences):
            self._sequences[row] = last

    def step(self, rows: Sequence[int], tokens: Sequence[int]) -> Float[Tensor, "rows dimension"]:
        """As ``Rows.step``."""
        return torch.cat([self._sequences[row].read([token]) for row, token in zip(rows, tokens, strict=True)])


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
