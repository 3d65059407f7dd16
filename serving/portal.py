"""The owner's portal: where the owner of a text finds it, takes it back, and can check that it is gone.

Pages from the server that work without scripts. What is here they all need; each page has a module of its own, and
``portal_pages`` puts them together. Needs a datastore and no model, so it answers while there is none. Keeps nothing
of who asks.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from flask import Blueprint

from datastore.hosts import HostFacts
from datastore.rationing import STANDARD, Quota
from datastore.store import Datastore
from serving.pages import page_blueprint
from serving.portal_forms import keep_secret

N_LOOKUPS = 2
"""Look-ups that may read the store's texts at once."""


@dataclass(frozen=True)
class Portal:
    """What the portal works on."""

    store: Datastore
    hosts: HostFacts | None = None
    """Asks hosts for proofs; None: no proof by host is offered."""
    reviewer_token: str | None = None
    """Opens the reviewer's pages; None: there are none."""
    quota: Quota = STANDARD
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    lookups: threading.BoundedSemaphore = field(default_factory=lambda: threading.BoundedSemaphore(N_LOOKUPS))

    def now(self) -> datetime:
        """The time."""
        return self.clock()


def portal_blueprint(name: str) -> Blueprint:
    """A blueprint for pages with forms."""
    routes = page_blueprint(name)
    routes.after_request(keep_secret)
    return routes
