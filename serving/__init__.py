"""The only code that speaks HTTP.

``create_app`` puts an engine behind the endpoints; ``silo serve`` (in ``serving.commands``) puts the
application behind a socket. Importing the package loads nothing heavy.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask, Response

    from datastore.hosts import HostFacts
    from serving.access import Access
    from serving.engine import Engine
    from serving.portal import Portal


def create_app(
    engine: "Engine",
    *,
    access: "Access | None" = None,
    hosts: "HostFacts | None" = None,
    is_local: bool = False,
    portal: "Portal | None" = None,
) -> "Flask":
    """The application that answers from ``engine``. Opens no file and no socket.

    ``access`` are the keys that it asks for; ``is_local`` says that it listens to this machine alone; ``hosts`` asks
    hosts for proofs of ownership; ``portal`` is what the owner's pages work on, where there are any.
    """
    from flask import Flask

    from serving import access as accounts
    from serving import (
        chat,
        completions,
        documents,
        health,
        metrics,
        models,
        openapi,
        optouts,
        pages,
        playground,
        portal_pages,
        problems,
    )
    from serving.bodies import MAX_BODY_BYTES

    app = Flask("serving", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.url_map.merge_slashes = False  # the id of a document may be a URL
    problems.register(app)
    counted = metrics.Metrics(engine)
    metrics.register(app, counted)
    accounts.register(app, access, is_local=is_local)
    blueprints = (
        chat.blueprint(engine),
        completions.blueprint(engine),
        documents.blueprint(engine),
        health.blueprint(engine),
        metrics.blueprint(counted),
        models.blueprint(engine),
        openapi.blueprint(),
        optouts.blueprint(engine, hosts),
    )
    for blueprint in blueprints:
        app.register_blueprint(blueprint)
    pages.register(app, has_portal=portal is not None)
    app.register_blueprint(playground.blueprint(engine, None if portal is None else portal.store))
    if portal is not None:
        portal_pages.register(app, portal)

    @app.after_request
    def forbid_caching(response: "Response") -> "Response":
        """A stored answer would outlive the removal of what it tells. Assets tell nothing, and say so themselves."""
        if "immutable" not in response.headers.get("Cache-Control", ""):
            response.headers["Cache-Control"] = "no-store"
        return response

    return app
