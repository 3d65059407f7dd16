"""The optimizers and the course of their learning rate.

Knows parameters and step numbers; knows no data. The learning rate is a pure function of the step, so a
resumed run has the one that the unbroken run had.
"""

import math

import torch

from training.config import OptimizerRecipe


def build_optimizers(model: torch.nn.Module, recipe: OptimizerRecipe) -> tuple[torch.optim.Optimizer, ...]:
    """The optimizers of ``model``, each parameter in one of them; weight decay on matrices alone.

    AdamW is fused where the device has it. With ``muon`` there are two: Muon for the matrices of the blocks, whose
    update is the gradient's momentum made orthogonal, and AdamW for embeddings, output matrix and norms.
    """
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    is_muon = {id(p) for name, p in named if recipe.kind == "muon" and p.ndim == 2 and "embed_tokens" not in name}
    parameters = [parameter for _, parameter in named if id(parameter) not in is_muon]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    has_fused = {parameter.device.type for parameter in parameters} <= {"cpu", "cuda", "xpu", "mps"}
    adamw = torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(recipe.beta1, recipe.beta2), fused=has_fused)
    if not is_muon:
        return (adamw,)
    muon = torch.optim.Muon(
        [parameter for _, parameter in named if id(parameter) in is_muon],
        lr=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        adjust_lr_fn="match_rms_adamw",
    )
    return adamw, muon


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
