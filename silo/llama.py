"""The body of a LLaMA, run for decoding: a preallocated cache, projections joined into one product each.

Knows tokens and tensors of one kind of model; the head is not its business. ``transformers`` runs three products for
queries, keys and values and two for the gated layer, makes the cache anew with every token, and asks about masks and
hooks in every layer; for a small LM at batch 1 that costs as much as the arithmetic. The equations are the same, in
the model's own dtype, so results agree to float rounding.

A body is made before anything is read or encoded, since it may move the model's weights (``products``): so the bits of
keys do not depend on whether somebody has decoded.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch's own documentation gives it
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import LlamaForCausalLM, MistralForCausalLM, PreTrainedModel, Qwen2ForCausalLM

from silo.errors import PromptTooLong
from silo.products import Product

_SHAPES = (LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM)
_FIXED_ROTATIONS = ("default", "linear", "llama3", "yarn")
"""Kinds of rotary embedding that turn a position by the same angles however long the text is."""


@dataclass(frozen=True)
class _Layer:
    norm: "Norm"
    heads_in: Product
    """Queries, keys and values, in this order."""
    heads_out: Product
    gate_norm: "Norm"
    gate_up: Product
    down: Product


Norm = Callable[[Float[Tensor, "tokens hidden"]], Float[Tensor, "tokens hidden"]]
Attend = Callable[
    [int, Float[Tensor, "tokens heads width"], Float[Tensor, "tokens kv width"], Float[Tensor, "tokens kv width"]],
    Float[Tensor, "tokens hidden"],
]
"""Layer, queries, keys, values -> what each token takes from those before it; keeps keys and values."""


class LlamaBody:
    """The layers of ``model``, which must be one of those that ``fits`` says yes to."""

    def __init__(self, model: PreTrainedModel) -> None:
        config = model.config
        self._body: Any = model.base_model
        self._embedding: nn.Embedding = self._body.embed_tokens
        self.n_heads: int = config.num_attention_heads
        self.n_kv: int = config.num_key_value_heads
        self.width: int = self._body.layers[0].self_attn.head_dim
        self._scale: float = self._body.layers[0].self_attn.scaling
        self.context_length: int = config.max_position_embeddings
        self._activation = self._body.layers[0].mlp.act_fn
        self._layers = [_layer(layer) for layer in self._body.layers]
        self._norm = _norm(self._body.norm)
        positions = torch.arange(self.context_length, device=self.device)[None]
        cos, sin = self._body.rotary_emb(self._embedding.weight[:1], positions)
        half = self.width // 2
        self._cos = cos[0, :, None]
        self._sin = torch.cat([-sin[0, :, :half], sin[0, :, half:]], dim=-1)[:, None]

    @staticmethod
    def fits(model: PreTrainedModel) -> bool:
        """Whether ``model`` is a LLaMA, or one that differs from it in names alone, with nothing added to it."""
        config = model.config
        has_window = getattr(config, "use_sliding_window", True) and getattr(config, "sliding_window", None) is not None
        if type(model) not in _SHAPES or has_window:
            return False
        rotation = config.rope_parameters or {}
        is_fixed = rotation.get("rope_type", "default") in _FIXED_ROTATIONS
        is_whole = rotation.get("partial_rotary_factor", 1.0) == 1.0
        linears = [m for name, m in model.base_model.layers.named_modules() if name.endswith("_proj")]
        return is_fixed and is_whole and all(type(m) is nn.Linear for m in linears)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self._embedding.weight.device

    def sequence(self, capacity: int) -> "LlamaSequence":
        """An empty sequence with room for ``capacity`` tokens; memory is taken as it fills."""
        shape = self._cache_shape(1, capacity)
        like = self._embedding.weight
        return LlamaSequence(self, [(like.new_empty(shape), like.new_empty(shape)) for _ in self._layers])

    def rows(self, n: int, capacity: int) -> "LlamaRows":
        """``n`` empty sequences with room for ``capacity`` tokens each.

        Zeros, since shorter rows are masked up to the longest: what is masked counts zero times, but must be a number.
        """
        shape = self._cache_shape(n, capacity)
        like = self._embedding.weight
        return LlamaRows(self, [(like.new_zeros(shape), like.new_zeros(shape)) for _ in self._layers])

    def _cache_shape(self, n_rows: int, capacity: int) -> tuple[int, int, int, int]:
        return n_rows, self.n_kv, min(capacity, self.context_length), self.width

    def run(
        self, tokens: Int[Tensor, " tokens"], positions: Int[Tensor, " tokens"] | slice, attend: Attend
    ) -> Float[Tensor, "tokens dimension"]:
        """The context vector after each of ``tokens``, which stand at ``positions``."""
        cos, sin = self._cos[positions], self._sin[positions]
        n_rotated, half = self.n_heads + self.n_kv, self.width // 2
        x = F.embedding(tokens, self._embedding.weight)
        for number, layer in enumerate(self._layers):
            heads = layer.heads_in(layer.norm(x)).view(len(tokens), n_rotated + self.n_kv, self.width)
            rotated = heads[:, :n_rotated]
            rotated = torch.addcmul(rotated * cos, rotated.roll(half, -1), sin)
            mixed = attend(number, rotated[:, : self.n_heads], rotated[:, self.n_heads :], heads[:, n_rotated:])
            x = layer.heads_out.plus(mixed, x)
            gate, up = layer.gate_up(layer.gate_norm(x)).chunk(2, dim=-1)
            x = layer.down.plus(self._activation(gate) * up, x)
        return self._norm(x)

    def causal_mask(self, start: int, stop: int) -> Tensor | None:
        """Which of the tokens up to ``stop`` each of those from ``start`` on sees; None where attention knows."""
        if start == 0 or stop - start == 1:
            return None
        return torch.ones(stop - start, stop, dtype=torch.bool, device=self.device).tril(start)

    def attention(self, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, n: int = 1) -> Tensor:
        """Scaled dot product of ``(rows, heads, n, width)`` queries with as many rows of keys and values."""
        return F.scaled_dot_product_attention(
            queries,
            keys,
            values,
            attn_mask=mask,
            is_causal=mask is None and n > 1,
            scale=self._scale,
            enable_gqa=self.n_kv != self.n_heads,
        )

    def attend_one(
        self,
        cache: tuple[Tensor, Tensor],
        row: int,
        start: int,
        mask: Tensor | None,
        queries: Float[Tensor, "tokens heads width"],
        keys: Float[Tensor, "tokens kv width"],
        values: Float[Tensor, "tokens kv width"],
    ) -> Float[Tensor, "tokens hidden"]:
        """What the tokens of one sequence take, from position ``start`` on; keeps keys and values in its row."""
        n = len(queries)
        stop = start + n
        kept_keys, kept_values = (kept[row : row + 1, :, :stop] for kept in cache)
        kept_keys[0, :, start:] = keys.transpose(0, 1)
        kept_values[0, :, start:] = values.transpose(0, 1)
        taken = self.attention(queries.transpose(0, 1)[None], kept_keys, kept_values, mask, n)
        return taken[0].transpose(0, 1).reshape(n, -1)


class LlamaSequence:
    """One sequence, read with a cache. Its bits are a function of what was read, and in which pieces."""

    def __init__(self, body: LlamaBody, cache: list[tuple[Tensor, Tensor]]) -> None:
        self._body, self._cache = body, cache
        self.length = 0

    def read(self, tokens: Sequence[int]) -> Float[Tensor, "tokens dimension"]:
        """The context vector after each of ``tokens``, which follow what was read before."""
        start, stop = self.length, self.length + len(tokens)
        check_room(stop, self._cache[0][0].shape[2])
        mask = self._body.causal_mask(start, stop)

        def attend(layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
            return self._body.attend_one(self._cache[layer], 0, start, mask, queries, keys, values)

        ids = torch.tensor(tokens, dtype=torch.long, device=self._body.device)
        states = self._body.run(ids, slice(start, stop), attend)
        self.length = stop
        return states

    def rewind(self, length: int) -> None:
        """Forget all but the first ``length`` tokens."""
        check_rewind(length, self.length)
        self.length = length


class LlamaRows:
    """Several sequences of different lengths, read side by side: one product for the tokens of all."""

    def __init__(self, body: LlamaBody, cache: list[tuple[Tensor, Tensor]]) -> None:
        self._body, self._cache = body, cache
        self._capacity = cache[0][0].shape[2]
        self.lengths: list[int] = []

    def add(self) -> None:
        """Begin an empty sequence in the next row."""
        self.lengths.append(0)

    def leave(self, row: int) -> None:
        """Give up a row; the last one takes its place, so that those in use lie side by side."""
        length = self.lengths.pop()
        if (last := len(self.lengths)) != row:
            for kept in (tensor for pair in self._cache for tensor in pair):
                kept[row, :, :length] = kept[last, :, :length]
            self.lengths[row] = length

    def rewind(self, row: int, length: int) -> None:
        """Forget all but the first ``length`` tokens of a row."""
        check_rewind(length, self.lengths[row])
        self.lengths[row] = length

    def read(self, rows: Sequence[int], runs: Sequence[Sequence[int]]) -> Float[Tensor, "tokens dimension"]:
        """Read on in ``rows``, distinct ones; the context vector after each token, one run after the other."""
        spans = [(self.lengths[row], self.lengths[row] + len(run)) for row, run in zip(rows, runs, strict=True)]
        check_room(max(stop for _, stop in spans), self._capacity)
        ids = torch.tensor([token for run in runs for token in run], dtype=torch.long, device=self._body.device)
        positions = torch.cat([torch.arange(*span, device=self._body.device) for span in spans])
        is_step = all(len(run) == 1 for run in runs)
        attend = self._attend_in_step(rows, positions) if is_step else self._attend_in_turn(rows, spans)
        states = self._body.run(ids, positions, attend)
        for row, (_, stop) in zip(rows, spans, strict=True):
            self.lengths[row] = stop
        return states

    def _attend_in_step(self, rows: Sequence[int], positions: Tensor) -> Attend:
        """One token in each row: all in one product, with a mask for the shorter ones."""
        longest = int(positions.max()) + 1
        everything = torch.arange(longest, device=self._body.device)
        mask = None
        if int(positions.min()) + 1 < longest:
            mask = (everything <= positions[:, None])[:, None, None]
        indices = torch.tensor(rows, dtype=torch.long, device=self._body.device)
        some = slice(0, len(rows)) if list(rows) == list(range(len(rows))) else indices

        def attend(layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
            kept_keys, kept_values = self._cache[layer]
            kept_keys[indices, :, positions] = keys
            kept_values[indices, :, positions] = values
            taken = self._body.attention(
                queries[:, :, None], kept_keys[:, :, :longest][some], kept_values[:, :, :longest][some], mask
            )
            return taken.reshape(len(rows), -1)

        return attend

    def _attend_in_turn(self, rows: Sequence[int], spans: Sequence[tuple[int, int]]) -> Attend:
        """Runs of several tokens: one row after the other."""
        masks = [self._body.causal_mask(*span) for span in spans]
        sizes = [stop - start for start, stop in spans]

        def attend(layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
            parts = zip(rows, spans, masks, *(x.split(sizes) for x in (queries, keys, values)), strict=True)
            return torch.cat(
                [
                    self._body.attend_one(self._cache[layer], row, start, mask, q, k, v)
                    for row, (start, _), mask, q, k, v in parts
                ]
            )

        return attend


def check_room(needed: int, capacity: int) -> None:
    """Raise PromptTooLong where ``needed`` tokens do not fit."""
    if needed > capacity:
        raise PromptTooLong(f"this sequence has room for {capacity} tokens; {needed} are to be read")


def check_rewind(length: int, n_read: int) -> None:
    """Raise ValueError where ``length`` is not among the lengths that a sequence has had."""
    if not 0 <= length <= n_read:
        raise ValueError(f"a sequence of {n_read} tokens can be rewound to 0 to {n_read} tokens; got {length}")


def _layer(layer: Any) -> _Layer:
    attention, mlp = layer.self_attn, layer.mlp
    return _Layer(
        _norm(layer.input_layernorm),
        Product(attention.q_proj, attention.k_proj, attention.v_proj),
        Product(attention.o_proj),
        _norm(layer.post_attention_layernorm),
        Product(mlp.gate_proj, mlp.up_proj),
        Product(mlp.down_proj),
    )


def _norm(norm: Any) -> Norm:
    weight, epsilon = norm.weight, norm.variance_epsilon
    return lambda x: F.rms_norm(x, weight.shape, weight, epsilon)
