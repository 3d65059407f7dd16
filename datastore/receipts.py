"""Receipts: what the owner of a removed document holds in hand.

Plain facts, one signature, no files. The receipt commits to the document by a salted hash, so the
commitment can be shown in public without telling what was removed; the receipt, which the owner alone has,
opens it. Anyone who trusts the store's public key can check a receipt offline.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from datastore.errors import VerificationFailed
from datastore.files import canonical_json
from datastore.records import is_text
from datastore.signing import check_signature, public_hex

FORMAT = "silo-receipt/1"


@dataclass(frozen=True)
class Receipt:
    """A signed record that a document is out of a store."""

    store: str
    document: str
    digest: str
    """SHA-256 of the document's normalized text."""
    n_entries: int
    """Entries that went out of service with it."""
    accepted_at: str
    """UTC, ISO 8601."""
    epoch: int
    """The first epoch of the store without the document."""
    salt: str
    """256 random bits, hex."""
    commitment: str
    """SHA-256 over salt, document and digest."""
    public_key: str
    """Of the store, hex."""
    signature: str = ""
    """Ed25519 over the canonical JSON of the other fields, hex."""
    format: str = FORMAT

    def to_json(self) -> dict[str, Any]:
        """The receipt as a JSON object."""
        return asdict(self)


def commit(salt: str, document: str, digest: str) -> str:
    """SHA-256, hex, that binds to a document and hides it from whoever lacks the salt."""
    return hashlib.sha256(canonical_json([salt, document, digest])).hexdigest()


def sign_receipt(facts: Mapping[str, Any], salt: str, key: Ed25519PrivateKey) -> Receipt:
    """A signed receipt of ``facts``: store, document, digest, n_entries, accepted_at, epoch."""
    commitment = commit(salt, facts["document"], facts["digest"])
    unsigned = Receipt(**facts, salt=salt, commitment=commitment, public_key=public_hex(key))
    signature = key.sign(_message(unsigned)).hex()
    return Receipt(**{**asdict(unsigned), "signature": signature})


def parse_receipt(text: bytes) -> Receipt:
    """Read the bytes of a receipt. Raises VerificationFailed where they are not JSON, or as ``receipt_from_json``."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise VerificationFailed(f"a receipt is a JSON object; this is no JSON at all: {error}") from None
    return receipt_from_json(value)


def receipt_from_json(value: object) -> Receipt:
    """Read a receipt. Raises VerificationFailed where fields are missing, unknown or of the wrong type."""
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        found = value.get("format") if isinstance(value, dict) else type(value).__name__
        raise VerificationFailed(f"a receipt is a JSON object with format {FORMAT!r}; got {found!r}")
    wanted = {field.name: field.type for field in fields(Receipt)}
    if set(value) != set(wanted):
        raise VerificationFailed(
            f"a receipt has the fields {sorted(wanted)}; missing {sorted(set(wanted) - set(value))}, "
            f"unknown {sorted(set(value) - set(wanted))}"
        )
    for name, kind in wanted.items():
        if type(value[name]) is not kind:
            raise VerificationFailed(f"the receipt's {name} should be of type {kind}; got {value[name]!r:.80}")
        if kind is str and not is_text(value[name]):
            raise VerificationFailed(f"the receipt's {name} has half a character: {value[name]!r:.80}")
    return Receipt(**value)


def check_receipt(receipt: Receipt) -> None:
    """Raise VerificationFailed unless signature and commitment hold. Needs no store."""
    check_signature(receipt.public_key, receipt.signature, _message(receipt), "the receipt")
    if commit(receipt.salt, receipt.document, receipt.digest) != receipt.commitment:
        raise VerificationFailed("the receipt's commitment is not that of its document")


def _message(receipt: Receipt) -> bytes:
    facts = receipt.to_json()
    del facts["signature"]
    return canonical_json(facts)
