"""The exceptions that silo raises for people to read.

    SiloError
    ├── BadDocument            a text or its metadata cannot be used
    │   └── DuplicateDocument  two documents claim one id
    ├── UnreadableCorpus       a corpus file or folder cannot be read as documents
    ├── BadDeclaration         a source is not declared, or its declaration lacks a fact or has a wrong one
    ├── BadPackage             a published package did not arrive, or is not the one that was pinned
    ├── BadCheckpoint          a checkpoint is missing, torn, or of an unsupported architecture
    ├── BadGate                a gate is missing, torn, or not of this version
    ├── EncoderMismatch        a datastore or a gate was made with another LM or passage encoder than the one loaded
    ├── NotInstalled           an optional part was asked for that is not installed
    ├── PromptTooLong          prompt and completion do not fit the LM's context
    ├── BadRequest             a generation setting is out of its range
    ├── DemoStopped            a step of the demo failed
    └── ReproductionStopped    a step of the reproduction failed

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


class BadDeclaration(SiloError):
    """A source is not declared, or its declaration lacks a fact or has a wrong one."""


class BadPackage(SiloError):
    """A published package did not arrive, or is not the one that was pinned."""


class BadCheckpoint(SiloError):
    """A checkpoint is missing, torn, or of an unsupported architecture."""


class BadGate(SiloError):
    """A gate is missing, torn, or not of this version."""


class EncoderMismatch(SiloError):
    """A datastore or a gate was made with another LM or passage encoder than the one loaded."""


class NotInstalled(SiloError):
    """An optional part was asked for that is not installed."""


class PromptTooLong(SiloError):
    """Prompt and completion do not fit the LM's context."""


class BadRequest(SiloError):
    """A generation setting is out of its range."""


class DemoStopped(SiloError):
    """A step of the demo failed."""


class ReproductionStopped(SiloError):
    """A step of the reproduction failed."""
