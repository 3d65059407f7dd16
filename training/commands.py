"""`silo train`: a recipe in, a checkpoint out."""

from pathlib import Path
from typing import Annotated

import typer

RECIPES = Path(__file__).with_name("recipes")


def train(
    recipe: Annotated[Path, typer.Argument(help="A TOML file, or the name of one in training/recipes.")],
    data: Annotated[
        Path | None, typer.Option(help="Folder that the recipe's locations are relative to; else the recipe's own.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Where the checkpoint appears; else checkpoints/NAME.")] = None,
    longer_than: Annotated[
        Path | None, typer.Option(help="An OUT.unfinished of the same recipe with fewer tokens, to begin from.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto: cuda where there is one.")] = "auto",
) -> None:
    """Train a tokenizer and an LM on the licensed text that the recipe admits. Asked again, it resumes.

    With many devices: torchrun --nproc-per-node N --no-python silo train RECIPE.
    """
    from rich.console import Console

    from training.config import read_recipe
    from training.memory import keep_freed_memory

    path = recipe if recipe.exists() else RECIPES / recipe.with_suffix(".toml").name
    resolved_recipe = read_recipe(path if path.exists() else recipe)

    keep_freed_memory()
    import torch
    from transformers.utils import logging

    from training.parallel import joined
    from training.pipeline import train_checkpoint
    from training.progress import progress_line

    logging.disable_progress_bar()
    chosen = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    folder = out or Path("checkpoints") / resolved_recipe.name
    console = Console()
    with joined(chosen) as world, progress_line(console) as report:
        manifest = train_checkpoint(
            resolved_recipe,
            data=data or path.parent,
            out=folder,
            device=chosen,
            report=report,
            announce=lambda text: console.print(text, highlight=False, markup=False),
            world=world,
            longer_than=longer_than,
        )
    if not world.is_first:
        return
    losses = ", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in manifest.losses.items())
    console.print(f"{folder}: {manifest.n_tokens:,} tokens in {manifest.n_steps:,} steps; {losses}", highlight=False)
