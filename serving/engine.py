"""What the endpoints ask of a model and its datastore: completions, documents, opt-outs.

Knows nothing of HTTP or JSON, and of the model what ``serving.protocols`` says.

Requests run in threads of their own and take **turns** at the model, a token each, in the order of
asking: every request moves on, however long the others are, and the model is never entered twice at
once. A batching scheduler would stand where the turns are. Documents and opt-outs wait for no turn.
"""

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from datastore.errors import UnknownDocument
from datastore.records import StoredDocument
from serving.errors import Busy, NoDatastore, Stopping, UnknownModel
from serving.protocols import Generation, Model, Prompt, Receipt, Store
from silo import __version__
from silo.attribution import GeneratedToken, TokenSource
from silo.settings import GenerationSettings

DEFAULT_SLOTS = 12
"""Requests that may generate at once; the rest are told to come back."""


@dataclass(frozen=True)
class Passage:
    """A source sentence that may be shown at this moment."""

    document: StoredDocument
    text: str


def _opt_out(store: Any, document: str, now: datetime) -> Receipt:
    from datastore.optout import opt_out

    return opt_out(store, document, now=now)


class Engine:
    """Runs completions for many clients at once; answers about documents and removes them."""

    def __init__(
        self,
        model: Model,
        *,
        slots: int = DEFAULT_SLOTS,
        opt_out: Callable[[Any, str, datetime], Receipt] = _opt_out,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._model = model
        self._opt_out = opt_out
        self._opt_outs = threading.Lock()
        self._turns = _Turns()
        self._slots = threading.BoundedSemaphore(slots)
        self._n_slots = slots
        self._is_closed = False
        self.now = clock
        self.started = clock()

    @property
    def model_name(self) -> str:
        """What clients call the model."""
        return self._model.lm.name

    @property
    def context_length(self) -> int:
        """Tokens of prompt and completion together."""
        return self._model.lm.context_length

    @property
    def epoch(self) -> int | None:
        """The datastore's version at this moment; None without a datastore."""
        return None if self._model.datastore is None else self._model.datastore.epoch

    @property
    def fingerprint(self) -> str:
        """Short name for all that decides an answer besides the request: code, model, datastore, version."""
        store = self._model.datastore
        parts = (__version__, self.model_name, "" if store is None else f"{store.id} {store.epoch}")
        return "silo_" + hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]

    def check_model(self, name: str | None) -> None:
        """Raise UnknownModel unless ``name`` is the model that is served; None asks for whichever is."""
        if name is not None and name != self.model_name:
            raise UnknownModel(f"model must be {self.model_name!r}, the one that is served here; got {name!r:.80}")

    def token_text(self, token: int) -> str:
        """The text of one token by itself; U+FFFD where it is part of a character."""
        return self._model.lm.tokenizer.decode([token])

    def start(
        self,
        prompts: Sequence[Prompt],
        settings: GenerationSettings,
        has_left: Callable[[], bool] = lambda: False,
    ) -> "Run":
        """Check the prompts and hold a slot for them; close what is returned.

        ``has_left`` is asked before every token whether anybody still waits for it.
        Raises Busy when every slot is taken, Stopping after ``close``, and PromptTooLong or BadRequest by the prompt.
        """
        self._check_open()
        if not self._slots.acquire(blocking=False):
            raise Busy(f"{self._n_slots} requests are being answered, which is the limit; try again in a second")
        try:
            with self._turns.turn():
                generations = tuple(self._model.generate(prompt, settings) for prompt in prompts)
        except BaseException:
            self._slots.release()
            raise
        return Run(generations, self._turns, self._slots, has_left, self._check_open)

    def close(self) -> None:
        """End the completions that are being made at their next token, with Stopping, and begin no more.

        Waits for nothing, so a signal may call it.
        """
        self._is_closed = True

    def _check_open(self) -> None:
        if self._is_closed:
            raise Stopping("the server is being stopped; ask again when it is back")

    def document(self, id: str) -> StoredDocument:  # noqa: A002
        """Facts and state of a document. Raises UnknownDocument, and NoDatastore where there is none."""
        return self._store().document(id)

    def passage(self, source: TokenSource) -> Passage | None:
        """The source sentence and its document; None where it has left the datastore.

        The state is read after the text, so that a text which is returned was live when it was read.
        """
        store = self._store()
        try:
            text = store.sentence_text(source.document, source.sentence)
            document = store.document(source.document)
        except UnknownDocument:
            return None
        return Passage(document, text) if document.state == "live" else None

    def opt_out(self, document: str) -> tuple[Receipt, bool]:
        """Take a document out; the receipt, and whether it was this request that removed it.

        In force when this returns. Raises UnknownDocument, and NoDatastore where there is none.
        """
        store = self._store()
        with self._opt_outs:
            was_live = store.document(document).state == "live"
            return self._opt_out(store, document, self.now()), was_live

    def _store(self) -> Store:
        if self._model.datastore is None:
            raise NoDatastore("this server has no datastore, so it holds no documents; start it with --datastore DIR")
        return self._model.datastore


class Run:
    """The completions of one request; a context manager that gives its slot back, however it ends."""

    def __init__(
        self,
        generations: tuple[Generation, ...],
        turns: "_Turns",
        slots: threading.Semaphore,
        has_left: Callable[[], bool],
        check_open: Callable[[], None],
    ) -> None:
        self.generations = generations
        self._turns = turns
        self._slots = slots
        self._has_left = has_left
        self._check_open = check_open
        self._is_closed = False

    def tokens(self, generation: Generation) -> Iterator[GeneratedToken]:
        """The tokens of one of ``generations``, each made in a turn of its own.

        Ends early when the client has left, and with Stopping when the engine is closed.
        Closing this iterator closes the generation.
        """
        steps = iter(generation)
        try:
            while not self._has_left():
                with self._turns.turn():
                    self._check_open()
                    token = next(steps, None)
                if token is None:
                    return
                yield token
        finally:
            close = getattr(steps, "close", None)
            if close is not None:
                close()

    def close(self) -> None:
        """Give the slot back; once is enough, more does no harm."""
        if not self._is_closed:
            self._is_closed = True
            self._slots.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


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
