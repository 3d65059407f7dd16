"""The engine's own process: loads the model, makes completions, and tells them to the front.

Started by ``serving.remote`` as ``python -m serving.worker FD RECIPE``, with one end of a pair of sockets as the open
file ``FD``. It ends when the other end is closed, whatever it is doing then, so nothing outlives the front. What goes
over the socket is in ``serving.wire``. An opt-out needs none of it: the datastore's own barrier reaches every process.
"""

import json
import logging
import os
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from serving import wire
from serving.jobs import Job, Makers, Run
from silo.documents import Document

UNREAD = 256
"""Events of a request that may be told before those that were told are read."""
_GLANCE = 0.2
"""Seconds between two looks, while the model is loaded, at whether the front is still there."""
_LAST = 5.0
"""Seconds that threads get at the end."""

logger = logging.getLogger("serving.engine")


@dataclass(frozen=True)
class Recipe:
    """What the process is to load."""

    model: str
    datastore: str | None
    device: str = "cpu"
    max_verbatim: int | None = None
    verbatim_allowance: int | None = None
    slots: int = 16

    def to_json(self) -> str:
        """As a word of a command."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Recipe":
        """What ``to_json`` made."""
        return cls(**json.loads(text))


class Worker:
    """Answers one front."""

    def __init__(self, connection: "Connection[Any, Any]", makers: Makers) -> None:
        self._connection = connection
        self._makers = makers
        self._sending = threading.Lock()
        self._requests: dict[int, _Request] = {}
        self._n_waiting = 0

    def run(self, ready: wire.Ready) -> None:
        """Say that all is there, then do as the front says, until it says that this is the end, or has gone."""
        self._send(0, ready)
        with suppress(EOFError, OSError):
            while True:
                number, message = wire.unpacked(self._connection.recv_bytes())
                request = self._requests.get(number)
                match message:
                    case wire.Start():
                        self._requests[number] = new = _Request()
                        self._begin(self._make, number, message.jobs, new)
                    case wire.Taken() if request is not None:
                        request.taken(message.n)
                    case wire.Left() if request is not None:
                        request.leave()
                    case wire.Add():
                        self._begin(self._add, number, message.documents)
                    case wire.Stop():
                        return

    def _begin(self, do: Any, number: int, *about: Any) -> None:
        threading.Thread(target=do, args=(number, *about), name=f"request-{number}", daemon=True).start()

    def _make(self, number: int, jobs: Sequence[Job], request: "_Request") -> None:
        try:
            run = self._makers.start(jobs, lambda: request.has_left)
            try:
                request.has_begun(run)
                self._send(number, wire.Begun())
                for event in run.events():
                    if not request.may_tell():
                        return
                    self._send(number, event)
                self._send(number, wire.Over())
            finally:
                run.close()
        except Exception as error:
            self._fail(number, error)
        finally:
            del self._requests[number]

    def _add(self, number: int, documents: Sequence[Document]) -> None:
        try:
            self._send(number, self._makers.ingest(documents))
        except Exception as error:
            self._fail(number, error)

    def _fail(self, number: int, error: Exception) -> None:
        failed = wire.Failed.of(error)
        if failed.error.endswith("EngineFault"):
            logger.error("request %d: %s", number, type(error).__name__, exc_info=error)
        self._send(number, failed)

    def _send(self, number: int, message: wire.FromEngine) -> None:
        n_waiting = self._makers.n_waiting
        with self._sending, suppress(OSError):  # a front that has gone is noticed where its messages are read
            if n_waiting != self._n_waiting:
                self._n_waiting = n_waiting
                self._connection.send_bytes(wire.packed(0, wire.Waiting(n_waiting)))
            self._connection.send_bytes(wire.packed(number, message))


class _Request:
    """How far the front has read one request, and whether it still wants more."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._n_ahead = 0
        self._run: Run | None = None
        self.has_left = False

    def has_begun(self, run: Run) -> None:
        """``run`` makes it, and is closed at once where nobody waits for it."""
        with self._changed:
            self._run = run
            if self.has_left:
                run.close()

    def may_tell(self) -> bool:
        """Wait until there is room for one more event; False where nobody wants it."""
        with self._changed:
            while self._n_ahead >= UNREAD and not self.has_left:
                self._changed.wait()
            self._n_ahead += 1
            return not self.has_left

    def taken(self, n: int) -> None:
        """The front has read ``n`` more."""
        with self._changed:
            self._n_ahead -= n
            self._changed.notify()

    def leave(self) -> None:
        """Nobody wants more."""
        with self._changed:
            self.has_left = True
            if self._run is not None:
                self._run.close()
            self._changed.notify()


def load(recipe: Recipe) -> tuple[Makers, wire.Ready]:
    """The makers that ``recipe`` asks for, and what the front is to know of them."""
    from serving.batching import SharedSilo
    from serving.opening import opened
    from serving.runners import Runners

    datastore = None if recipe.datastore is None else Path(recipe.datastore)
    silo, trouble = opened(recipe.model, datastore, recipe.device, recipe.max_verbatim, recipe.verbatim_allowance)
    shared = SharedSilo(silo, recipe.slots)
    ready = wire.Ready(silo.lm.name, silo.lm.context_length, None if silo.gate is None else silo.gate.digest, trouble)
    return Runners(shared, recipe.slots, alone=silo), ready


def serve(connection: "Connection[Any, Any]", makers: Makers, ready: wire.Ready) -> None:
    """Answer the front; ends this process afterward, without waiting for threads that are inside the LM."""
    Worker(connection, makers).run(ready)
    makers.close()
    makers.join(_LAST)
    _end(0)


def main(arguments: Sequence[str]) -> None:
    """Load and serve; an error while loading is told to the front."""
    connection: Connection[Any, Any] = Connection(int(arguments[0]))
    sys.setswitchinterval(0.0005)
    loaded: list[tuple[Makers, wire.Ready] | Exception] = []

    def begin() -> None:
        try:
            loaded.append(load(Recipe.from_json(arguments[1])))
        except Exception as error:
            loaded.append(error)

    loading = threading.Thread(target=begin, name="loading", daemon=True)
    loading.start()
    while loading.is_alive():
        if connection.poll(_GLANCE):  # nothing is said before this process is ready: the front has gone
            _end(0)
    (found,) = loaded
    if isinstance(found, Exception):
        failed = wire.Failed.of(found)
        if failed.error.endswith("EngineFault"):
            logger.error("the engine cannot be loaded: %s", type(found).__name__, exc_info=found)
        with suppress(OSError):
            connection.send_bytes(wire.packed(0, failed))
        _end(1)
    else:
        serve(connection, *found)


def _end(status: int) -> None:
    """End now: Python's own end would wait for threads, or take the libraries from under them."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    main(sys.argv[1:])
