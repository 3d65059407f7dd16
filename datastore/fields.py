"""Flat records in JSON: read strictly, the fields they have, of the types they have, and no others; and signed.

Knows nothing of what a record says. What is signed has one reading, so nothing is guessed or left out.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from datastore.errors import VerificationFailed
from datastore.files import canonical_json
from datastore.records import is_text


def read_fields(value: object, kinds: Mapping[str, type], what: str, format: str) -> dict[str, Any]:  # noqa: A002
    """``value`` as the fields named in ``kinds``, of exactly those types; ``what`` is a noun for the message.

    Raises VerificationFailed where it is no JSON object of that ``format``, or fields are missing, unknown
    or of another type.
    """
    if not isinstance(value, dict) or value.get("format") != format:
        found = value.get("format") if isinstance(value, dict) else type(value).__name__
        raise VerificationFailed(f"a {what} is a JSON object with format {format!r}; got {found!r}")
    if set(value) != set(kinds):
        raise VerificationFailed(
            f"a {what} has the fields {sorted(kinds)}; missing {sorted(set(kinds) - set(value))}, "
            f"unknown {sorted(set(value) - set(kinds))}"
        )
    for name, kind in kinds.items():
        if type(value[name]) is not kind:
            raise VerificationFailed(f"the {what}'s {name} should be of type {kind}; got {value[name]!r:.80}")
        if kind is str and not is_text(value[name]):
            raise VerificationFailed(f"the {what}'s {name} has half a character: {value[name]!r:.80}")
    return value


def signed_bytes(fields: Mapping[str, Any], signatures: Collection[str] = ("signature",)) -> bytes:
    """What the ``signatures`` of a record are over: the canonical JSON of its other fields."""
    return canonical_json({name: value for name, value in fields.items() if name not in signatures})


def hash_of(text: object, what: str) -> bytes:
    """The 32 bytes that 64 lower-case hex digits spell. Raises VerificationFailed for any other spelling."""
    try:
        data = bytes.fromhex(text) if isinstance(text, str) else b""
    except ValueError:
        data = b""
    if len(data) != 32 or data.hex() != text:
        raise VerificationFailed(f"the {what} should be 64 lower-case hex digits; got {text!r:.80}")
    return data


def hashes_of(texts: Sequence[object], what: str) -> list[bytes]:
    """Each of ``texts`` as ``hash_of`` reads it."""
    return [hash_of(text, what) for text in texts]
