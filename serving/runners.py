"""Threads that make completions: so many at once, the rest in a queue with an end.

Knows nothing of HTTP, and of the model what ``serving.protocols`` says. Each completion has a thread of its own for as
long as it is made; what it makes goes to its request through a queue, so a client that reads slowly holds up nobody.
Between two tokens a thread looks whether anybody still waits for the next one, so a completion that nobody wants
ends within a token. A model that must not be entered twice at once is entered in **turns**, a token each, in the order
of asking: every request moves on, however long the others are.
"""

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from typing import TYPE_CHECKING

from serving.errors import Busy, Stopping, TimedOut
from serving.jobs import Ended, Event, Job, Made, Read
from serving.protocols import Generation, Model
from silo.documents import Document

if TYPE_CHECKING:
    from silo.ingested import Ingested
    from silo.ingestion import Ingester

DEFAULT_SLOTS = 16
"""Completions that are made at once."""
DEFAULT_WAITING = 64
"""Requests that may wait for a slot; the rest are told to come back."""
DEFAULT_SECONDS = 300.0
"""That a request may take, from its arrival on."""
MOST_AT_ONCE = 8
"""Completions of one request that are made at once."""
_UNREAD = 256
"""Tokens that may wait to be read before their completion waits too."""
_GLANCE = 0.1
"""Seconds between two looks at whether a client is still there."""


class Runners:
    """The threads, and the requests that they work for."""

    def __init__(
        self,
        model: Model,
        slots: int = DEFAULT_SLOTS,
        waiting: int = DEFAULT_WAITING,
        seconds: float = DEFAULT_SECONDS,
        *,
        alone: Model | None = None,
    ) -> None:
        """With ``alone``, which makes what must not depend on others, ``model`` may be entered by many at once."""
        self._model = model
        self._alone = model if alone is None else alone
        self._n_slots = slots
        self._most = slots + waiting
        self._seconds = seconds
        self._turn: Callable[[], AbstractContextManager[None]] = _Turns().turn if alone is None else nullcontext
        self._changed = threading.Condition()
        self._jobs: deque[Callable[[], None]] = deque()
        self._threads: list[threading.Thread] = []
        self._n_idle = 0
        self._n_requests = 0
        self._is_closed = False
        self._ingester: "Ingester | None" = None

    @property
    def n_requests(self) -> int:
        """Requests that are being answered or wait."""
        return self._n_requests

    @property
    def n_waiting(self) -> int:
        """Completions that wait for a thread."""
        return len(self._jobs)

    @property
    def trouble(self) -> str | None:
        """Why no completions can be made; None where they can."""
        return "the server is being stopped" if self._is_closed else None

    @property
    def store_trouble(self) -> str | None:
        """Why completions are made without the datastore; None, since there is but one here."""
        return None

    def start(self, jobs: Sequence[Job], has_left: Callable[[], bool] = lambda: False) -> "LocalRun":
        """Check the prompts and begin; close what is returned.

        ``has_left`` is asked again and again whether anybody still waits. Raises Busy when too many requests wait,
        Stopping after ``close``, and PromptTooLong or BadRequest by the prompt.
        """
        self.check_open()
        with self._changed:
            if self._n_requests >= self._most:
                raise Busy(f"{self._most} requests are being answered, which is the limit; try again in a second")
            self._n_requests += 1
        try:
            makers = [self._alone if job.is_alone else self._model for job in jobs]
            generations = [maker.generate(job.prompt, job.settings) for maker, job in zip(makers, jobs, strict=True)]
        except BaseException:
            self.leave()
            raise
        run = LocalRun(self, jobs, generations, has_left, time.monotonic() + self._seconds)
        run.begin()
        return run

    def ingest(self, documents: Sequence[Document]) -> "Ingested":
        """Encode and add documents, in the caller's thread. Raises DuplicateDocument and WriterBusy."""
        from silo.ingestion import Ingester

        if self._ingester is None:
            self._ingester = Ingester(self._model.lm, self._model.datastore)  # type: ignore[arg-type]
        return self._ingester.ingest(documents)

    def close(self) -> None:
        """End the completions that are being made at their next token, with Stopping, and begin no more.

        Waits for nothing, so a signal may call it.
        """
        self._is_closed = True

    def join(self, seconds: float) -> None:
        """After ``close``, wait for the threads to end."""
        deadline = time.monotonic() + seconds
        while any(thread.is_alive() for thread in self._threads) and time.monotonic() < deadline:
            with self._changed:
                self._changed.notify_all()
            time.sleep(0.01)

    def check_open(self) -> None:
        """Raise Stopping after ``close``."""
        if self._is_closed:
            raise Stopping("the server is being stopped; ask again when it is back")

    def leave(self) -> None:
        """A request is over."""
        with self._changed:
            self._n_requests -= 1

    def submit(self, job: Callable[[], None]) -> None:
        """Have a thread do ``job``, in the order of asking."""
        with self._changed:
            self._jobs.append(job)
            if self._n_idle < len(self._jobs) and len(self._threads) < self._n_slots:
                thread = threading.Thread(target=self._work, name=f"runner-{len(self._threads)}", daemon=True)
                self._threads.append(thread)
                thread.start()
            self._changed.notify()

    def make(
        self, job: Job, generation: Generation, index: int, is_wanted: Callable[[], bool]
    ) -> Generator[Event, None, None]:
        """Make one completion, as its events."""
        if job.is_echoed:
            with self._turn():
                scored = self._model.score(job.prompt, job.settings, job.n_echoed_top)
            yield Read(index, scored)
        steps = iter(generation)
        n_known = 0
        try:
            while is_wanted():
                with self._turn():
                    token = next(steps, None)
                if token is None:
                    reason, n_prompt = generation.finish_reason, generation.n_prompt_tokens
                    read = tuple(generation.context_sources)
                    yield Ended(index, reason, n_prompt, generation.datastore_epoch, read)
                    return
                read = tuple(generation.context_sources)
                yield Made(index, token, generation.datastore_epoch, read if len(read) > n_known else ())
                n_known = len(read)
        finally:
            close = getattr(steps, "close", None)
            if close is not None:
                close()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._n_idle += 1
                while not self._jobs and not self._is_closed:
                    self._changed.wait()
                self._n_idle -= 1
                if not self._jobs:
                    return
                job = self._jobs.popleft()
            job()


class LocalRun:
    """The jobs of one request; see ``jobs.Run``."""

    def __init__(
        self,
        runners: Runners,
        jobs: Sequence[Job],
        generations: Sequence[Generation],
        has_left: Callable[[], bool],
        deadline: float,
    ) -> None:
        self._runners = runners
        self._jobs = jobs
        self._generations = generations
        self._has_left = has_left
        self._deadline = deadline
        self._told: queue.Queue[Event | Exception] = queue.Queue(_UNREAD)
        self._lock = threading.Lock()
        self._n_begun = 0
        self._is_closed = False

    def begin(self) -> None:
        """Hand the first jobs out; each that ends hands out another."""
        for _ in range(min(MOST_AT_ONCE, len(self._jobs))):
            self._submit_next()

    def events(self) -> Iterator[Event]:
        """See ``jobs.Run``."""
        n_left = len(self._jobs)
        while n_left:
            try:
                told = self._told.get(timeout=_GLANCE)
            except queue.Empty:
                told = None
            if self._has_left():
                return
            if isinstance(told, Exception):
                raise told
            self._runners.check_open()
            if told is None:
                self._check_time()
                continue
            n_left -= isinstance(told, Ended)
            yield told

    def close(self) -> None:
        """See ``jobs.Run``."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
        self._runners.leave()

    def _submit_next(self) -> None:
        with self._lock:
            index = self._n_begun
            if self._is_closed or index >= len(self._jobs):
                return
            self._n_begun += 1
        self._runners.submit(lambda: self._do(index))

    def _do(self, index: int) -> None:
        """In a thread of the runners."""
        try:
            made = self._runners.make(self._jobs[index], self._generations[index], index, self._is_wanted)
            with closing(made):
                for event in made:
                    if not self._tell(event):
                        return
        except Exception as error:
            self._tell(error)
        finally:
            self._submit_next()

    def _is_wanted(self) -> bool:
        self._runners.check_open()
        self._check_time()
        return not self._is_closed

    def _check_time(self) -> None:
        if time.monotonic() > self._deadline:
            raise TimedOut("the answer took longer than this server lets a request take; ask for fewer tokens")

    def _tell(self, event: Event | Exception) -> bool:
        """Whether anybody will read it."""
        while not self._is_closed:
            try:
                self._told.put(event, timeout=_GLANCE)
                return True
            except queue.Full:
                if time.monotonic() > self._deadline:
                    return False
        return False


class _Turns:
    """A lock that is granted in the order of asking; the standard one may favor whoever had it last."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._next_ticket = 0
        self._serving = 0

    @contextmanager
    def turn(self) -> Iterator[None]:
        with self._changed:
            ticket = self._next_ticket
            self._next_ticket += 1
            while self._serving != ticket:
                self._changed.wait()
        try:
            yield
        finally:
            with self._changed:
                self._serving += 1
                self._changed.notify_all()
