"""A longer run that goes on from an unfinished shorter one.

With the ``wsd`` schedule the learning rate does not depend on the length of a run until its decay begins, and a batch
depends on seed and step alone. So up to there a longer run of the same recipe has the same bits, and need not repeat
them (Hu et al. 2024, MiniCPM, section 4.2: one stable phase, many decays).
"""

import json
import shutil
from pathlib import Path

from silo.files import new_file, new_folder
from training.config import Recipe, parse_recipe, resolved
from training.errors import BadOutput, BadRecipe
from training.loop import n_steps_of
from training.optimizer import decay_start
from training.state import read_position, set_length

RECIPE_NAME = "recipe.json"
STATE_NAME = "state.safetensors"


def branch(shorter: Path, recipe: Recipe, work: Path) -> None:
    """Make ``work``, an unfinished run of ``recipe``, from a copy of ``shorter``, which stays as it is and may go on.

    Raises:
        BadOutput: ``work`` is there already; ``shorter`` is no unfinished run, differs in more than name and tokens, or
            is in its decay.
    """
    if work.exists():
        raise BadOutput(f"{work} is there already. Remove it, or leave out the run to branch from and it resumes.")
    try:
        theirs = parse_recipe(json.loads((shorter / RECIPE_NAME).read_text(encoding="utf-8")))
    except (OSError, ValueError, BadRecipe) as error:
        raise BadOutput(f"{shorter} is no unfinished run of this version: {error}") from error
    if _common(theirs) != _common(recipe):
        raise BadOutput(f"{shorter} is of a recipe that differs from {recipe.name!r} in more than name and loop.tokens")
    lengths = [n_steps_of(theirs), n_steps_of(recipe)]
    if recipe.optimizer.schedule != "wsd" or None in lengths:
        raise BadOutput('a run branches from another only with optimizer.schedule = "wsd" and loop.tokens')
    last = min(decay_start(length, recipe.optimizer) for length in lengths if length is not None)
    with new_folder(work) as folder:
        shutil.copytree(shorter, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(RECIPE_NAME))
        if not (folder / STATE_NAME).exists():
            raise BadOutput(f"{shorter} has no saved state yet. Wait for its first, or train from the start.")
        position = read_position(folder / STATE_NAME)  # of the copy: the run itself may be a step further by now
        if position.step > last:
            raise BadOutput(f"{shorter} is at step {position.step}; the two runs are the same up to step {last} only")
        set_length(folder / STATE_NAME, lengths[1])
        write_recipe(folder, recipe)


def write_recipe(work: Path, recipe: Recipe) -> None:
    """Say in ``work`` whose unfinished run it is."""
    with new_file(work / RECIPE_NAME) as stream:
        stream.write(recipe_text(recipe).encode("utf-8"))


def recipe_text(recipe: Recipe) -> str:
    """What stands in the ``RECIPE_NAME`` of a run of ``recipe``."""
    return json.dumps(resolved(recipe), indent=1, sort_keys=True)


def _common(recipe: Recipe) -> dict:
    table = resolved(recipe)
    return table | {"name": "", "loop": {name: value for name, value in table["loop"].items() if name != "tokens"}}
