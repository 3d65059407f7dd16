"""``GET /healthz``: that the server answers. ``GET /readyz``: whether it can do all it was started for.

A datastore that cannot be trusted is off: completions are then the LM's alone, which wrongs no owner, and both the
answer here and the log say why.
"""

from typing import Any

from flask import Blueprint, Response, jsonify

from serving.access import needs
from serving.engine import Engine


def blueprint(engine: Engine) -> Blueprint:
    """The endpoints, answering from ``engine``."""
    routes = Blueprint("health", __name__)

    @routes.get("/healthz")
    @needs()
    def health() -> Response:
        return jsonify({"status": "ok", "model": engine.model_name, "datastore_version": engine.epoch})

    @routes.get("/readyz")
    @needs()
    def ready() -> tuple[Response, int]:
        answer = readiness(engine)
        return jsonify(answer), 200 if answer["model"]["status"] == "on" else 503

    return routes


def readiness(engine: Engine) -> dict[str, Any]:
    """What works. Ready is who makes completions, with a datastore or without."""
    model_trouble, store_trouble = engine.makers.trouble, engine.store_trouble
    store: dict[str, Any]
    if store_trouble is not None:
        store = {"status": "off", "reason": store_trouble, "version": None}
    elif engine.epoch is None:
        store = {"status": "none", "reason": "the server was started without one", "version": None}
    else:
        store = {"status": "on", "reason": None, "version": engine.epoch}
    model = {"status": "on" if model_trouble is None else "off", "reason": model_trouble, "name": engine.model_name}
    is_whole = model_trouble is None and store_trouble is None
    status = "ready" if is_whole else "degraded" if model_trouble is None else "unavailable"
    return {"status": status, "model": model, "datastore": store}
