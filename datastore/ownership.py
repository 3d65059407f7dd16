"""Proofs that a requester may speak for a document, strongest first.

1. ``KEY``: a signature by the Ed25519 key that submitted the document, which ``metadata["submitter_key"]`` names as
   64 hex digits in lower case.
2. ``DNS``, ``FILE``: control of the host in the document's URL, by a TXT record or a file (``hosts``).
3. ``POSSESSION``: whoever has a text that anyone may read has shown little. It hides the document until a reviewer
   decides, and no more.

The first three answer a challenge: 256 random bits that are given to the requester and kept as SHA-256 alone. What is
signed or shown is made of the token *and* of store, request, document, method, key or host, and time of expiry, so an
answer is good for nothing else; and a host that echoes the path it was asked for shows nothing, since the content is
not in the path. Pure: no clock, no randomness, no network, no store.
"""

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias

from datastore import hosts
from datastore.errors import ProofRefused, VerificationFailed
from datastore.files import canonical_json
from datastore.fingerprints import SHINGLE, normalized_digest, words
from datastore.records import DocumentFacts
from datastore.signing import check_signature

SUBMITTER_KEY = "submitter_key"
PURPOSE = "silo-optout-challenge/1"
TXT_VALUE = "silo-challenge="


class Method(StrEnum):
    """How ownership is shown."""

    KEY = "key"
    DNS = "dns"
    FILE = "file"
    POSSESSION = "possession"


@dataclass(frozen=True)
class Binding:
    """What a challenge is for. An answer to one is an answer to no other."""

    store: str
    request: str
    document: str
    method: str
    holder: str
    """The public key, hex, or the host that is to answer."""
    expires_at: str
    """UTC, ISO 8601."""


@dataclass(frozen=True)
class Challenge:
    """What a requester is to do. The token is told once, and to the requester alone."""

    binding: Binding
    token: str
    """256 random bits, hex."""

    @property
    def message(self) -> bytes:
        """For ``KEY``: the bytes to sign."""
        return _message(self.binding, self.token)

    @property
    def content(self) -> str:
        """For ``FILE``, the content of the file, a line end may follow; for ``DNS``, what comes after ``TXT_VALUE``."""
        return hashlib.sha256(self.message).hexdigest()

    @property
    def place(self) -> str:
        """The URL of the file or the name of the TXT record; for ``KEY`` the public key."""
        holder = self.binding.holder
        if self.binding.method == Method.DNS:
            return hosts.txt_name(holder)
        return f"https://{holder}{hosts.file_path(self.token)}" if self.binding.method == Method.FILE else holder


@dataclass(frozen=True)
class KeyProof:
    """The answer to a ``KEY`` challenge."""

    token: str
    signature: str
    """Of the challenge's message, 128 hex digits."""


@dataclass(frozen=True)
class HostProof:
    """Says that the host shows by now what the challenge asked for."""

    token: str


@dataclass(frozen=True)
class Possession:
    """The document's text; line breaks, case and spaces may differ."""

    text: str


Proof: TypeAlias = KeyProof | HostProof | Possession


def holder_of(facts: DocumentFacts, method: Method) -> str:
    """Whose answer to a challenge counts: a public key or a host. Raises ProofRefused where the document names none."""
    if method in (Method.DNS, Method.FILE):
        return hosts.host_of(facts.url)
    if method is not Method.KEY:
        raise ProofRefused(f"{method.value} answers no challenge; show the text itself")
    key = facts.metadata.get(SUBMITTER_KEY)
    if not isinstance(key, str):
        raise ProofRefused(f"document {facts.id!r} was submitted without a key (metadata[{SUBMITTER_KEY!r}])")
    check_key(key)
    return key


def check_key(key: str) -> None:
    """Raise ProofRefused unless ``key`` is 64 hex digits, and of a point for which only its owner can sign."""
    try:
        raw = bytes.fromhex(key)
    except ValueError:
        raw = b""
    if len(raw) != 32 or raw.hex() != key:
        raise ProofRefused(f"a submitter's key is 64 hex digits in lower case; got {key!r:.80}")
    if raw[:31] + bytes([raw[31] & 0x7F]) in _SMALL_ORDER:
        raise ProofRefused(f"the submitter's key {key:.16}… is a point of small order: anyone can sign for it")


def token_hash(token: str) -> str:
    """What is kept of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def check_token(token: str, kept: str, expires_at: str, *, now: datetime) -> None:
    """Raise ProofRefused unless ``token`` is the one whose hash is ``kept``, and it is not yet ``expires_at``."""
    if not kept or not hmac.compare_digest(token_hash(token), kept):
        raise ProofRefused("this is not the running challenge's token. Ask for a challenge and answer the newest.")
    if now >= datetime.fromisoformat(expires_at):
        raise ProofRefused(f"the challenge expired at {expires_at}. Ask for a new one.")


def check_signed(challenge: Challenge, proof: KeyProof) -> None:
    """Raise ProofRefused unless ``proof`` is signed by the key that the challenge names."""
    check_key(challenge.binding.holder)
    try:
        check_signature(challenge.binding.holder, proof.signature, challenge.message, "the answer to the challenge")
    except VerificationFailed as error:
        raise ProofRefused(str(error)) from None


def check_host_shows(challenge: Challenge, facts: hosts.HostFacts) -> None:
    """Ask the host. Raises ProofRefused unless it shows what the challenge asked for, there and exactly."""
    host, expected = challenge.binding.holder, challenge.content
    try:
        if challenge.binding.method == Method.DNS:
            shown: Sequence[str] = facts.txt(hosts.txt_name(host))
            expected = f"{TXT_VALUE}{expected}"
        else:
            fetched = facts.well_known(host, hosts.file_path(challenge.token))
            shown = [hosts.body_of(fetched, host, challenge.token).decode("ascii", "replace")]
    except OSError as error:
        raise ProofRefused(f"{challenge.place} could not be asked: {error}. Try again.") from None
    if not any(_is_same(value, expected) for value in shown):
        raise ProofRefused(f"{challenge.place} does not show {expected!r}. DNS changes take a while; then try again.")


def check_possession(proof: Possession, stored: str) -> None:
    """Raise ProofRefused unless the words of ``proof`` are those of the ``stored`` text, and are too many to guess."""
    if len(words(stored)) < SHINGLE:
        raise ProofRefused(f"a text of fewer than {SHINGLE} words could be guessed. Use another proof.")
    if not _is_same(normalized_digest(proof.text), normalized_digest(stored)):
        raise ProofRefused("the text is not that of the document. All of its words are needed, in order.")


def _is_same(value: str, expected: str) -> bool:
    return hmac.compare_digest(value.encode("utf-8", "surrogatepass"), expected.encode())


def _message(binding: Binding, token: str) -> bytes:
    return canonical_json(asdict(binding) | {"purpose": PURPOSE, "token": token})


# Points of order 1, 2, 4 and 8, with the sign bit cleared, in the spellings that verifiers take: for these a signature
# of zeros, or one in eight, holds for any message ("Taming the many EdDSAs", Chalkias and others, 2020, table 1).
_P = 2**255 - 19
_ORDER_8 = (
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
)
_SMALL_ORDER = frozenset(
    [y.to_bytes(32, "little") for y in (0, 1, _P - 1, _P, _P + 1)] + [bytes.fromhex(y) for y in _ORDER_8]
)
