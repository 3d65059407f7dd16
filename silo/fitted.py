"""What a datastore needs fitted, kept beside the checkpoint that it was fitted for.

So a store can be made without licensed text at hand. Facts and files; fits nothing (`silo.fitting` does).

``fitted/fitted.json``     whose keys, in which codec, the kNN temperature
``fitted/fitted-on.jsonl`` the licensed documents that all of it was fitted on
``fitted/*.npy``           as `datastore.codecs` writes them

The checkpoint's manifest has the SHA-256 of each, and nothing is read that differs from it.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from datastore.codecs import KeySpace, read_space, write_space
from datastore.errors import CorruptDatastore
from datastore.records import DocumentFacts
from silo.checkpoint import verify_checkpoint
from silo.errors import BadCheckpoint
from silo.files import new_file
from silo.jsonl import read_jsonl, write_jsonl
from silo.packaged import FITTED, has_fitted

_DOCUMENTS = "fitted-on.jsonl"


@dataclass(frozen=True)
class Fitted:
    """All that search and mixing depend on besides the entries; of licensed text alone."""

    encoder: str
    """Fingerprint of the LM whose keys it fits."""
    space: KeySpace
    knn_temperature: float
    documents: tuple[DocumentFacts, ...]
    """Every document that took part."""


def write_fitted(checkpoint: Path, fitted: Fitted) -> None:
    """Save ``fitted`` in ``checkpoint``, whose manifest is to be written afterwards."""
    folder = (checkpoint / FITTED).parent
    folder.mkdir()
    write_space(folder, fitted.space)
    named = ({"id": d.id, "digest": d.digest, "license": d.license, "risk": d.risk} for d in fitted.documents)
    write_jsonl(folder / _DOCUMENTS, named)
    facts = {
        "encoder": fitted.encoder,
        "codec": fitted.space.kind,
        "is_projected": fitted.space.projection is not None,
        "knn_temperature": fitted.knn_temperature,
    }
    with new_file(checkpoint / FITTED) as stream:
        stream.write(json.dumps(facts, indent=1).encode("utf-8") + b"\n")


def read_fitted(checkpoint: Path, encoder: str) -> Fitted:
    """The fitted parts in ``checkpoint``, for the LM with the fingerprint ``encoder``.

    Raises:
        BadCheckpoint: there are none, a file of the checkpoint is not as it was written, or they were fitted for
            another LM.
    """
    folder = (checkpoint / FITTED).parent
    if has_fitted(checkpoint):
        verify_checkpoint(checkpoint)
    try:
        facts = json.loads((checkpoint / FITTED).read_text(encoding="utf-8"))
        fitted = Fitted(
            encoder=facts["encoder"],
            space=read_space(folder, facts["codec"], facts["is_projected"]),
            knn_temperature=facts["knn_temperature"],
            documents=tuple(DocumentFacts(**row) for _, row in read_jsonl(folder / _DOCUMENTS)),
        )
    except (OSError, ValueError, KeyError, TypeError, CorruptDatastore) as error:
        raise BadCheckpoint(f"{folder} has no whole fitted parts: {error!r}. Name licensed text to fit on.") from error
    if fitted.encoder != encoder:
        raise BadCheckpoint(
            f"{folder} was fitted for the LM {fitted.encoder:.12}…; the loaded one is {encoder:.12}…, whose keys it "
            "does not fit. Name licensed text to fit on."
        )
    return fitted
