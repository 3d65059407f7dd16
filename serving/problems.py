"""Errors as answers: every one is a problem document (RFC 9457) with the same fields.

``error`` repeats the essence in the form of the OpenAI API, so that its clients show the message.
``detail`` is written for the person who sent the request and quotes nothing of the datastore; what went
wrong inside is logged under the ``instance`` that the answer names.
"""

import logging
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from flask import Flask, Response, jsonify, request
from werkzeug.exceptions import HTTPException

from datastore.errors import (
    DuplicateDocument,
    ProofRefused,
    QuotaExceeded,
    RequestConflict,
    UnknownDocument,
    UnknownRequest,
    WriterBusy,
)
from serving.errors import (
    BadBody,
    Busy,
    EngineLost,
    Fault,
    Forbidden,
    MissingKey,
    NoDatastore,
    OverLimit,
    Stopping,
    StrangeHost,
    TimedOut,
    UnknownKey,
    UnknownModel,
)
from silo.errors import BadDocument, BadRequest, EncoderMismatch, NotInstalled, PromptTooLong

MEDIA_TYPE = "application/problem+json"

logger = logging.getLogger("serving")


@dataclass(frozen=True)
class Problem:
    """What went wrong with a request, before it is JSON."""

    status: int
    code: str
    """A word for programs; with it the problem's type is ``urn:silo:problem:CODE``."""
    detail: str
    """For people: what was expected, what arrived, what to do next."""
    faults: Sequence[Fault] = ()
    """Each thing that is wrong, where there is more to say than ``detail``."""
    headers: Mapping[str, str] = field(default_factory=dict)

    def to_json(self, instance: str) -> dict[str, Any]:
        """The problem document; ``instance`` names this occurrence, as a URI."""
        return {
            "type": f"urn:silo:problem:{self.code.replace('_', '-')}",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            "instance": instance,
            "errors": [{"param": fault.param, "detail": fault.detail} for fault in self.faults],
            "error": {
                "message": self.detail,
                "type": _openai_type(self.status),
                "param": self.faults[0].param if self.faults else None,
                "code": self.code,
            },
        }


def problem_of(error: Exception) -> Problem:
    """How an exception is told to a client. What is not meant for people becomes a plain 500."""
    match error:
        case BadBody():
            return Problem(400, "invalid_request" if error.is_json else "invalid_json", str(error), error.faults)
        case BadRequest():
            return Problem(400, "invalid_request", str(error))
        case NotInstalled() | EncoderMismatch():
            return Problem(400, "unsupported", str(error))
        case PromptTooLong():
            return Problem(400, "context_length_exceeded", str(error))
        case UnknownModel():
            return Problem(404, "model_not_found", str(error))
        case UnknownDocument():
            return Problem(404, "document_not_found", str(error))
        case NoDatastore():
            return Problem(404, "no_datastore", str(error))
        case MissingKey() | UnknownKey():
            return Problem(401, "invalid_api_key", str(error), headers={"WWW-Authenticate": "Bearer"})
        case Forbidden():
            return Problem(403, "forbidden", str(error))
        case OverLimit():
            return Problem(429, "rate_limit_exceeded", str(error), headers={"Retry-After": str(error.seconds)})
        case StrangeHost():
            return Problem(421, "misdirected_request", str(error))
        case UnknownRequest():
            return Problem(404, "opt_out_not_found", "there is no opt-out request of that id for whoever asks")
        case RequestConflict():
            return Problem(409, "conflict", str(error))
        case DuplicateDocument():
            return Problem(409, "duplicate_document", str(error))
        case ProofRefused():
            return Problem(403, "proof_refused", str(error))
        case QuotaExceeded():
            return Problem(429, "quota_exceeded", str(error), headers={"Retry-After": "3600"})
        case BadDocument():
            return Problem(400, "invalid_document", str(error))
        case Busy():
            return Problem(429, "too_many_requests", str(error), headers={"Retry-After": "1"})
        case Stopping():
            return Problem(503, "stopping", str(error), headers={"Retry-After": "1"})
        case EngineLost():
            return Problem(503, "engine_lost", str(error), headers={"Retry-After": "5"})
        case TimedOut():
            return Problem(504, "timed_out", str(error))
        case WriterBusy():
            return Problem(503, "datastore_busy", str(error), headers={"Retry-After": "1"})
        case HTTPException():
            return _http_problem(error)
        case _:
            return Problem(500, "internal_error", "the server failed at this request; its log says more")


def describe(error: Exception, problem: Problem) -> dict[str, Any]:
    """The document of ``problem``, under a name of its own; the error is logged if something is broken."""
    instance = uuid.uuid4().urn
    if problem.status == HTTPStatus.INTERNAL_SERVER_ERROR:
        logger.error("%s: %s", instance, type(error).__name__, exc_info=error)
    return problem.to_json(instance)


def register(app: Flask) -> None:
    """Make every error of ``app`` a problem document."""

    @app.errorhandler(Exception)
    def answer(error: Exception) -> Response | HTTPException:
        if isinstance(error, HTTPException) and (error.code or 0) < 400:
            return error
        problem = problem_of(error)
        response = jsonify(describe(error, problem))
        response.mimetype = MEDIA_TYPE
        response.status_code = problem.status
        response.headers.extend(problem.headers)
        return response


def _http_problem(error: HTTPException) -> Problem:
    """Routing and transport errors, in words about this request."""
    status = error.code or 500
    if status == 404:
        return Problem(
            404, "not_found", f"there is nothing at {request.path[:200]}; the completions are at /v1/completions"
        )
    if status == 405:
        allowed = ", ".join(sorted(getattr(error, "valid_methods", None) or ()))
        detail = f"{request.path[:200]} answers to {allowed}; got {request.method[:20]}"
        return Problem(405, "method_not_allowed", detail, headers={"Allow": allowed})
    if status == 413:
        limit = request.max_content_length
        return Problem(413, "body_too_large", f"the body may have at most {limit} bytes; send fewer or shorter prompts")
    if status == 415:
        got = request.content_type or "none"
        detail = f"the body must be JSON with the header Content-Type: application/json; got {got:.80}"
        return Problem(415, "unsupported_media_type", detail)
    code = HTTPStatus(status).name.lower()
    return Problem(status, code, error.description or HTTPStatus(status).phrase)


def _openai_type(status: int) -> str:
    if status == 429:
        return "rate_limit_error"
    if status in (401, 403):
        return "authentication_error" if status == 401 else "permission_error"
    return "server_error" if status >= 500 else "invalid_request_error"
