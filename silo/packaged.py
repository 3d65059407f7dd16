"""The LM that comes with the package, so that everything works before anything is trained. Knows where it lies."""

from pathlib import Path

DEFAULT = "silo-6m"
"""Its name, and what commands take where no model is named."""
FOLDER = Path(__file__).with_name("models")
FITTED = "fitted/fitted.json"
"""In a packed checkpoint: the facts of the parts that a datastore needs fitted, which lie beside it."""


def location(model: str | Path) -> Path | str:
    """Where ``model`` is: a checkpoint's folder, which comes first, the packaged one by its name, or a hub id."""
    if Path(model).exists():
        return Path(model)
    return FOLDER / DEFAULT if str(model) == DEFAULT and is_packaged() else str(model)


def is_packaged() -> bool:
    """Whether this copy of SILO came with an LM."""
    return (FOLDER / DEFAULT).exists()


def has_fitted(checkpoint: Path) -> bool:
    """Whether what a datastore needs fitted came with ``checkpoint``."""
    return (checkpoint / FITTED).is_file()
