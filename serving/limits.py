"""What each key has used: requests and tokens by the minute, and by the day the sentences that it was shown.

The first keeps one client from taking the server for itself. The second keeps a client from reading a document out,
sentence by sentence, through what answers quote and what completions repeat: of each document a key sees a share a
day, and is shown a sentence again for nothing. What was shown is kept under a hash with a salt of that day, which
goes with the day, so what was read by whom cannot be told the day after.
"""

import hashlib
import secrets
from datetime import UTC, datetime

from sqlalchemy import Connection, Engine, delete, func, select, update

from serving.errors import OverLimit
from serving.key_tables import add_once, keys, salts, shown, usage
from serving.keys import ApiKey

MAX_SHARE = 0.2
"""Of a document's sentences that a key may be shown in a day."""
MIN_SENTENCES = 3
"""That may be shown however short a document is."""


class Meter:
    """Requests and tokens."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def begin(self, key: ApiKey, now: datetime) -> None:
        """Count a request. Raises OverLimit, with the seconds to wait, where this minute's are used up."""
        minute = int(now.timestamp() // 60)
        with self._engine.begin() as connection:
            connection.execute(delete(usage).where(usage.c.key == key.id, usage.c.minute < minute))
            row = _count(connection, key.id, minute, n_requests=1, n_tokens=0)
        wait = 60 - int(now.timestamp()) % 60
        if row[0] > key.limits.requests_per_minute:
            raise OverLimit(f"this key may send {key.limits.requests_per_minute} requests a minute", wait)
        if row[1] >= key.limits.tokens_per_minute:
            raise OverLimit(f"this key may use {key.limits.tokens_per_minute:,} tokens a minute", wait)

    def add(self, key: ApiKey, n_tokens: int, now: datetime) -> None:
        """Count tokens that were read and made."""
        with self._engine.begin() as connection:
            _count(connection, key.id, int(now.timestamp() // 60), n_requests=0, n_tokens=n_tokens)


class Budget:
    """Sentences."""

    def __init__(self, engine: Engine, share: float = MAX_SHARE, least: int = MIN_SENTENCES) -> None:
        self._engine, self._share, self._least = engine, share, least

    def may_show(self, key: ApiKey, document: str, sentence: int, n_sentences: int, now: datetime) -> bool:
        """Whether a sentence of a document of ``n_sentences`` may be shown; if so it counts as shown from now on."""
        day = now.astimezone(UTC).date().isoformat()
        with self._engine.begin() as connection:
            name = hashlib.sha256(f"{_salt(connection, day)}{document}".encode("utf-8", "surrogatepass")).hexdigest()
            own = (shown.c.key == key.id) & (shown.c.document == name)
            was_shown = select(shown.c.day).where(own, shown.c.sentence == sentence)
            if connection.execute(was_shown).first():
                return True
            # Holds the key's row until the end: of requests at once each counts what the others were shown.
            connection.execute(update(keys).where(keys.c.id == key.id).values(name=keys.c.name))
            if connection.execute(was_shown).first():
                return True
            n_shown = connection.execute(select(func.count()).select_from(shown).where(own)).scalar_one()
            if n_shown >= max(self._least, self._share * n_sentences):
                return False
            connection.execute(shown.insert().values(key=key.id, document=name, sentence=sentence, day=day))
            return True


def _count(connection: Connection, key: str, minute: int, *, n_requests: int, n_tokens: int) -> tuple[int, int]:
    """Add to a minute's use; what it is then."""
    here = (usage.c.key == key) & (usage.c.minute == minute)
    more = {"n_requests": usage.c.n_requests + n_requests, "n_tokens": usage.c.n_tokens + n_tokens}
    if not connection.execute(update(usage).where(here).values(more)).rowcount:
        row = {"key": key, "minute": minute, "n_requests": n_requests, "n_tokens": n_tokens}
        if not add_once(connection, usage, row):
            connection.execute(update(usage).where(here).values(more))
    found = connection.execute(select(usage.c.n_requests, usage.c.n_tokens).where(here)).one()
    return found[0], found[1]


def _salt(connection: Connection, day: str) -> str:
    """The salt of ``day``; with a new day's first the days before are forgotten."""
    of_day = select(salts.c.salt).where(salts.c.day == day)
    known = connection.execute(of_day).scalar()
    if known is not None:
        return str(known)
    connection.execute(delete(salts).where(salts.c.day != day))
    connection.execute(delete(shown).where(shown.c.day != day))
    salt = secrets.token_hex(32)
    if not add_once(connection, salts, {"day": day, "salt": salt}):
        salt = str(connection.execute(of_day).scalar_one())
    return salt
