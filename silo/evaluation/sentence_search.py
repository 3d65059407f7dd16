"""The baseline of attribution: which stored sentences resemble a text, by BM25 and nothing else.

What a search after the fact would name as sources. By the datastore's own passages view (`datastore.passages`), with
each live sentence as a passage of its own; knows no LM and no mass.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType

import numpy as np

from datastore.passages import PassagesView, index_passages
from datastore.ranking import Question, rank
from datastore.store import Datastore
from datastore.views import LiveMask


class SentenceSearch:
    """The sentences that were live in ``store`` when this was made; a context manager, since its index lies in files.

    Its answers are as of then: it is for measuring, not for serving.
    """

    def __init__(self, store: Datastore) -> None:
        self._folder = TemporaryDirectory(prefix="silo-sentences-")
        self._places: list[tuple[str, int]] = []
        documents = []
        for document in store.documents("live"):
            live = store.live_text(document.facts.id)
            if live is None:
                continue
            n, start = len(live.sentences), len(self._places)
            each = np.arange(n)
            # A sentence counts as one position, and one that was taken out is a passage without any.
            ranges = np.stack([each, each + ~live.is_removed], axis=1).reshape(-1, 2)
            documents.append((start, n, np.column_stack([each, live.sentences.reshape(-1, 2)]), ranges, live.text))
            self._places += [(document.facts.id, i) for i in range(n)]
        folder = Path(self._folder.name)
        for name, array in index_passages(documents).items():
            np.save(folder / name, array)
        self._part = (PassagesView(folder, len(self._places), 0), LiveMask.all(len(self._places)))

    def __enter__(self) -> "SentenceSearch":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._folder.cleanup()

    def best(self, text: str, n: int = 10) -> list[tuple[str, int]]:
        """Document and index of the ``n`` sentences that resemble ``text`` most; fewer where fewer share a word."""
        found, _ = rank([self._part], Question.of(text, n, "bm25", None, 0))
        return [self._places[i] for i in found.tolist()]
