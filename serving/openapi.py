"""``GET /openapi.json``: the API described, from the routes and the schemas that requests are checked against.

``GET /docs`` shows the same as a page, which asks for nothing outside. What a route takes is said in ``OPERATIONS``;
its path, methods and scopes are read from the application, and a test holds the two together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from flask import Blueprint, Flask, Response, current_app, jsonify

from serving import document_schemas, schemas
from serving.access import needs
from serving.documents import MAX_PAGE, STATES
from serving.keys import Scope
from silo import __version__


@dataclass(frozen=True)
class Operation:
    """What there is to say of a route beyond its path."""

    summary: str
    body: type[schemas.Body] | None = None
    statuses: Sequence[int] = (200,)
    query: Mapping[str, dict[str, Any]] | None = None
    is_stream: bool = False
    """Whether it answers with server-sent events too."""


OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("POST", "/v1/completions"): Operation("Continue prompts.", schemas.CompletionRequest, is_stream=True),
    ("POST", "/v1/chat/completions"): Operation("Continue a conversation.", schemas.ChatRequest, is_stream=True),
    ("GET", "/v1/models"): Operation("The model that is served."),
    ("GET", "/v1/models/<path:name>"): Operation("The model of that name."),
    ("GET", "/v1/documents"): Operation(
        "Documents, page by page, without their texts.",
        query={
            "limit": {"type": "integer", "minimum": 1, "maximum": MAX_PAGE},
            "after": {"type": "string"},
            "state": {"enum": list(STATES)},
        },
    ),
    ("POST", "/v1/documents"): Operation("Add documents.", document_schemas.IngestRequest, (201,)),
    ("GET", "/v1/documents/<path:id>"): Operation("One document, without its text."),
    ("POST", "/v1/optouts"): Operation("Take a document out at once.", document_schemas.OptOutRequest, (200, 201)),
    ("GET", "/v1/opt-outs"): Operation("All opt-out requests.", query={"state": {"type": "string"}}),
    ("POST", "/v1/opt-outs"): Operation("Ask for a document to be taken out.", document_schemas.OptOutOpening, (201,)),
    ("GET", "/v1/opt-outs/<id>"): Operation("How far a request is."),
    ("POST", "/v1/opt-outs/<id>/challenge"): Operation("What to do as a proof.", document_schemas.ChallengeRequest),
    ("POST", "/v1/opt-outs/<id>/proof"): Operation("Show ownership.", document_schemas.ProofRequest),
    ("POST", "/v1/opt-outs/<id>/decision"): Operation("Decide a request.", document_schemas.DecisionRequest),
    ("GET", "/v1/opt-outs/<id>/receipt"): Operation("The signed receipt."),
}

_PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "instance", "errors", "error"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string"},
        "errors": {"type": "array", "items": {"type": "object"}},
        "error": {
            "type": "object",
            "description": "The same in the form of the OpenAI API.",
            "required": ["message", "type", "param", "code"],
        },
    },
}


def blueprint() -> Blueprint:
    """The endpoints."""
    routes = Blueprint("openapi", __name__)

    @routes.get("/openapi.json")
    @needs()
    def description() -> Response:
        return jsonify(describe(current_app))

    @routes.get("/docs")
    @needs()
    def page() -> Response:
        response = Response(_page(describe(current_app)), mimetype="text/html")
        response.headers["Content-Security-Policy"] = "default-src 'none'; style-src 'unsafe-inline'"
        return response

    return routes


def describe(app: Flask) -> dict[str, Any]:
    """The description of ``app``, as OpenAPI 3.1 has it."""
    components: dict[str, Any] = {"Problem": _PROBLEM}
    paths: dict[str, Any] = {}
    for rule in sorted(app.url_map.iter_rules(), key=lambda rule: rule.rule):
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            operation = OPERATIONS.get((method, rule.rule))
            if operation is not None:
                scopes = getattr(app.view_functions[rule.endpoint], "scopes", None)
                path = rule.rule.replace("<path:", "{").replace("<", "{").replace(">", "}")
                paths.setdefault(path, {})[method.lower()] = _operation(operation, path, scopes, components)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "SILO",
            "version": __version__,
            "description": "The OpenAI completions API with attributions, and opt-outs.",
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"key": []}],
    }


def _operation(
    operation: Operation, path: str, scopes: tuple[Scope, ...] | None, components: dict[str, Any]
) -> dict[str, Any]:
    content: dict[str, Any] = {"application/json": {"schema": {"type": "object"}}}
    if operation.is_stream:
        content["text/event-stream"] = {"schema": {"type": "object"}}
    problem = {"schema": {"$ref": "#/components/schemas/Problem"}}
    names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    told: dict[str, Any] = {
        "summary": operation.summary,
        "description": f"Needs a key for {', '.join(scopes)}." if scopes else "Needs a key of any scope.",
        "parameters": [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]
        + [{"name": name, "in": "query", "schema": schema} for name, schema in (operation.query or {}).items()],
        "responses": {
            **{str(status): {"description": "Done.", "content": content} for status in operation.statuses},
            "default": {"description": "A problem.", "content": {"application/problem+json": problem}},
        },
    }
    if operation.body is not None:
        schema = operation.body.model_json_schema(ref_template="#/components/schemas/{model}")
        for name, part in schema.pop("$defs", {}).items():
            components[name] = part
        components[operation.body.__name__] = _with_nulls(schema)
        reference = {"$ref": f"#/components/schemas/{operation.body.__name__}"}
        told["requestBody"] = {"required": True, "content": {"application/json": {"schema": reference}}}
    return told


def _with_nulls(schema: dict[str, Any]) -> dict[str, Any]:
    """A body in which null says that a field is not given, as it does where bodies are read."""
    required = schema.get("required", [])
    properties = {
        name: part if name in required else {"anyOf": [part, {"type": "null"}]}
        for name, part in schema["properties"].items()
    }
    return schema | {"properties": properties}


def _page(description: dict[str, Any]) -> str:
    """The description, to be read."""
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        "<title>SILO API</title><style>body{font:16px/1.5 system-ui,sans-serif;max-width:48rem;margin:2rem auto;"
        "padding:0 1rem;color-scheme:light dark}code{font:14px ui-monospace,monospace}table{border-collapse:collapse}"
        "td,th{text-align:left;vertical-align:top;padding:.2rem .8rem .2rem 0}</style><main><h1>SILO API</h1>"
        f"<p>{escape(description['info']['description'])} <a href=/openapi.json>OpenAPI 3.1</a>"
    ]
    for path, methods in description["paths"].items():
        for method, told in methods.items():
            parts.append(
                f"<h2><code>{method.upper()} {escape(path)}</code></h2><p>{escape(told['summary'])} "
                f"{escape(told['description'])}"
            )
            if "requestBody" in told:
                name = told["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
                parts.append(_fields(description["components"]["schemas"][name]))
    return "".join(parts) + "</main></html>"


def _fields(schema: dict[str, Any]) -> str:
    rows = []
    for name, part in schema["properties"].items():
        inner = part.get("anyOf", [part])[0]
        kind = inner.get("type") or inner.get("$ref", "").rpartition("/")[2] or "see the description"
        default = "required" if name in schema.get("required", []) else f"default {inner.get('default')!r}"
        rows.append(f"<tr><td><code>{escape(name)}</code><td>{escape(str(kind))}<td>{escape(default)}")
    return f"<table><tr><th>field<th>type<th>{''.join(rows)}</table>"
