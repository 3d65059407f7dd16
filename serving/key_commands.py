"""``silo keys``: make, list and revoke API keys. Imports what is heavy only when it runs."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from serving.keys import KeyBook

Keys = Annotated[str, typer.Option(help="File of the keys, or the URL of a database.")]


def create(
    name: Annotated[str, typer.Argument(help="Whose key it is, to recognize it by.")],
    keys: Keys,
    scope: Annotated[list[str], typer.Option(help="generate, ingest, owner or admin; may be repeated.")],
    requests_per_minute: Annotated[int, typer.Option(min=1)] = 120,
    tokens_per_minute: Annotated[int, typer.Option(min=1)] = 100_000,
    tokens_per_request: Annotated[int, typer.Option(min=1)] = 4096,
) -> None:
    """Make a key and print it, this once."""
    from serving.keys import Limits, Scope

    if strange := [one for one in scope if one not in list(Scope)]:
        raise typer.BadParameter(f"scopes are {', '.join(Scope)}; got {strange[0]!r}")
    limits = Limits(requests_per_minute, tokens_per_minute, tokens_per_request)
    secret, made = _book(keys).create(name, [Scope(one) for one in scope], limits, now=datetime.now(UTC))
    print(f"key {made.id} for {', '.join(sorted(made.scopes))}; it is shown this once:")
    print(secret)


def show(keys: Keys) -> None:
    """List the keys, without their secrets."""
    for key in _book(keys).all():
        state = f"revoked {key.revoked_at}" if key.revoked_at else "in use"
        print(f"{key.id}  {key.name}  {' '.join(sorted(key.scopes))}  created {key.created_at}  {state}")


def revoke(id: Annotated[str, typer.Argument(help="As `silo keys list` shows it.")], keys: Keys) -> None:  # noqa: A002
    """Make a key good for nothing, from the next request on."""
    _book(keys).revoke(id, now=datetime.now(UTC))
    print(f"revoked {id}")


def _book(url: str) -> "KeyBook":
    from serving.keys import KeyBook

    return KeyBook(url)
