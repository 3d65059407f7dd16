"""The database of API keys and of what each has used: its tables, and how it is opened."""

from collections.abc import Mapping

from sqlalchemy import Column, Connection, Engine, Integer, MetaData, String, Table, create_engine, event, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.pool import ConnectionPoolEntry

_SETTING_UP = 0x51_10
"""The lock in PostgreSQL of whoever makes the tables: servers may start at once."""

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
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(select(func.pg_advisory_xact_lock(_SETTING_UP)))
        schema.create_all(connection)
    return engine


def add_once(connection: Connection, table: Table, row: Mapping[str, object]) -> bool:
    """Insert ``row``; False where one of its key is there already, perhaps since this moment."""
    try:
        with connection.begin_nested():
            connection.execute(table.insert().values(row))
    except IntegrityError:
        return False
    return True


def _set_up(connection: object, _: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()  # type: ignore[attr-defined]
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "secure_delete=ON", "busy_timeout=5000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
