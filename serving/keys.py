"""API keys: who may ask for what, and how much of it.

Kept in a database of their own (SQLite, or PostgreSQL where several servers share it), which knows neither documents
nor texts. A key is 256 random bits and is told once; what is kept is its SHA-256. A slow hash, as passwords need,
would protect nothing: bits that nobody chose cannot be guessed.
"""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from sqlalchemy import Engine, RowMapping, select, update

from serving.errors import UnknownKey
from serving.key_tables import add_once, keys, open_database, openers

PREFIX = "silo_"


class Scope(StrEnum):
    """What a key is for."""

    GENERATE = "generate"
    """Completions."""
    INGEST = "ingest"
    """Adding documents."""
    OWNER = "owner"
    """Asking for documents to be taken out, with a proof."""
    ADMIN = "admin"
    """All of it, and taking documents out and deciding requests without one."""


@dataclass(frozen=True)
class Limits:
    """How much one key may ask for."""

    requests_per_minute: int = 120
    tokens_per_minute: int = 100_000
    """Of prompts and completions together."""
    tokens_per_request: int = 4096
    """``max_tokens`` of all completions of a request together."""


@dataclass(frozen=True)
class ApiKey:
    """A key, without its secret."""

    id: str
    name: str
    scopes: frozenset[Scope]
    limits: Limits
    created_at: str
    """UTC, ISO 8601."""
    revoked_at: str
    """Empty while it is good."""

    def may(self, scope: Scope) -> bool:
        """Whether the key is good for ``scope``."""
        return scope in self.scopes or Scope.ADMIN in self.scopes


class KeyBook:
    """The keys, in the database at ``url``: a path to a file, or what SQLAlchemy takes."""

    def __init__(self, url: str | Path) -> None:
        self.engine: Engine = open_database(str(url))

    def create(self, name: str, scopes: Sequence[Scope], limits: Limits, *, now: datetime) -> tuple[str, ApiKey]:
        """A new key, and the secret that is told this once."""
        secret = PREFIX + secrets.token_urlsafe(32)
        made = ApiKey(secrets.token_hex(8), name, frozenset(scopes), limits, now.astimezone(UTC).isoformat(), "")
        row = {
            "id": made.id,
            "hash": _hash(secret),
            "name": name,
            "scopes": " ".join(sorted(made.scopes)),
            "requests_per_minute": limits.requests_per_minute,
            "tokens_per_minute": limits.tokens_per_minute,
            "tokens_per_request": limits.tokens_per_request,
            "created_at": made.created_at,
            "revoked_at": "",
        }
        with self.engine.begin() as connection:
            connection.execute(keys.insert().values(row))
        return secret, made

    def find(self, secret: str) -> ApiKey:
        """The key with that secret. Raises UnknownKey where there is none, or it was revoked."""
        with self.engine.connect() as connection:
            row = connection.execute(select(keys).where(keys.c.hash == _hash(secret))).mappings().first()
        if row is None or row["revoked_at"]:
            raise UnknownKey("the API key is not known here, or was revoked; send one as `Authorization: Bearer KEY`")
        return _key(row)

    def all(self) -> list[ApiKey]:
        """Every key there ever was, the oldest first."""
        with self.engine.connect() as connection:
            rows = connection.execute(select(keys).order_by(keys.c.created_at, keys.c.id)).mappings()
            return [_key(row) for row in rows]

    def revoke(self, id: str, *, now: datetime) -> None:  # noqa: A002
        """Make a key good for nothing from the next request on. Raises UnknownKey."""
        with self.engine.begin() as connection:
            here = (keys.c.id == id) & (keys.c.revoked_at == "")
            done = connection.execute(update(keys).where(here).values(revoked_at=now.astimezone(UTC).isoformat()))
            if not done.rowcount:
                raise UnknownKey(f"no key {id!r} is in use; `silo keys list` shows them")

    def remember_opener(self, request: str, key: str) -> None:
        """``key`` opened the opt-out request of that id."""
        with self.engine.begin() as connection:
            add_once(connection, openers, {"request": request, "key": key})

    def is_opener(self, request: str, key: str) -> bool:
        """Whether ``key`` opened the request. No id has characters that PostgreSQL cannot be asked for, as NUL."""
        if not request.isprintable():
            return False
        query = select(openers.c.key).where(openers.c.request == request)
        with self.engine.connect() as connection:
            return connection.execute(query).scalar() == key


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _key(row: RowMapping) -> ApiKey:
    limits = Limits(row["requests_per_minute"], row["tokens_per_minute"], row["tokens_per_request"])
    scopes = frozenset(Scope(scope) for scope in row["scopes"].split())
    return ApiKey(row["id"], row["name"], scopes, limits, row["created_at"], row["revoked_at"])
