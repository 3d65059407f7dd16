"""The exceptions of training.

    TrainingError
    ├── BadRecipe        a recipe cannot be read, names an unknown key, or asks for what is never allowed
    ├── NothingAdmitted  no document, or too little text, is left after admission
    ├── BadOutput        the folder to write to holds something else, or an unfinished run of another recipe
    └── Diverged         the loss is no longer a finite number

Each message says what was expected, what arrived, and what to do next.
"""


class TrainingError(Exception):
    """Base of everything that training raises on purpose."""


class BadRecipe(TrainingError):
    """A recipe cannot be read, names an unknown key, or asks for what is never allowed."""


class NothingAdmitted(TrainingError):
    """No document, or too little text, is left after admission."""


class BadOutput(TrainingError):
    """The folder to write to holds something else, or an unfinished run of another recipe."""


class Diverged(TrainingError):
    """The loss is no longer a finite number."""
