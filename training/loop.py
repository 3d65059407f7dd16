"""The training loop: batches in, a trained model and its losses out.

Knows tokens and tensors; knows no text and no license. On one machine's CPU, with the same number
of threads, a run that was killed and resumed ends with the bits of the unbroken run.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Integer
from transformers import LlamaConfig, LlamaForCausalLM

from training.batches import Batches, document_positions
from training.config import LoopRecipe, ModelRecipe, Recipe
from training.errors import Diverged
from training.optimizer import build_optimizers, learning_rate, length_with_decay_at
from training.parallel import World
from training.state import Position, load_state, load_weights, save_state, save_weights

_LOSS_MEMORY = 0.95
"""Weight of the past in the moving average of the training loss."""


@dataclass(frozen=True)
class Progress:
    """What a watcher is told after a step."""

    step: int
    """Steps that are done."""
    done: float
    """Share of the run that is done, 0 to 1."""
    loss: float
    """Moving average in nats per token."""
    tokens_per_second: float
    """Since this process began."""
    seconds_left: float
    rate: float = math.nan
    """Learning rate of the step."""
    validation_loss: float | None = None
    """Nats per token, after the steps that validate."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    n_steps: int
    n_tokens: int
    seconds: float
    train_loss: float
    """Moving average of the last steps, nats per token."""
    validation_loss: float | None
    """Nats per token of held-out text; None where none was held out."""


def build_model(recipe: ModelRecipe, n_vocabulary: int, boundary: int, seed: int) -> LlamaForCausalLM:
    """A LLaMA LM with random weights drawn from ``seed``; torch's generator is left as it was."""
    config = LlamaConfig(
        vocab_size=n_vocabulary,
        hidden_size=recipe.hidden_size,
        intermediate_size=recipe.intermediate_size,
        num_hidden_layers=recipe.n_layers,
        num_attention_heads=recipe.n_heads,
        num_key_value_heads=recipe.n_kv_heads or recipe.n_heads,
        max_position_embeddings=recipe.context,
        rope_parameters={"rope_type": "default", "rope_theta": recipe.rope_theta},
        tie_word_embeddings=True,
        bos_token_id=boundary,
        eos_token_id=boundary,
        # No pad token: torch would keep its embedding, the one that opens every text, from learning.
        pad_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config).to(torch.float32)


def fit(
    model: LlamaForCausalLM,
    batches: Batches,
    validation: Integer[np.ndarray, "windows length"],
    recipe: Recipe,
    state: Path,
    *,
    device: str,
    report: Callable[[Progress], None],
    clock: Callable[[], float] = time.monotonic,
    world: World = World(),  # noqa: B008
) -> Outcome:
    """Train ``model`` in place as ``recipe`` says, from ``state`` where that file exists.

    Each process of ``world`` takes its share of every batch; the first one saves and reports. With
    ``loop.patience`` the model ends with the weights that had the lowest validation loss.

    Raises:
        Diverged: the loss is not finite; ``state`` keeps the last good step.
        BadOutput: ``state`` belongs to another run.
    """
    model.to(device).train()
    optimizers = build_optimizers(model, recipe.optimizer)
    position = Position(0, n_steps_of(recipe), 0.0, math.nan)
    if state.exists():
        position = load_state(state, model, optimizers)
    best = state.with_name("lowest.safetensors")
    began = saved = clock()
    first, earlier = position.step, position.seconds
    while position.n_steps is None or position.step < position.n_steps:
        n_steps = position.n_steps or _length_when_decay_is_due(position, recipe)
        rate = learning_rate(position.step, n_steps, recipe.optimizer)
        loss = _step(model, optimizers, world.share(batches.at(position.step)), rate, recipe, world)
        if not math.isfinite(loss):
            raise Diverged(f"the loss of step {position.step} is {loss}; lower optimizer.learning_rate = {rate:.2g}")
        now = began + world.agree(clock() - began)
        step = position.step + 1
        position = replace(
            position, step=step, n_steps=n_steps, seconds=earlier + now - began, loss=_average(position.loss, loss)
        )
        validate = recipe.loop.validate_steps and step % recipe.loop.validate_steps == 0 and step != n_steps
        validation_loss = evaluate(model, validation, recipe.loop) if validate else None
        if validation_loss is not None and recipe.loop.patience:
            position = _patient(position, validation_loss, model, best, world)
        speed = (step - first) * recipe.tokens_per_step / max(now - began, 1e-9)
        if world.is_first:
            report(replace(_progress(position, recipe, speed), rate=rate, validation_loss=validation_loss))
        due = now - saved >= recipe.loop.checkpoint_seconds
        if due or (recipe.loop.checkpoint_steps and step % recipe.loop.checkpoint_steps == 0):
            if world.is_first:
                save_state(state, model, optimizers, position)
            saved = began + world.agree(clock() - began)
        if recipe.loop.patience and position.n_since >= recipe.loop.patience:
            break
    if math.isfinite(position.lowest):
        with world.in_turn():
            load_weights(best, model)
    n_tokens = position.step * recipe.tokens_per_step
    validation_loss = evaluate(model, validation, recipe.loop)
    return Outcome(position.step, n_tokens, position.seconds, position.loss, validation_loss)


@torch.no_grad()
def evaluate(
    model: LlamaForCausalLM, windows: Integer[np.ndarray, "windows length"], recipe: LoopRecipe
) -> float | None:
    """Mean loss of ``windows`` in nats per token; None where there are none."""
    if not len(windows):
        return None
    model.eval()
    losses = [_loss(model, part, recipe).item() * len(part) for part in _parts(windows, recipe.batch_size)]
    model.train()
    return sum(losses) / len(windows)


def _patient(position: Position, validation_loss: float, model: LlamaForCausalLM, best: Path, world: World) -> Position:
    """``position`` after a validation; the weights are kept where the loss is the lowest so far."""
    if not validation_loss < position.lowest:
        return replace(position, n_since=position.n_since + 1)
    if world.is_first:
        save_weights(best, model)
    return replace(position, lowest=validation_loss, n_since=0)


def _step(
    model: LlamaForCausalLM,
    optimizers: Sequence[torch.optim.Optimizer],
    batch: Integer[np.ndarray, "batch length"],
    rate: float,
    recipe: Recipe,
    world: World,
) -> float:
    """One update of the weights; the loss before it, in nats per token."""
    loss = _loss(model, batch, recipe.loop)
    if math.isfinite(value := world.mean(loss)):
        loss.backward()
        world.average_gradients(model)
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.optimizer.max_gradient_norm)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
        model.zero_grad(set_to_none=True)
    return value


def _loss(
    model: LlamaForCausalLM, windows: Integer[np.ndarray, "batch length"], recipe: LoopRecipe
) -> Float[torch.Tensor, ""]:
    """Mean loss in nats per token; each document is read alone."""
    tokens = torch.from_numpy(windows).to(model.device)
    positions = torch.from_numpy(document_positions(windows[:, :-1], model.config.bos_token_id)).to(model.device)
    with torch.autocast(model.device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
        logits = model(input_ids=tokens[:, :-1], position_ids=positions, use_cache=False).logits
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), tokens[:, 1:].flatten())


def _parts(windows: Integer[np.ndarray, "windows length"], size: int) -> list[Integer[np.ndarray, "part length"]]:
    return [windows[i : i + size] for i in range(0, len(windows), size)]


def n_steps_of(recipe: Recipe) -> int | None:
    """Steps of a run of ``recipe``; None where time bounds it."""
    return None if recipe.loop.tokens is None else -(-recipe.loop.tokens // recipe.tokens_per_step)


def _length_when_decay_is_due(position: Position, recipe: Recipe) -> int | None:
    """Close an open run once only the time of its decay is left; None before that."""
    assert recipe.loop.minutes is not None
    is_due = position.seconds >= recipe.loop.minutes * 60 * (1 - recipe.optimizer.decay_share)
    return length_with_decay_at(max(1, position.step), recipe.optimizer) if is_due else None


def _progress(position: Position, recipe: Recipe, speed: float) -> Progress:
    if position.n_steps is not None:
        done = position.step / position.n_steps
        left = (position.n_steps - position.step) * recipe.tokens_per_step / speed
    else:
        assert recipe.loop.minutes is not None
        total = recipe.loop.minutes * 60
        done, left = position.seconds / total, max(0.0, total - position.seconds)
    return Progress(position.step, done, position.loss, speed, left)


def _average(past: float, new: float) -> float:
    return new if math.isnan(past) else _LOSS_MEMORY * past + (1 - _LOSS_MEMORY) * new
