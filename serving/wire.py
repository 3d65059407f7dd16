"""What the front and the engine's process tell each other, as bytes and back.

A message is one line: its kind, the number of the request that it is about (0 where it is about none), and the fields
of a dataclass as JSON. Nothing is unpickled, so whoever could write to the socket could only say what stands here.
Floats keep their bits, NaN among them. Knows no sockets and no processes.
"""

from dataclasses import dataclass
from typing import Any, TypeAlias

from pydantic import TypeAdapter
from pydantic_core import to_json

from datastore import errors as datastore_errors
from serving import errors as serving_errors
from serving.errors import EngineFault
from serving.jobs import Ended, Job, Made, Read
from silo import errors as silo_errors
from silo.documents import Document
from silo.ingested import Ingested


@dataclass(frozen=True)
class Start:
    """To the engine: make these."""

    jobs: tuple[Job, ...]


@dataclass(frozen=True)
class Taken:
    """To the engine: so many events of the request were read by whoever waits for them."""

    n: int


@dataclass(frozen=True)
class Left:
    """To the engine: nobody waits for the request any more."""


@dataclass(frozen=True)
class Add:
    """To the engine: encode and add these."""

    documents: tuple[Document, ...]


@dataclass(frozen=True)
class Stop:
    """To the engine: end."""


@dataclass(frozen=True)
class Ready:
    """From the engine: the model is loaded."""

    name: str
    context_length: int
    gate: str | None
    """Digest of the gate that decides shares; None where there is none."""
    store_trouble: str | None
    """Why it does not use the datastore that it was given; None where it does."""


@dataclass(frozen=True)
class Begun:
    """From the engine: the jobs of the request are as they should be, and are being made."""


@dataclass(frozen=True)
class Waiting:
    """From the engine: how many completions wait to be begun."""

    n: int


@dataclass(frozen=True)
class Over:
    """From the engine: all events of the request were told."""


@dataclass(frozen=True)
class Failed:
    """From the engine: the request ends with an error."""

    error: str
    """Where the class is, and its name."""
    message: str

    @classmethod
    def of(cls, error: Exception) -> "Failed":
        """``error``, as the front is to raise it. What is not meant for people stays behind, in the log."""
        known = _name(type(error)) in _ERRORS
        return cls(_name(type(error)), str(error)) if known else cls(_name(EngineFault), _FAULT)

    def to_error(self) -> Exception:
        """What is to be raised."""
        return _ERRORS.get(self.error, EngineFault)(self.message)


ToEngine: TypeAlias = Start | Taken | Left | Add | Stop
FromEngine: TypeAlias = Ready | Begun | Waiting | Read | Made | Ended | Over | Failed | Ingested
Message: TypeAlias = ToEngine | FromEngine

_KINDS = (Start, Taken, Left, Add, Stop, Ready, Begun, Waiting, Read, Made, Ended, Over, Failed, Ingested)
_FAULT = "the engine failed at this request; its log says more"


def packed(number: int, message: Message) -> bytes:
    """``message`` about request ``number``."""
    fields = to_json(message, inf_nan_mode="constants", fallback=dict)  # for mappings that are no dict
    return b"%s %d %s" % (type(message).__name__.encode(), number, fields)


def unpacked(line: bytes) -> tuple[int, Any]:
    """The number of the request and the message. Raises ValueError where ``line`` is none."""
    kind, number, fields = line.split(b" ", 2)
    if kind not in _ADAPTERS:
        raise ValueError(f"a message must be one of {', '.join(one.__name__ for one in _KINDS)}; got {kind!r:.80}")
    return int(number), _ADAPTERS[kind].validate_json(fields)


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__name__}"


def _made_of_a_message(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Exception) and "__init__" not in vars(kind)


_ADAPTERS: dict[bytes, TypeAdapter[Any]] = {kind.__name__.encode(): TypeAdapter(kind) for kind in _KINDS}
_ERRORS: dict[str, type[Exception]] = {
    _name(kind): kind
    for module in (serving_errors, silo_errors, datastore_errors)
    for kind in vars(module).values()
    if _made_of_a_message(kind)
}
"""Errors that cross as themselves: all that were raised on purpose and are made of their message alone."""
