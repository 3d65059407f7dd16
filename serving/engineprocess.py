"""One process that makes completions, as the front reaches it: its start, what is said to and fro, and its end.

Knows nothing of what is asked of it but that answers belong to numbered requests. When the process ends, each request
that is open is told so.
"""

import queue
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, TypeAlias

from serving import wire
from serving.errors import EngineLost

ASK_AGAIN = "ask again in a few seconds"
_LAST = 10.0
"""Seconds that a process that was told to end may take for it."""

Answer: TypeAlias = wire.FromEngine | Exception
CommandOf: TypeAlias = Callable[[int], Sequence[str]]
"""The command that starts a process, by the number of the file that it is to be reached by."""


class EngineProcess:
    """A process that was started; ``listen`` takes what it says, until it ends."""

    def __init__(self, command_of: CommandOf) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            self._process = subprocess.Popen(
                command_of(theirs.fileno()),
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # a Ctrl-C at the terminal is the front's to answer
            )
            self._connection: Connection[Any, Any] = Connection(ours.detach())
        self._lock = threading.Lock()
        self._sending = threading.Lock()
        self._n_opened = 0
        self._open: dict[int, queue.SimpleQueue[Answer]] = {}
        self._is_told_to_end = False
        self.ready: wire.Ready | None = None
        """What it said when it was loaded."""
        self.failure: Exception | None = None
        """What kept it from being loaded, as it said itself."""
        self.n_waiting = 0

    @property
    def id(self) -> int:
        """As the system has it."""
        return self._process.pid

    @property
    def n_open(self) -> int:
        """Requests that are open."""
        return len(self._open)

    def open(self) -> "tuple[int, queue.SimpleQueue[Answer]]":
        """A request's number, and where its answers will be. Raises EngineLost after the end."""
        with self._lock:
            if self._connection.closed:
                raise EngineLost(f"the process that makes completions has just ended; {ASK_AGAIN}")
            self._n_opened += 1
            answers = self._open[self._n_opened] = queue.SimpleQueue()
            return self._n_opened, answers

    def forget(self, number: int) -> None:
        """Nobody looks for answers to this request any more."""
        self._open.pop(number, None)

    def send(self, number: int, message: wire.ToEngine) -> None:
        """Say something. What a process that has ended does not hear, its open requests are told elsewhere."""
        line = wire.packed(number, message)
        with self._sending, suppress(OSError):
            self._connection.send_bytes(line)

    def listen(self, on_ready: Callable[[wire.Ready], None]) -> None:
        """Take what it says until it ends; ``on_ready`` is called once it has said that it is loaded."""
        try:
            with suppress(EOFError, OSError, ValueError):  # what makes no sense is the end too
                while True:
                    self._take(*wire.unpacked(self._connection.recv_bytes()), on_ready)
        finally:
            with self._lock, self._sending:
                self._connection.close()
            for answers in list(self._open.values()):
                answers.put(EngineLost(f"the process that made this answer has ended; {ASK_AGAIN}"))

    def end(self) -> None:
        """Tell it to end, in its own time; ``kill`` where that is up."""
        self._is_told_to_end = True
        self.send(0, wire.Stop())

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()

    def ending(self) -> str:
        """Wait for the end of a process that says no more; how it ended."""
        if self._is_told_to_end:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_LAST)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(1)
        self._process.kill()  # where it has closed its socket and lives on
        status = self._process.wait()
        if status >= 0:
            return f"with status {status}"
        names = {one.value: one.name for one in signal.Signals}
        return f"by signal {-status}, {names.get(-status, 'unknown')}"

    def _take(self, number: int, message: wire.FromEngine, on_ready: Callable[[wire.Ready], None]) -> None:
        answers = self._open.get(number)
        match message:
            case wire.Ready():
                self.ready = message
                on_ready(message)
            case wire.Waiting():
                self.n_waiting = message.n
            case wire.Failed() if number == 0:
                self.failure = message.to_error()
            case wire.Failed() if answers is not None:
                answers.put(message.to_error())
            case _ if answers is not None:
                answers.put(message)
