"""The exceptions that silo raises for people to read.

    SiloError
    ├── BadDocument            a text or its metadata cannot be used
    │   └── DuplicateDocument  two documents claim one id
    ├── UnreadableCorpus       a corpus file or folder cannot be read as documents
    ├── BadCheckpoint          a checkpoint is missing, torn, or of an unsupported architecture
    ├── EncoderMismatch        a datastore was written by another LM than the one loaded
    ├── PromptTooLong          prompt and completion do not fit the LM's context
    └── BadRequest             a generation setting is out of its range

Each message says what was expected, what arrived, and what to do next.
"""


class SiloError(Exception):
    """Base of everything that silo raises on purpose."""


class BadDocument(SiloError):
    """A text or its metadata cannot be used."""


class DuplicateDocument(BadDocument):
    """Two documents claim one id."""


class UnreadableCorpus(SiloError):
    """A corpus file or folder cannot be read as documents."""


class BadCheckpoint(SiloError):
    """A checkpoint is missing, torn, or of an unsupported architecture."""


class EncoderMismatch(SiloError):
    """A datastore was written by another LM than the one loaded."""


class PromptTooLong(SiloError):
    """Prompt and completion do not fit the LM's context."""


class BadRequest(SiloError):
    """A generation setting is out of its range."""
