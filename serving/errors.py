"""The exceptions that serving raises for people to read.

    ServingError
    ├── BadBody                the body of a request is not the JSON that was expected
    ├── UnknownModel           a request names a model that is not served here
    ├── NoDatastore            a request is about documents, and the server has no datastore
    ├── Busy                   as many requests are being answered as the server takes
    ├── Stopping               the server is being stopped
    ├── EngineLost             the process that makes completions ended in the middle, or is not there again yet
    ├── EngineFault            the process that makes completions met an error that is not meant for people
    ├── TimedOut               an answer took longer than the server lets it take
    ├── MissingKey             a request without an API key, where one is needed
    ├── UnknownKey             an API key that is not known, or was revoked
    ├── Forbidden              a key asks for what it is not for
    ├── OverLimit              a key has used up what it may ask for
    ├── StrangeHost            a request by a name that is not this machine's
    ├── CannotListen           the address is taken, or is none of this machine's
    └── BadReviewerToken       the file of the reviewer's token is missing, or the token too short

Each message says what was expected, what arrived, and what to do next.
How they look over HTTP is decided in ``serving.problems``.
"""

from collections.abc import Sequence
from dataclasses import dataclass


class ServingError(Exception):
    """Base of everything that serving raises on purpose."""


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with a body."""

    param: str | None
    """Where: the path of the field, ``knn.weight``; None for the body as a whole."""
    detail: str
    """What was expected and what arrived."""


class BadBody(ServingError):
    """The body of a request is not the JSON that was expected."""

    def __init__(self, faults: Sequence[Fault], *, is_json: bool = True) -> None:
        super().__init__("; ".join(fault.detail for fault in faults))
        self.faults = tuple(faults)
        self.is_json = is_json


class UnknownModel(ServingError):
    """A request names a model that is not served here."""


class NoDatastore(ServingError):
    """A request is about documents, and the server has no datastore."""


class Busy(ServingError):
    """As many requests are being answered as the server takes."""


class Stopping(ServingError):
    """The server is being stopped."""


class EngineLost(ServingError):
    """The process that makes completions ended in the middle, or is not there again yet."""


class EngineFault(ServingError):
    """The process that makes completions met an error that is not meant for people."""


class TimedOut(ServingError):
    """An answer took longer than the server lets it take."""


class MissingKey(ServingError):
    """A request without an API key, where one is needed."""


class UnknownKey(ServingError):
    """An API key that is not known, or was revoked."""


class Forbidden(ServingError):
    """A key asks for what it is not for."""


class OverLimit(ServingError):
    """A key has used up what it may ask for."""

    def __init__(self, message: str, seconds: int) -> None:
        super().__init__(f"{message}; wait {seconds} s")
        self.seconds = seconds


class StrangeHost(ServingError):
    """A request by a name that is not this machine's."""


class CannotListen(ServingError):
    """The address is taken, or is none of this machine's."""


class BadReviewerToken(ServingError):
    """The file of the reviewer's token is missing, or the token too short."""
