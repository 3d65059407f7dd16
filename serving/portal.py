"""The owner's portal: where the owner of a text finds it, takes it back, and can check that it is gone.

Pages from the server that work without scripts. ``Portal`` is what they all need; each page has a module of its own
(``portal_lookup``, ``portal_requests``, ``portal_verify``, ``portal_log``, ``portal_review``). Needs a datastore and
no model, so it answers while there is none. Keeps nothing of who asks.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from flask import Blueprint, Flask, Response

from datastore.hosts import HostFacts
from datastore.rationing import STANDARD, Quota
from datastore.store import Datastore
from serving.pages import page, page_blueprint
from serving.portal_forms import form_token, keep_secret

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


def register(app: Flask, portal: Portal) -> None:
    """Add the portal's pages to ``app``."""
    from serving import portal_log, portal_lookup, portal_requests, portal_review, portal_verify

    app.jinja_env.globals["form_token"] = form_token
    app.jinja_env.globals["has_review"] = portal.reviewer_token is not None
    app.register_blueprint(_home())
    for pages in (portal_lookup, portal_requests, portal_verify, portal_log):
        app.register_blueprint(pages.blueprint(portal))
    if portal.reviewer_token is not None:
        app.register_blueprint(portal_review.blueprint(portal, portal.reviewer_token))


def portal_blueprint(name: str) -> Blueprint:
    """A blueprint for pages with forms."""
    routes = page_blueprint(name)
    routes.after_request(keep_secret)
    return routes


def _home() -> Blueprint:
    routes = page_blueprint("home")

    @routes.get("/")
    def show() -> Response:
        return page("home.html")

    return routes
