"""``/v1/documents``: what is known of documents, never their text; and new ones.

A document that left the datastore answers with its id and state alone, in the same fields.
Its metadata stay inside: corpora put whatever they like there.
"""

from typing import Any

from flask import Blueprint, Response, jsonify, request

from datastore.ownership import SUBMITTER_KEY, check_key
from datastore.records import StoredDocument
from datastore.tables import ERASED, HIDDEN, LIVE, REMOVED
from serving.access import begin, needs
from serving.bodies import received
from serving.document_schemas import IngestRequest, NewDocument
from serving.engine import Engine
from serving.keys import Scope
from silo.documents import Document
from silo.errors import BadRequest

FACTS = ("title", "owner", "license", "risk", "source", "url", "digest")
STATES = (LIVE, HIDDEN, REMOVED, ERASED)
DEFAULT_PAGE = 20
MAX_PAGE = 100


def blueprint(engine: Engine) -> Blueprint:
    """The endpoints, answering from ``engine``."""
    routes = Blueprint("documents", __name__)

    @routes.get("/v1/documents")
    def index() -> Response:
        state, limit = request.args.get("state"), request.args.get("limit", str(DEFAULT_PAGE))
        if strange := set(request.args) - {"state", "limit", "after"}:
            raise BadRequest(f"a list of documents takes state, limit and after; got {sorted(strange)[0]!r:.80}")
        if not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:4]) <= MAX_PAGE and len(limit) < 4):
            raise BadRequest(f"limit must be a number from 1 to {MAX_PAGE}; got {limit!r:.80}")
        if state is not None and state not in STATES:
            raise BadRequest(f"state must be one of {', '.join(STATES)}; got {state!r:.80}")
        found = engine.documents(request.args.get("after"), int(limit) + 1, state)
        page = found[: int(limit)]
        last = page[-1].facts.id if page else None
        data = [document_json(document) for document in page]
        return jsonify({"object": "list", "data": data, "has_more": len(found) > len(page), "last_id": last})

    @routes.get("/v1/documents/<path:id>")
    def show(id: str) -> Response:  # noqa: A002
        return jsonify(document_json(engine.document(id)))

    @routes.post("/v1/documents")
    @needs(Scope.INGEST)
    def ingest() -> tuple[Response, int]:
        begin(0)
        done = engine.ingest([_document(new) for new in received(IngestRequest).documents])
        refused = [{"id": name, "reason": reason} for name, reason in done.refused]
        answer = {"object": "ingestion", "n_documents": done.n_documents, "n_entries": done.n_entries}
        return jsonify(answer | {"refused": refused, "datastore_version": engine.epoch}), 201

    return routes


def document_json(document: StoredDocument) -> dict[str, Any]:
    """A document as the endpoints show it."""
    is_live = document.state == LIVE
    return {
        "object": "document",
        "id": document.facts.id,
        "state": document.state,
        **{name: getattr(document.facts, name) if is_live else None for name in FACTS},
        "n_sentences": document.n_sentences if is_live else None,
        "n_entries": document.n_entries if is_live else None,
    }


def _document(new: NewDocument) -> Document:
    """Raises BadDocument, and ProofRefused where the submitter's key is one that anybody can sign for."""
    if new.submitter_key is not None:
        check_key(new.submitter_key)
    metadata = {} if new.submitter_key is None else {SUBMITTER_KEY: new.submitter_key}
    facts = {name: getattr(new, name) for name in ("id", "text", "license", "source", "title", "owner", "url")}
    return Document(**facts, metadata=metadata)
