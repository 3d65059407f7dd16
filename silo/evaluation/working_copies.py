"""Stores to experiment on: a copy that is thrown away afterwards, and a store that never had some documents.

The original is read and never written. A copy has its id and its key, so the receipts that a copy gives belong to no
log that anyone keeps; they go with it. It is made without the keys of backups and without the list of their copies:
compaction destroys the keys of what it erases wherever they lie, and would reach those of the original.
"""

import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from datastore import backup_keys, readers
from datastore.passages import PassageSettings
from datastore.store import Datastore
from datastore.writer import Encoder, add, create
from silo.documents import Document
from silo.encoding import encode_document
from silo.errors import BadRequest
from silo.lm import LanguageModel

_LEFT_OUT = (backup_keys.FILE_NAME, backup_keys.COPIES, readers.FOLDER)


@contextmanager
def working_copy(store: Datastore, folder: Path | None = None) -> Iterator[Datastore]:
    """A copy of ``store`` in a folder of its own within ``folder``, or where temporary files go; gone after the block.

    Raises:
        BadRequest: the store has changed while it was copied.
    """
    with TemporaryDirectory(prefix="silo-copy-", dir=folder) as name:
        epoch = store.epoch
        path = shutil.copytree(store.path, Path(name) / "store", ignore=shutil.ignore_patterns(*_LEFT_OUT))
        copy = Datastore.open(path)
        try:
            if not copy.epoch == epoch == store.epoch:
                raise BadRequest(f"the store at {store.path} has changed while it was copied; begin again")
            yield copy
        finally:
            copy.close()


@contextmanager
def never_had(
    store: Datastore, lm: LanguageModel, gone: Collection[str], folder: Path | None = None
) -> Iterator[Datastore]:
    """A store that is built from the texts of ``store`` but for the documents ``gone``; it is gone after the block.

    In the same space of keys, in the order of ingestion, and without vectors of passages. Every text is encoded
    again: its keys are those of ``store`` to the bit where that was built on a machine that rounds as this one does.

    Raises:
        BadRequest: sentences were taken out of a document that stays: its keys were computed with them in context, so
            no text gives them. Or a document is hidden, and nobody knows yet whether it stays.
    """
    if any(store.documents("hidden")):
        raise BadRequest(f"documents of {store.path} are hidden while requests are reviewed; decide on these first")
    with TemporaryDirectory(prefix="silo-never-", dir=folder) as name:
        manifest = store.manifest
        made = create(
            Path(name) / "store",
            Encoder(lm.fingerprint, lm.name, lm.dimension, lm.vocab_size),
            store.space,
            (),
            n_lists=manifest.n_lists,
            knn_temperature=manifest.knn_temperature,
            now=datetime.now(UTC),
            max_segment_positions=manifest.max_segment_positions,
            exact_below=manifest.exact_below,
            passages=PassageSettings(manifest.passage_tokens),
        )
        try:
            stays = [one for one in store.documents("live") if one.facts.id not in gone]
            add(made, (encode_document(lm, live_document(store, one.facts.id)) for one in stays))
            for one in stays:
                if made.document(one.facts.id).n_entries != one.n_entries:
                    raise BadRequest(f"sentences were taken out of {one.facts.id!r}; it cannot be built from its text")
            yield made
        finally:
            made.close()


def live_document(store: Datastore, id: str) -> Document:  # noqa: A002
    """A live document as it was added. Raises BadRequest where it is not live."""
    live = store.live_text(id)
    if live is None:
        raise BadRequest(f"document {id!r} is not live in the store at {store.path}; name one that is")
    facts = store.document(id).facts
    named = {name: getattr(facts, name) for name in ("license", "source", "title", "owner", "url", "metadata")}
    return Document(id, live.text, **named)
