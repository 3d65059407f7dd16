"""``GET /v1/documents/<id>``: what is known of a document, never its text.

A document that left the datastore answers with its id and state alone, in the same fields.
Its metadata stay inside: corpora put whatever they like there.
"""

from typing import Any

from flask import Blueprint, Response, jsonify

from datastore.records import StoredDocument
from serving.engine import Engine

FACTS = ("title", "owner", "license", "risk", "source", "url", "digest")


def blueprint(engine: Engine) -> Blueprint:
    """The endpoint, answering from ``engine``."""
    routes = Blueprint("documents", __name__)

    @routes.get("/v1/documents/<path:id>")
    def show(id: str) -> Response:  # noqa: A002
        return jsonify(document_json(engine.document(id)))

    return routes


def document_json(document: StoredDocument) -> dict[str, Any]:
    """A document as the endpoint shows it."""
    is_live = document.state == "live"
    return {
        "object": "document",
        "id": document.facts.id,
        "state": document.state,
        **{name: getattr(document.facts, name) if is_live else None for name in FACTS},
        "n_sentences": document.n_sentences if is_live else None,
        "n_entries": document.n_entries if is_live else None,
    }
