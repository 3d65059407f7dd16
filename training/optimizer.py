"""AdamW and the course of its learning rate.

Knows parameters and step numbers; knows no data. The learning rate is a pure function of the step, so a
resumed run has the one that the unbroken run had.
"""

import math

import torch

from training.config import OptimizerRecipe


def build_optimizer(model: torch.nn.Module, recipe: OptimizerRecipe) -> torch.optim.AdamW:
    """AdamW with weight decay on matrices alone; fused where the device has it."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    has_fused = {parameter.device.type for parameter in parameters} <= {"cpu", "cuda", "xpu", "mps"}
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(recipe.beta1, recipe.beta2), fused=has_fused)


def learning_rate(step: int, n_steps: int | None, recipe: OptimizerRecipe) -> float:
    """The learning rate of ``step``, from 0, in a run of ``n_steps``.

    ``None`` is a run whose length is open yet: warm-up, then the highest rate. Only ``wsd`` may be open.
    """
    highest, lowest = recipe.learning_rate, recipe.learning_rate * recipe.final_share
    if step < recipe.warmup_steps:
        return highest * (step + 1) / recipe.warmup_steps
    if n_steps is None:
        return highest
    if recipe.schedule == "cosine":
        done = (step - recipe.warmup_steps) / max(1, n_steps - recipe.warmup_steps)
        return lowest + (highest - lowest) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    begin = decay_start(n_steps, recipe)
    done = max(0.0, (step - begin + 1) / max(1, n_steps - begin))
    return highest - (highest - lowest) * min(1.0, done)


def decay_start(n_steps: int, recipe: OptimizerRecipe) -> int:
    """The first step of the decay in a ``wsd`` run of ``n_steps``."""
    return n_steps - round(n_steps * recipe.decay_share)


def length_with_decay_at(step: int, recipe: OptimizerRecipe) -> int:
    """The shortest run whose decay begins at ``step`` or later: how an open run gets its length."""
    n_steps = max(1, math.floor(step / (1 - recipe.decay_share)) - 2)
    while decay_start(n_steps, recipe) < step:
        n_steps += 1
    return n_steps
