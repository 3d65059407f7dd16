"""The database of API keys and of what each has used: its tables, and how it is opened."""

from sqlalchemy import Column, Engine, Integer, MetaData, String, Table, create_engine, event
from sqlalchemy.pool import ConnectionPoolEntry

schema = MetaData()
keys = Table(
    "keys",
    schema,
    Column("id", String(16), primary_key=True),
    Column("hash", String(64), nullable=False, unique=True),
    Column("name", String(200), nullable=False),
    Column("scopes", String(200), nullable=False),
    Column("requests_per_minute", Integer, nullable=False),
    Column("tokens_per_minute", Integer, nullable=False),
    Column("tokens_per_request", Integer, nullable=False),
    Column("created_at", String(40), nullable=False),
    Column("revoked_at", String(40), nullable=False),
)
openers = Table(
    "openers",
    schema,
    Column("request", String(32), primary_key=True),
    Column("key", String(16), nullable=False),
)
"""Which key opened which opt-out request."""
usage = Table(
    "usage",
    schema,
    Column("key", String(16), primary_key=True),
    Column("minute", Integer, primary_key=True),
    Column("n_requests", Integer, nullable=False),
    Column("n_tokens", Integer, nullable=False),
)
salts = Table("salts", schema, Column("day", String(10), primary_key=True), Column("salt", String(64), nullable=False))
shown = Table(
    "shown",
    schema,
    Column("key", String(16), primary_key=True),
    Column("document", String(64), primary_key=True),
    Column("sentence", Integer, primary_key=True),
    Column("day", String(10), nullable=False, index=True),
)


def open_database(url: str) -> Engine:
    """The database at ``url``, with all tables."""
    engine = create_engine(url if "://" in url else f"sqlite:///{url}")
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _set_up)
    schema.create_all(engine)
    return engine


def _set_up(connection: object, _: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()  # type: ignore[attr-defined]
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "secure_delete=ON", "busy_timeout=5000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
