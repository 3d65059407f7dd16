"""What the endpoints ask of a model and its datastore: completions, documents, opt-outs.

Knows nothing of HTTP or JSON, and of the model what ``serving.protocols`` says.

Who makes the completions, ``runners`` here or a process of their own, it does not say. Documents and opt-outs wait
for no completion.
"""

import hashlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

from datastore.errors import DatastoreError, UnknownDocument
from datastore.records import StoredDocument
from serving.errors import NoDatastore, UnknownModel
from serving.jobs import Job, Makers, Run
from serving.protocols import Model, Prompt, Receipt, Served, Store
from serving.runners import DEFAULT_SLOTS, Runners
from silo import __version__
from silo.attribution import TokenSource
from silo.documents import Document
from silo.errors import BadRequest

if TYPE_CHECKING:
    from datastore.store import Datastore
    from silo.generation import Silo
    from silo.ingested import Ingested


MAX_EXCERPT_CHARACTERS = 300
"""Of a source sentence: enough to recognize it by."""


@dataclass(frozen=True)
class Passage:
    """A source sentence that may be shown at this moment."""

    document: StoredDocument
    text: str | None
    """None where it is not for whoever asks."""
    excerpt: str | None
    """What of the text may be shown; None where nothing."""


def _opt_out(store: Any, document: str, now: datetime) -> Receipt:
    from datastore.optout import opt_out

    return opt_out(store, document, now=now)


class Engine:
    """Runs completions for many clients at once; answers about documents and removes them."""

    def __init__(
        self,
        model: Served,
        *,
        makers: Makers | None = None,
        opt_out: Callable[[Any, str, datetime], Receipt] = _opt_out,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        store_trouble: str | None = None,
    ) -> None:
        """``makers`` make completions; without them ``model``, which must be able to, does so in this process.

        ``store_trouble`` says why there is no datastore, where there ought to be one.
        """
        self._store_trouble = store_trouble
        self._model = model
        self._opt_out = opt_out
        self._opt_outs = threading.Lock()
        self._makers = Runners(cast(Model, model)) if makers is None else makers
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
    def store_trouble(self) -> str | None:
        """Why the datastore is off; None where it is on, or none was asked for."""
        if self._store_trouble is None and self._model.datastore is not None:
            try:
                _ = self._model.datastore.epoch
            except (DatastoreError, OSError) as error:
                return str(error)
        return self._store_trouble or self._makers.store_trouble

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

    @property
    def has_gate(self) -> bool:
        """Whether a gate can decide the shares of each token."""
        return self._model.gate is not None

    def check_components(self, *, gate: bool | None, max_verbatim: int | None) -> None:
        """Raise BadRequest where a request asks for a gate that is not there, or for more than the server's limit."""
        if gate and not self.has_gate:
            raise BadRequest("gate must be false or left out: this server has no gate")
        limit = self._model.max_verbatim
        if limit is not None and max_verbatim is not None and max_verbatim > limit:
            raise BadRequest(f"max_verbatim must be at most {limit}, which is this server's limit; got {max_verbatim}")

    def token_text(self, token: int) -> str:
        """The text of one token by itself; U+FFFD where it is part of a character."""
        return self._model.lm.tokenizer.decode([token])

    def text_of(self, prompt: Prompt) -> str:
        """What a prompt says, text or tokens."""
        return prompt if isinstance(prompt, str) else self._model.lm.tokenizer.decode(list(prompt))

    def start(self, jobs: Sequence[Job], has_left: Callable[[], bool] = lambda: False) -> Run:
        """Check the jobs of a request and begin them; close what is returned.

        ``has_left`` is asked again and again whether anybody still waits. Raises Busy, Stopping, PromptTooLong and
        BadRequest.
        """
        return self._makers.start(jobs, has_left)

    @classmethod
    def of_silo(cls, silo: "Silo", slots: int = DEFAULT_SLOTS, store_trouble: str | None = None) -> "Engine":
        """An engine that reads the completions of ``silo`` side by side."""
        from serving.batching import SharedSilo

        shared = SharedSilo(silo, slots)
        return cls(shared, makers=Runners(shared, slots, alone=silo), store_trouble=store_trouble)

    @property
    def makers(self) -> Makers:
        """Who makes the completions."""
        return self._makers

    def close(self) -> None:
        """End the completions that are being made at their next token, with Stopping, and begin no more.

        Waits for nothing, so a signal may call it.
        """
        self._makers.close()

    def document(self, id: str) -> StoredDocument:  # noqa: A002
        """Facts and state of a document. Raises UnknownDocument, and NoDatastore where there is none."""
        return self._store().document(id)

    def documents(self, after: str | None, limit: int, state: str | None) -> list[StoredDocument]:
        """At most ``limit`` documents after the one called ``after``. Raises UnknownDocument and NoDatastore."""
        from datastore.listing import page

        return page(self.whole_store(), after, limit, state)

    def ingest(self, documents: Sequence[Document]) -> "Ingested":
        """Add documents. Raises DuplicateDocument and WriterBusy, and NoDatastore where there is nothing to add to."""
        self._store()
        return self._makers.ingest(documents)

    def whole_store(self) -> "Datastore":
        """The datastore itself, for what is done with it alone. Raises NoDatastore."""
        return cast("Datastore", self._store())

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
        if document.state != "live":
            return None
        return Passage(document, text, self._excerpt(text.strip()[:MAX_EXCERPT_CHARACTERS], document.facts.risk))

    def opt_out(self, document: str) -> tuple[Receipt, bool]:
        """Take a document out; the receipt, and whether it was this request that removed it.

        In force when this returns. Raises UnknownDocument, and NoDatastore where there is none.
        """
        store = self._store()
        with self._opt_outs:
            was_live = store.document(document).state == "live"
            return self._opt_out(store, document, self.now()), was_live

    def _excerpt(self, text: str, risk: str) -> str:
        limit = self._model.max_verbatim
        if limit is None:
            return text
        from silo.copyguard import excerpt

        return excerpt(text, cast(Any, self._model.lm.tokenizer), limit, risk)

    def _store(self) -> Store:
        if self._model.datastore is None:
            raise NoDatastore(
                f"the datastore is off: {self._store_trouble}"
                if self._store_trouble
                else "this server has no datastore, so it holds no documents; start it with --datastore DIR"
            )
        return self._model.datastore
