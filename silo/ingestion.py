"""Adding documents to a datastore that is being served: the checks of ``silo datastore add``, then its encoding.

A document whose publisher reserves it, or whose text was opted out, stays out, with the reason.
"""

import threading
from collections.abc import Iterator, Sequence

from datastore.errors import DuplicateDocument, UnknownDocument
from datastore.records import EncodedDocument
from datastore.store import Datastore
from datastore.suppression import barred
from datastore.writer import add
from silo.documents import Document
from silo.encoding import encode_document, facts_of, with_passage_vectors
from silo.ingested import Ingested
from silo.lm import LanguageModel
from silo.passages import PassageEncoder
from silo.preferences import preference


class Ingester:
    """Adds to one store, a request at a time."""

    def __init__(self, lm: LanguageModel, store: Datastore, device: str = "cpu") -> None:
        self._lm, self._store, self._device = lm, store, device
        self._passages: PassageEncoder | None = None
        self._lock = threading.Lock()

    def ingest(self, documents: Sequence[Document]) -> Ingested:
        """Add ``documents``, all of them but those that are refused.

        Raises:
            DuplicateDocument: an id is in the store already, or comes twice; nothing was added.
            WriterBusy: another process is writing.
        """
        self._check_new(documents)
        refused: list[tuple[str, str]] = []
        with self._lock:
            added = add(self._store, self._encoded(documents, refused))
        return Ingested(added.n_documents, added.n_entries, (*refused, *added.refused))

    def _check_new(self, documents: Sequence[Document]) -> None:
        """Before it costs a pass of the LM."""
        seen: set[str] = set()
        for document in documents:
            try:
                self._store.document(document.id)
            except UnknownDocument:
                if document.id not in seen:
                    seen.add(document.id)
                    continue
            raise DuplicateDocument(
                f"document id {document.id!r} is in this store already, or twice in this request; ids are not used "
                "again. Nothing was added. Give the document another id, or leave it out."
            )

    def _encoded(self, documents: Sequence[Document], refused: list[tuple[str, str]]) -> Iterator[EncodedDocument]:
        settings = self._store.passage_settings
        if settings.dimension and self._passages is None:
            self._passages = PassageEncoder.load_for(settings, None, self._device)
        for document in documents:
            said = preference(document)
            if not said.allowed:
                refused.append((document.id, said.reason))
            elif reason := barred(self._store.catalog, facts_of(document), document.text):
                refused.append((document.id, reason))
            else:
                made = encode_document(self._lm, document)
                yield (
                    made if self._passages is None else with_passage_vectors(made, self._passages, settings.max_tokens)
                )
