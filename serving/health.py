"""``GET /healthz``: that the server answers, with which model, at which version of the datastore."""

from flask import Blueprint, Response, jsonify

from serving.engine import Engine


def blueprint(engine: Engine) -> Blueprint:
    """The endpoint, answering from ``engine``."""
    routes = Blueprint("health", __name__)

    @routes.get("/healthz")
    def health() -> Response:
        return jsonify({"status": "ok", "model": engine.model_name, "datastore_version": engine.epoch})

    return routes
