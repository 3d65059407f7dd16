"""Several processes that train one model, each on its share of every batch, as ``torchrun`` starts them.

Knows tensors and processes; knows no data. Every process holds the whole model. The gradients are averaged before
each update, and what depends on a clock is decided by the first process, so all of them take the same steps.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as distributed
from jaxtyping import Integer

from training.errors import BadRecipe


@dataclass(frozen=True)
class World:
    """The processes of a run and which of them this one is."""

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process prepares, saves and reports."""
        return self.rank == 0

    def share(self, batch: Integer[np.ndarray, "batch length"]) -> Integer[np.ndarray, "share length"]:
        """This process's windows of ``batch``. Raises BadRecipe where the windows cannot be shared evenly."""
        if len(batch) % self.size:
            raise BadRecipe(f"loop.batch_size must be a multiple of the {self.size} processes; got {len(batch)}")
        return batch[self.rank :: self.size]

    def average_gradients(self, model: torch.nn.Module) -> None:
        """Replace every gradient of ``model`` by its mean over the processes."""
        if self.size == 1:
            return
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(flat)
        flat /= self.size
        parts = flat.split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def mean(self, value: torch.Tensor) -> float:
        """The mean of a scalar over the processes."""
        if self.size == 1:
            return value.item()
        total = value.detach().clone()
        distributed.all_reduce(total)
        return total.item() / self.size

    def agree(self, value: float) -> float:
        """The first process's ``value``, in every process."""
        if self.size == 1:
            return value
        said = [value]
        distributed.broadcast_object_list(said, src=0)
        return said[0]

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """The body in the first process, then in the others, which find what it left on the shared disk."""
        if self.size > 1 and not self.is_first:
            distributed.barrier()
        yield
        if self.size > 1 and self.is_first:
            distributed.barrier()


@contextmanager
def joined(device: str) -> Iterator[World]:
    """The processes that ``torchrun`` started together with this one, or this one alone.

    They talk by gloo on the CPU and by nccl on GPUs, of which each process takes the one of its local rank.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World()
        return
    if device.startswith("cuda"):
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield World(distributed.get_rank(), size)
    finally:
        distributed.destroy_process_group()
