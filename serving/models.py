"""``GET /v1/models``: the one model that is served, in the OpenAI shape."""

from typing import Any

from flask import Blueprint, Response, jsonify

from serving.engine import Engine


def blueprint(engine: Engine) -> Blueprint:
    """The endpoints, answering from ``engine``."""
    routes = Blueprint("models", __name__)

    @routes.get("/v1/models")
    def index() -> Response:
        return jsonify({"object": "list", "data": [model_json(engine)]})

    @routes.get("/v1/models/<path:name>")
    def show(name: str) -> Response:
        engine.check_model(name)
        return jsonify(model_json(engine))

    return routes


def model_json(engine: Engine) -> dict[str, Any]:
    """The model as the endpoints show it; ``context_length`` is in tokens, prompt and completion together."""
    return {
        "id": engine.model_name,
        "object": "model",
        "created": int(engine.started.timestamp()),
        "owned_by": "silo",
        "context_length": engine.context_length,
    }
