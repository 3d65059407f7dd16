"""LMs that come with the package, so that everything works before anything is trained. Knows where they lie.

``silo-6m`` saw as many tokens as the LMs that it is compared with, and is what recorded experiments name; the default
is of the same shape and saw more.
"""

from pathlib import Path

DEFAULT = "silo-6m-21m"
"""What commands take where no model is named: by parameters and training tokens."""
FOLDER = Path(__file__).with_name("models")
FITTED = "fitted/fitted.json"
"""In a packed checkpoint: the facts of the parts that a datastore needs fitted, which lie beside it."""


def location(model: str | Path) -> Path | str:
    """Where ``model`` is: a checkpoint's folder, which comes first, a packaged one by its name, or a hub id."""
    if Path(model).exists():
        return Path(model)
    is_name = "/" not in str(model) and not str(model).startswith(".")
    return FOLDER / model if is_name and (FOLDER / model).is_dir() else str(model)


def is_packaged() -> bool:
    """Whether this copy of SILO came with the default LM."""
    return (FOLDER / DEFAULT).exists()


def has_fitted(checkpoint: Path) -> bool:
    """Whether what a datastore needs fitted came with ``checkpoint``."""
    return (checkpoint / FITTED).is_file()
