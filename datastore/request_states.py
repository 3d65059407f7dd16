"""The states of an opt-out request and the steps between them.

Facts and one table; knows neither store nor proof.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from datastore.errors import RequestConflict


class State(StrEnum):
    """How far a request is."""

    RECEIVED = "received"
    CHALLENGED = "challenged"
    VERIFIED = "verified"
    PROVISIONAL = "provisional"
    DISPUTED = "disputed"
    REJECTED = "rejected"
    ACCEPTED = "accepted"
    ERASED_LIVE = "erased_live"
    ERASED_BACKUPS = "erased_backups"


NEXT: Mapping[State, frozenset[State]] = {
    State.RECEIVED: frozenset({State.CHALLENGED, State.PROVISIONAL, State.REJECTED}),
    State.CHALLENGED: frozenset({State.CHALLENGED, State.VERIFIED, State.PROVISIONAL, State.REJECTED}),
    State.VERIFIED: frozenset({State.ACCEPTED, State.DISPUTED, State.REJECTED}),
    State.PROVISIONAL: frozenset({State.ACCEPTED, State.REJECTED}),
    State.DISPUTED: frozenset({State.ACCEPTED, State.REJECTED}),
    State.REJECTED: frozenset({State.DISPUTED}),  # the requester appeals
    State.ACCEPTED: frozenset({State.ERASED_LIVE}),
    State.ERASED_LIVE: frozenset({State.ERASED_BACKUPS}),
    State.ERASED_BACKUPS: frozenset(),
}
"""The steps there are. None leads back from ``ACCEPTED``: an owner who returns submits under a new id."""

DECISIONS = (State.ACCEPTED, State.REJECTED, State.DISPUTED)


@dataclass(frozen=True)
class Request:
    """An opt-out request as it stands."""

    id: str
    """Random, 32 hex digits."""
    document: str
    state: State
    method: str
    """How ownership is, or was, to be shown: a ``Method``, or empty."""
    received_at: str
    """UTC, ISO 8601, as the others."""
    changed_at: str
    accepted_at: str
    """When it was decided to accept; empty before. With an earlier ``state`` it is decided and not yet in force."""
    note: str
    """A reviewer's words."""


def check_step(now: State, then: State) -> None:
    """Raise RequestConflict unless a request in state ``now`` may go to ``then``."""
    if then not in NEXT[now]:
        allowed = ", ".join(sorted(NEXT[now])) or "nothing"
        raise RequestConflict(f"a request that is {now} cannot become {then}; it can become: {allowed}")
