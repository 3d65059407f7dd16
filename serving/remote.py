"""Completions by a process of their own, which is started again whenever it ends.

What crashes there, a native library above all, takes the requests that were being answered with it and nothing else:
they end with ``EngineLost``, and so does what is asked until the next process is ready. Documents, opt-outs and the
portal are answered by this process meanwhile. Processes that end soon after they began are started at longer and longer
intervals.

The engine ends with this process, however that ends: it reads from a socket of which nobody else holds the other end.
"""

import logging
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from serving import wire
from serving.engineprocess import ASK_AGAIN, Answer, CommandOf, EngineProcess
from serving.errors import EngineLost, Stopping, TimedOut
from serving.jobs import Ended, Event, Job, Made, Read
from serving.protocols import LanguageModel, Store, Tokenizer
from serving.runners import DEFAULT_SECONDS
from serving.worker import UNREAD, Recipe
from silo.documents import Document

if TYPE_CHECKING:
    from silo.ingested import Ingested

PAUSES = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""Seconds until the next process is started, after the first in a row that ended soon, the second, and so on."""
STEADY = 60.0
"""Seconds that a process must have lived for not to count as one that ended soon."""
_GRACE = 10.0
"""Seconds beyond a request's time, so that the engine can say itself that it is over."""
_GLANCE = 0.1
"""Seconds between two looks at whether a client is still there."""
_TOGETHER = UNREAD // 8
"""Events that are read before the engine is told so."""

logger = logging.getLogger("serving")


@dataclass(frozen=True)
class RemoteLM:
    """The parametric half, without its weights."""

    name: str
    context_length: int
    tokenizer: Tokenizer


@dataclass(frozen=True)
class RemoteModel:
    """What this process knows of the engine's model; see ``protocols.Served``."""

    lm: LanguageModel
    datastore: Store | None
    gate: object | None = None
    max_verbatim: int | None = None


def command_of(recipe: Recipe) -> CommandOf:
    """The command of an engine that loads what ``recipe`` says."""
    python = [sys.executable, "-X", "faulthandler", "-m", "serving.worker"]
    return lambda file: [*python, str(file), recipe.to_json()]


class RemoteMakers:
    """Whichever process makes completions now; see ``jobs.Makers``."""

    def __init__(
        self, command: CommandOf, *, seconds: float = DEFAULT_SECONDS, pauses: Sequence[float] = PAUSES
    ) -> None:
        """``seconds``: that a request may take, as the engine has it too."""
        self._command = command
        self._seconds = seconds
        self._pauses = pauses
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._is_closed = False
        self._current: EngineProcess | None = None
        """Ready or not; None between two."""
        self._first: wire.Ready | Exception | None = None
        self._trouble = "the model is being loaded"
        self._thread = threading.Thread(target=self._keep, name="engine", daemon=True)
        self._thread.start()

    def wait_for_first(self) -> wire.Ready:
        """What the first engine says of its model when it is loaded. Raises what kept it from that."""
        with self._changed:
            while self._first is None:
                self._changed.wait()
        if isinstance(self._first, Exception):
            raise self._first
        return self._first

    @property
    def n_requests(self) -> int:
        """Requests that are being answered or wait."""
        engine = self._current
        return 0 if engine is None else engine.n_open

    @property
    def n_waiting(self) -> int:
        """Completions that wait to be begun."""
        engine = self._current
        return 0 if engine is None else engine.n_waiting

    @property
    def trouble(self) -> str | None:
        """Why no completions can be made; None where they can."""
        if self._is_closed:
            return "the server is being stopped"
        engine = self._current
        return self._trouble if engine is None or engine.ready is None else None

    @property
    def store_trouble(self) -> str | None:
        """Why completions are made without the datastore."""
        engine = self._current
        return None if engine is None or engine.ready is None else engine.ready.store_trouble

    @property
    def process_id(self) -> int | None:
        """Of the engine; None where there is none at this moment."""
        engine = self._current
        return None if engine is None else engine.id

    def start(self, jobs: Sequence[Job], has_left: Callable[[], bool] = lambda: False) -> "RemoteRun":
        """See ``jobs.Makers``; raises EngineLost too."""
        run = RemoteRun(self, self._engine(), len(jobs), has_left, time.monotonic() + self._seconds + _GRACE)
        try:
            run.begin(jobs)
        except BaseException:
            run.close()
            raise
        return run

    def ingest(self, documents: Sequence[Document]) -> "Ingested":
        """See ``jobs.Makers``; raises EngineLost too, after which the documents may be there or not."""
        from silo.ingested import Ingested

        engine = self._engine()
        number, answers = engine.open()
        try:
            engine.send(number, wire.Add(tuple(documents)))
            answer = None
            while answer is None:
                self.check_open()
                answer = _next(answers)
            assert isinstance(answer, Ingested)
            return answer
        finally:
            engine.forget(number)

    def close(self) -> None:
        """End what is being made, with Stopping, and begin no more. Waits for nothing, so a signal may call it."""
        self._is_closed = True

    def join(self, seconds: float) -> None:
        """After ``close``, tell the engine to end, and wait until it has; one that does not is killed."""
        self._closing.set()
        if (engine := self._current) is not None:
            engine.end()
            self._thread.join(seconds)
            engine.kill()
        self._thread.join(seconds)

    def check_open(self) -> None:
        """Raise Stopping after ``close``."""
        if self._is_closed:
            raise Stopping("the server is being stopped; ask again when it is back")

    def _engine(self) -> EngineProcess:
        self.check_open()
        engine = self._current
        if engine is None or engine.ready is None:
            raise EngineLost(f"no completions can be made right now: {self._trouble}; {ASK_AGAIN}")
        return engine

    def _keep(self) -> None:
        """Keep a process running: in a thread of its own."""
        n_soon = 0
        while not self._closing.is_set():
            began = time.monotonic()
            engine = self._current = EngineProcess(self._command)
            engine.listen(self._tell)
            self._trouble = "the process that makes them has ended and is being started again"
            self._current = None
            how = engine.ending()
            self._tell(engine.failure or EngineLost(f"the engine ended {how} before it was loaded; its log says why"))
            if isinstance(self._first, Exception) or self._closing.is_set():
                return
            n_soon = n_soon + 1 if time.monotonic() - began < STEADY else 1
            pause = self._pauses[min(n_soon, len(self._pauses)) - 1]
            logger.error("the engine ended %s; the next one is started in %g s", how, pause)
            self._closing.wait(pause)

    def _tell(self, first: wire.Ready | Exception) -> None:
        """What became of the first process; of later ones nobody waits to hear."""
        with self._changed:
            self._first = self._first or first
            self._changed.notify_all()


class RemoteRun:
    """The jobs of one request; see ``jobs.Run``."""

    def __init__(
        self,
        makers: RemoteMakers,
        engine: EngineProcess,
        n_jobs: int,
        has_left: Callable[[], bool],
        deadline: float,
    ) -> None:
        self._makers = makers
        self._engine = engine
        self._n_jobs = n_jobs
        self._has_left = has_left
        self._deadline = deadline
        self._number, self._answers = engine.open()
        self._lock = threading.Lock()
        self._is_closed = False

    def begin(self, jobs: Sequence[Job]) -> None:
        """Have the engine check ``jobs`` and begin. Raises what is wrong with them."""
        self._engine.send(self._number, wire.Start(tuple(jobs)))
        while self._next() is None:
            if self._has_left():
                return

    def events(self) -> Iterator[Event]:
        """See ``jobs.Run``; raises EngineLost too."""
        n_left, n_read = self._n_jobs, 0
        while n_left:
            told = self._next()
            if self._has_left():
                return
            if not isinstance(told, Read | Made | Ended):
                continue
            n_read += 1
            if n_read % _TOGETHER == 0:
                self._engine.send(self._number, wire.Taken(_TOGETHER))
            n_left -= isinstance(told, Ended)
            yield told

    def close(self) -> None:
        """See ``jobs.Run``."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
        self._engine.send(self._number, wire.Left())
        self._engine.forget(self._number)

    def _next(self) -> wire.FromEngine | None:
        """What the engine says next; None where it says nothing for a moment."""
        answer = _next(self._answers)
        self._makers.check_open()
        if answer is None and time.monotonic() > self._deadline:
            raise TimedOut("the answer took longer than this server lets a request take; ask for fewer tokens")
        return answer


def _next(answers: "queue.SimpleQueue[Answer]") -> wire.FromEngine | None:
    with suppress(queue.Empty):
        answer = answers.get(timeout=_GLANCE)
        if isinstance(answer, Exception):
            raise answer
        return answer
    return None
