"""What became of documents that somebody added. Facts alone."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Ingested:
    """What became of some documents."""

    n_documents: int
    """That are live now."""
    n_entries: int
    refused: tuple[tuple[str, str], ...]
    """(document id, reason) of those that stay out."""
