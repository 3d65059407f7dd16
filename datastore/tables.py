"""The tables of the catalog: what each column is, and nothing of how they are read or changed."""

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, MetaData, String, Table, UniqueConstraint

from datastore.request_tables import schema as request_schema

LIVE, HIDDEN, REMOVED, ERASED = "live", "hidden", "removed", "erased"
WIPED = dict.fromkeys(("license", "source", "title", "owner", "url"), "") | {"metadata": "{}"}
"""What is left of a document's facts once it is erased."""

schema = MetaData()

state = Table(
    "state",
    schema,
    Column("id", Integer, primary_key=True),
    Column("epoch", Integer, nullable=False),
    Column("next_segment", Integer, nullable=False),
)

segments = Table(
    "segments",
    schema,
    Column("name", String, primary_key=True),
    Column("number", Integer, nullable=False, unique=True),
    Column("sha256", String, nullable=False),
    Column("n_positions", Integer, nullable=False),
)

documents = Table(
    "documents",
    schema,
    Column("number", Integer, primary_key=True),
    Column("id", String, nullable=False, unique=True),
    Column("digest", String, nullable=False, index=True),
    *(
        Column(name, String, nullable=False)
        for name in ("license", "risk", "source", "title", "owner", "url", "metadata")
    ),
    Column("state", String, nullable=False),
    Column("removed_epoch", Integer, nullable=True),
    Column("released_epoch", Integer, nullable=True, index=True),  # see ``hiding``
    Column("segment", String, nullable=True, index=True),
    Column("ordinal", Integer, nullable=False),
    Column("n_positions", Integer, nullable=False),
    Column("n_entries", Integer, nullable=False),
    Column("n_sentences", Integer, nullable=False),
    # What left since an epoch is found without a look at what left before.
    Index("documents_by_state", "state", "removed_epoch"),
)

removals = Table(
    "removals",
    schema,
    Column("number", Integer, primary_key=True),
    Column("leaf", Integer, nullable=False, index=True),
    Column("document", String, nullable=False, index=True),
    Column("first", Integer, nullable=False),
    Column("last", Integer, nullable=False),
    Column("removed_epoch", Integer, nullable=False),
    Column("is_erased", Boolean, nullable=False),
)
"""Sentences that were taken out of documents, as half-open ranges."""

optouts = Table(
    "optouts",
    schema,
    Column("number", Integer, primary_key=True),
    Column("document", String, nullable=False),
    Column("sentences", String, nullable=False),
    Column("digest", String, nullable=False, index=True),
    Column("receipt", String, nullable=False),
    Column("bars", String, nullable=False),
    UniqueConstraint("document", "sentences"),
)
"""``sentences`` is the empty string for a whole document, or the ranges that went, as JSON. ``bars`` is what the
journal repeats of ``suppressions`` (``suppression.packed``)."""

log = Table(
    "log",
    schema,
    Column("leaf", Integer, primary_key=True),
    Column("commitment", String, nullable=False, unique=True),
)

suppressions = Table(
    "suppressions",
    schema,
    Column("number", Integer, primary_key=True),
    Column("digest", String, nullable=False, index=True),
    Column("n_fingerprints", Integer, nullable=False),
)

suppressed_fingerprints = Table(
    "suppressed_fingerprints",
    schema,
    Column("fingerprint", BigInteger, primary_key=True),
    Column("suppression", Integer, primary_key=True),
    sqlite_with_rowid=False,
)


def every() -> list[Table]:
    """Every table of a catalog, each after those that it refers to."""
    return [*schema.sorted_tables, *request_schema.sorted_tables]
