"""The state of an unfinished run in one file, written whole or not at all.

Model, optimizer and random state as safetensors, the rest as JSON in the file's header; nothing is pickled.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch.optim import Optimizer

from silo.files import new_file
from training.errors import BadOutput

_HEADER = "silo-training-state"


@dataclass(frozen=True)
class Position:
    """How far a run has come."""

    step: int
    """Steps that are done."""
    n_steps: int | None
    """Length of the run; None while it is open."""
    seconds: float
    """Training time so far, over all restarts."""
    loss: float
    """Moving average of the training loss in nats per token; NaN before the first step."""
    lowest: float = math.inf
    """Of the validation losses so far, where the run stops by them."""
    n_since: int = 0
    """Validations since the lowest."""


def save_state(path: Path, model: torch.nn.Module, optimizers: Sequence[Optimizer], position: Position) -> None:
    """Replace ``path`` with the state of the run."""
    tensors = {f"model.{name}": value.detach() for name, value in model.named_parameters()}
    for number, optimizer in enumerate(optimizers):
        for index, moments in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer{number}.{index}.{name}": value for name, value in moments.items()}
    tensors["random"] = torch.get_rng_state()
    plain = {name: value.cpu().contiguous() for name, value in tensors.items()}
    with new_file(path) as stream:
        stream.write(save(plain, {_HEADER: json.dumps(asdict(position))}))


def read_position(path: Path) -> Position:
    """How far the run whose state is in ``path`` had come. Raises FileNotFoundError, and BadOutput where it is torn."""
    try:
        with safe_open(path, "pt") as file:
            return Position(**json.loads((file.metadata() or {})[_HEADER]))
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise BadOutput(f"{path} is no state of a run: {error}") from error


def set_length(path: Path, n_steps: int | None) -> None:
    """Make the state in ``path`` that of a run of ``n_steps``."""
    position = replace(read_position(path), n_steps=n_steps)
    plain = load(path.read_bytes())
    with new_file(path) as stream:
        stream.write(save(plain, {_HEADER: json.dumps(asdict(position))}))


def load_state(path: Path, model: torch.nn.Module, optimizers: Sequence[Optimizer]) -> Position:
    """Give ``model``, ``optimizers`` and torch's generator the state in ``path``; return the position.

    Raises:
        BadOutput: the file is torn, or it is the state of another model.
    """
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            position = Position(**json.loads((file.metadata() or {})[_HEADER]))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(tensors[f"model.{name}"])
        for number, optimizer in enumerate(optimizers):
            moments: dict[int, dict[str, torch.Tensor]] = {}
            for name, value in tensors.items():
                if name.startswith(f"optimizer{number}."):
                    _, index, moment = name.split(".")
                    moments.setdefault(int(index), {})[moment] = value
            optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
        torch.set_rng_state(tensors["random"])
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise BadOutput(
            f"{path} is no state of this run: {error}. Remove {path.parent} to begin again, or give another --out."
        ) from error
    return position


def save_weights(path: Path, model: torch.nn.Module) -> None:
    """Replace ``path`` with the weights of ``model``."""
    with new_file(path) as stream:
        stream.write(save({name: value.detach().cpu().contiguous() for name, value in model.named_parameters()}))


def load_weights(path: Path, model: torch.nn.Module) -> None:
    """Give ``model`` the weights in ``path``. Raises BadOutput where they are torn, or another model's."""
    try:
        with safe_open(path, "pt") as file, torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(file.get_tensor(name))
    except (SafetensorError, OSError, RuntimeError) as error:
        raise BadOutput(f"{path} has no weights of this run: {error}. Remove {path.parent} to begin again.") from error
