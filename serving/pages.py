"""What all pages for people have in common: templates, assets, and headers that give a page no more than it needs.

A page may run our scripts and styles, from this server, and nothing else: the Content-Security-Policy names no inline
script or style, no other host, no frame and no plug-in, so a text that finds its way into a page unescaped still does
nothing. Pages are HTML for errors too. Assets are addressed by their content and may be kept for a year; pages and
answers are never stored. Knows nothing of owners, models or the datastore.
"""

import hashlib
import logging
import uuid
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

from flask import Blueprint, Flask, Response, make_response, render_template, url_for
from jinja2 import StrictUndefined
from werkzeug.exceptions import HTTPException, NotFound

from serving.problems import problem_of

ASSETS = Path(__file__).parent / "static"
A_YEAR = 365 * 24 * 3600
MEDIA_TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Not `no-referrer`: with it a browser names no origin in a form's post, which is how we know our own.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=()",
}

logger = logging.getLogger("serving")


def register(app: Flask, *, has_portal: bool) -> None:
    """Serve the assets, and let templates of ``app`` name them; ``has_portal`` puts its pages into the menu."""
    assets = read_assets()
    version = version_of(assets)
    app.jinja_env.undefined = StrictUndefined
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.jinja_env.globals["asset"] = lambda name: url_for("assets.show", version=version, name=name)
    app.jinja_env.globals["has_portal"] = has_portal
    app.jinja_env.filters["percent"] = percent
    app.jinja_env.filters["moment"] = moment
    app.register_blueprint(_assets(assets, version))


def page_blueprint(name: str) -> Blueprint:
    """A blueprint whose answers carry ``HEADERS`` and whose errors are pages."""
    routes = Blueprint(name, __name__)

    @routes.after_request
    def secure(response: Response) -> Response:
        response.headers.update(HEADERS)
        return response

    @routes.errorhandler(Exception)
    def explain(error: Exception) -> Response | HTTPException:
        return error_page(error)

    return routes


def page(template: str, status: int = 200, **values: Any) -> Response:
    """``template`` filled with ``values``, which it escapes."""
    return make_response(render_template(template, **values), status)


def error_page(error: Exception) -> Response | HTTPException:
    """An error as a page."""
    if isinstance(error, HTTPException) and (error.code or 0) < 400:
        return error
    problem = problem_of(error)
    instance = uuid.uuid4().urn
    if problem.status >= 500 and problem.status != HTTPStatus.SERVICE_UNAVAILABLE:
        logger.error("%s: %s", instance, type(error).__name__, exc_info=error)
    title = HTTPStatus(problem.status).phrase
    # What we raise ourselves has words for this page; those of problems are for programs that ask the API.
    detail = error.description if isinstance(error, HTTPException) and error.description else problem.detail
    return told(problem.status, title, detail, headers=problem.headers, instance=instance)


def told(
    status: int, title: str, detail: str, headers: Mapping[str, str] | None = None, instance: str = ""
) -> Response:
    """A page that says what went wrong and what to do next."""
    response = page("problem.html", status, title=title, detail=detail, instance=instance)
    response.headers.update(headers or {})
    return response


def percent(share: float) -> str:
    """A share of 1 for people: whole percents, and never 0 % or 100 % for what is neither."""
    if 0 < share < 0.01:
        return "< 1 %"
    if 0.99 < share < 1:
        return "> 99 %"
    return f"{share:.0%}".replace("%", " %")


def moment(iso: str) -> str:
    """A time of ISO 8601 for people, to the minute; what is none stays as it is."""
    day, _, clock = iso.partition("T")
    return f"{day}, {clock[:5]} UTC" if len(clock) >= 5 and iso.endswith(("+00:00", "Z")) else iso


def read_assets() -> dict[str, bytes]:
    """Scripts, styles and pictures by name."""
    return {p.relative_to(ASSETS).as_posix(): p.read_bytes() for p in sorted(ASSETS.rglob("*")) if p.is_file()}


def version_of(assets: Mapping[str, bytes]) -> str:
    """A name for ``assets`` as they are: it changes with any of them."""
    return hashlib.sha256(b"".join(name.encode() + b"\0" + data for name, data in assets.items())).hexdigest()[:12]


def _assets(assets: Mapping[str, bytes], current: str) -> Blueprint:
    """The assets. Modules import each other by relative names, so all are of one version."""
    routes = page_blueprint("assets")

    @routes.get("/assets/<version>/<path:name>")
    def show(version: str, name: str) -> Response:
        if name not in assets:
            raise NotFound("there is no such asset")
        response = Response(assets[name], mimetype=MEDIA_TYPES[name.rpartition(".")[2]])
        if version == current:
            response.headers["Cache-Control"] = f"public, max-age={A_YEAR}, immutable"
        return response

    return routes
