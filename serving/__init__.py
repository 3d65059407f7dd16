"""The only code that speaks HTTP.

``create_app`` puts an engine behind the endpoints; ``silo serve`` (in ``serving.commands``) puts the
application behind a socket. Importing the package loads nothing heavy.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask, Response

    from serving.engine import Engine
    from serving.portal import Portal


def create_app(engine: "Engine", portal: "Portal | None" = None) -> "Flask":
    """The application that answers from ``engine``, with the owner's ``portal`` where there is one. Opens no socket."""
    from flask import Flask

    from serving import completions, documents, health, models, optouts, pages, playground, problems
    from serving import portal as portal_pages
    from serving.bodies import MAX_BODY_BYTES

    app = Flask("serving", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.url_map.merge_slashes = False  # the id of a document may be a URL
    problems.register(app)
    for endpoint in (completions, documents, health, models, optouts):
        app.register_blueprint(endpoint.blueprint(engine))
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
