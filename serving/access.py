"""Who may ask: the key of a request, its scope and its limits.

The rule: a server without keys answers everybody who reaches it, so ``silo serve`` lets it listen to this machine
alone, and it answers only requests that name this machine as their host, since a web page elsewhere can give its own
name this machine's address. A server with keys answers what is under ``/v1`` to keys of the right scope, wherever it
listens; pages for people and their health have rules of their own.

A view says what it needs with ``needs``; one under ``/v1`` that says nothing needs a key of any scope.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from flask import Flask, g, request

from serving.engine import Engine, Passage
from serving.errors import Forbidden, MissingKey, StrangeHost
from serving.keys import ApiKey, KeyBook, Scope
from serving.limits import Budget, Meter
from silo.attribution import TokenSource

LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})

View = TypeVar("View", bound=Callable[..., Any])


@dataclass(frozen=True)
class Access:
    """The keys, and what they have used."""

    book: KeyBook
    meter: Meter
    budget: Budget

    @classmethod
    def of(cls, book: KeyBook) -> "Access":
        """Access by the keys of ``book``, with limits kept beside them."""
        return cls(book, Meter(book.engine), Budget(book.engine))


def needs(*scopes: Scope) -> Callable[[View], View]:
    """Mark a view: only for keys of one of ``scopes``; without any, for everybody."""

    def mark(view: View) -> View:
        view.scopes = scopes  # type: ignore[attr-defined]
        return view

    return mark


def register(app: Flask, access: Access | None, *, is_local: bool = False) -> None:
    """Check each request to ``app``. ``is_local``: only this machine is listened to."""

    @app.before_request
    def check() -> None:
        g.access, g.key = access, None
        if access is None:
            if is_local and _name(request.host) not in LOCAL_NAMES:
                raise StrangeHost(f"this server answers to {', '.join(sorted(LOCAL_NAMES))}; got {request.host!r:.80}")
            return
        view = app.view_functions.get(request.endpoint or "")
        scopes: tuple[Scope, ...] | None = getattr(view, "scopes", None)
        if not request.path.startswith("/v1/") or scopes == ():
            return
        key = access.book.find(_secret())
        g.key = key
        if scopes and not any(key.may(scope) for scope in scopes):
            raise Forbidden(f"this needs a key for {' or '.join(scopes)}; got one for {', '.join(sorted(key.scopes))}")


def current_key() -> ApiKey | None:
    """The key of the current request; None where none is needed."""
    key: ApiKey | None = g.get("key")
    return key


def begin(n_tokens: int) -> None:
    """Count a request that may make ``n_tokens``. Raises OverLimit and Forbidden."""
    if (key := current_key()) is not None:
        if n_tokens > key.limits.tokens_per_request:
            raise Forbidden(
                f"this key may ask for {key.limits.tokens_per_request:,} tokens a request, over all its completions; "
                f"got {n_tokens:,}"
            )
        g.access.meter.begin(key, datetime.now(UTC))


@dataclass(frozen=True)
class Reader:
    """What one request may be shown; outlives the request, as a stream does."""

    engine: Engine
    access: Access | None
    key: ApiKey | None

    @classmethod
    def of_request(cls, engine: Engine) -> "Reader":
        """Of the current request."""
        return cls(engine, g.get("access"), current_key())

    def passage(self, source: TokenSource) -> Passage | None:
        """As ``Engine.passage``, with the text withheld where the day's share of the document is used up."""
        passage = self.engine.passage(source)
        if passage is None or self.may_read(source, passage):
            return passage
        return Passage(passage.document, None, None)

    @property
    def has_budget(self) -> bool:
        """Whether it is counted what is read."""
        return self.access is not None and self.key is not None and not self.key.may(Scope.ADMIN)

    def may_read(self, source: TokenSource, passage: Passage) -> bool:
        """Whether the sentence may be shown, or repeated; it counts as shown then."""
        if self.access is None or self.key is None or not self.has_budget:
            return True
        n = passage.document.n_sentences
        return self.access.budget.may_show(self.key, source.document, source.sentence, n, datetime.now(UTC))

    def used(self, n_tokens: int) -> None:
        """Count tokens that were read and made."""
        if self.access is not None and self.key is not None:
            self.access.meter.add(self.key, n_tokens, datetime.now(UTC))


def _secret() -> str:
    given = request.authorization
    if given is None or given.type != "bearer" or not given.token:
        raise MissingKey("this server needs an API key; send one as `Authorization: Bearer KEY`")
    return given.token


def _name(host: str) -> str:
    """``host`` without its port."""
    return host if host.endswith("]") else host.rpartition(":")[0] or host
