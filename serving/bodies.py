"""From the bytes of a request to its schema, with words for everything that can be wrong on the way.

Only ``application/json`` is read. Besides being clear, this keeps web pages of other origins from
posting to a server on the reader's machine: a browser asks before it sends that type.
"""

from typing import TypeVar

import pydantic_core
from flask import request
from pydantic import ValidationError
from werkzeug.exceptions import UnsupportedMediaType

from serving.errors import BadBody, Fault
from serving.schemas import Body

MAX_BODY_BYTES = 2 << 20

MAX_FAULTS = 20
"""Faults told of one body; the first ones are enough to mend it."""

_Body = TypeVar("_Body", bound=Body)


def received(schema: type[_Body]) -> _Body:
    """The body of the current request. Raises BadBody, and what Flask raises for its type and size."""
    if request.mimetype != "application/json":
        raise UnsupportedMediaType
    return parse(request.get_data(), schema)


def parse(body: bytes, schema: type[_Body]) -> _Body:
    """The request in ``body``, which must be UTF-8 JSON. A top-level null means "not given".

    Raises BadBody with every fault that was found.
    """
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        message = f"the body must be JSON in UTF-8; byte {error.start} is 0x{body[error.start]:02x}, which is not UTF-8"
        raise BadBody([Fault(None, message)], is_json=False) from None
    try:
        # Refuses NaN, Infinity, lone surrogates and more than 200 levels of nesting.
        value = pydantic_core.from_json(text, allow_inf_nan=False)
    except ValueError as error:
        message = f"the body must be JSON (finite numbers, at most 200 levels deep); the parser says: {error}"
        raise BadBody([Fault(None, message)], is_json=False) from None
    if not isinstance(value, dict):
        raise BadBody([Fault(None, f"the body must be a JSON object; got {_shown(value)}")])
    try:
        return schema.model_validate({name: given for name, given in value.items() if given is not None})
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False)[:MAX_FAULTS]
        raise BadBody([_fault(details) for details in faults]) from None


def _fault(details: pydantic_core.ErrorDetails) -> Fault:
    """A pydantic error in our words."""
    param = ".".join(str(part) for part in details["loc"])[:80]
    got = _shown(details["input"])
    match details["type"]:
        case "extra_forbidden":
            return Fault(param, f"{param} is not a field of this request; leave it out")
        case "missing":
            return Fault(param, f"{param} is required and missing")
        case "value_error" if not param:  # what is wrong with several fields together
            return Fault(None, details["msg"].removeprefix("Value error, "))
        case "value_error":
            return Fault(param, f"{param} {details['msg'].removeprefix('Value error, ')}; got {got}")
        case _:
            return Fault(param, f"{param}: {details['msg']}; got {got}")


def _shown(value: object) -> str:
    """A value as an error quotes it; only its type and length where it is long."""
    if isinstance(value, str | list | dict) and len(value) > 40:
        return f"{type(value).__name__} of length {len(value)}"
    return f"{value!r:.80}"
