"""The chain of a store's signing keys: each new key is named by the one before it, which then is destroyed.

Plain facts and signatures, no files. A statement is signed by the old key, which hands over, and by the new one,
which shows that it exists. It names the log at that moment: the old key signed nothing larger and the new key signs
nothing smaller, so an old key that was stolen all the same cannot sign a later log. A receipt keeps verifying by the
key that signed it; the chain leads from there to the key of any later head.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from datastore.errors import VerificationFailed
from datastore.fields import hash_of, read_fields, signed_bytes
from datastore.signing import check_signature, public_hex

FORMAT = "silo-key-chain/1"
ROTATION_FORMAT = "silo-key-rotation/1"


@dataclass(frozen=True)
class Rotation:
    """A statement that a store signs with another key from now on."""

    store: str
    number: int
    """Its place in the chain, from 1."""
    old_key: str
    """Public, hex."""
    new_key: str
    log_size: int
    """Leaves in the log when the key changed."""
    log_root: str
    """Of the Merkle tree then, 64 hex digits."""
    rotated_at: str
    """UTC, ISO 8601."""
    old_signature: str = ""
    """Ed25519 by the old key over the canonical JSON of the fields other than the signatures, hex."""
    new_signature: str = ""
    """The same by the new key."""
    format: str = ROTATION_FORMAT


@dataclass(frozen=True)
class KeyChain:
    """All keys of a store, from the one it was made with."""

    store: str
    first_key: str
    rotations: tuple[Rotation, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        """The public keys in order, hex; the last one signs now."""
        return (self.first_key, *(rotation.new_key for rotation in self.rotations))

    def to_json(self) -> dict[str, Any]:
        """The chain as a JSON object."""
        return {
            "format": FORMAT,
            "store": self.store,
            "first_key": self.first_key,
            "rotations": [asdict(rotation) for rotation in self.rotations],
        }


def sign_rotation(
    chain: KeyChain,
    old: Ed25519PrivateKey,
    new: Ed25519PrivateKey,
    *,
    log_size: int,
    log_root: str,
    now: datetime,
) -> KeyChain:
    """``chain`` with one more statement, by which ``old``, its last key, hands over to ``new``."""
    number = len(chain.rotations) + 1
    facts = Rotation(chain.store, number, public_hex(old), public_hex(new), log_size, log_root, now.isoformat())
    message = _message(facts)
    signed = replace(facts, old_signature=old.sign(message).hex(), new_signature=new.sign(message).hex())
    return replace(chain, rotations=(*chain.rotations, signed))


def chain_from_json(value: object) -> KeyChain:
    """Read a chain. Raises VerificationFailed where fields are missing, unknown or of the wrong type."""
    kinds = {"format": str, "store": str, "first_key": str, "rotations": list}
    found = read_fields(value, kinds, "key chain", FORMAT)
    return KeyChain(found["store"], found["first_key"], rotations_from_json(found["rotations"]))


def rotations_from_json(values: Sequence[object]) -> tuple[Rotation, ...]:
    """Read statements. Raises VerificationFailed as ``chain_from_json``."""
    kinds: dict[str, type] = {field.name: str for field in fields(Rotation)} | {"number": int, "log_size": int}
    return tuple(Rotation(**read_fields(value, kinds, "key rotation", ROTATION_FORMAT)) for value in values)


def check_chain(chain: KeyChain) -> None:
    """Raise VerificationFailed unless each statement follows from the one before it and both its keys signed it."""
    hash_of(chain.first_key, "key chain's first key")
    size, root = 0, None
    for i, rotation in enumerate(chain.rotations):
        what = f"rotation {i + 1} of the key chain"
        if rotation.store != chain.store:
            raise VerificationFailed(f"{what} is of store {rotation.store}; the chain is of {chain.store}")
        if rotation.number != i + 1 or rotation.old_key != chain.keys[i]:
            raise VerificationFailed(
                f"{what} says that it is number {rotation.number}, by key {rotation.old_key:.16}…; expected is one by "
                f"{chain.keys[i]:.16}…: a statement is missing, was moved, or is another chain's"
            )
        if rotation.new_key in chain.keys[: i + 1]:
            raise VerificationFailed(f"{what} brings back key {rotation.new_key:.16}…, which was retired")
        check_signature(rotation.old_key, rotation.old_signature, _message(rotation), f"{what} by its old key")
        check_signature(rotation.new_key, rotation.new_signature, _message(rotation), f"{what} by its new key")
        hash_of(rotation.log_root, f"{what}'s log root")
        if rotation.log_size < size or (rotation.log_size == size and root not in (None, rotation.log_root)):
            raise VerificationFailed(f"{what} has a log of {rotation.log_size} leaves, which is not a later one")
        size, root = rotation.log_size, rotation.log_root


def check_signer(chain: KeyChain, public_key: str, log_size: int, log_root: str, what: str) -> int:
    """The place in ``chain``, which was checked, of the key that signed a log of that size and root.

    Raises VerificationFailed where the key is not in it, or the log is not one of that key's time.
    """
    if public_key not in chain.keys:
        raise VerificationFailed(
            f"{what} is by key {public_key:.16}…, which is none of the {len(chain.keys)} keys of store {chain.store}"
        )
    place = chain.keys.index(public_key)
    began = chain.rotations[place - 1] if place else None
    ended = chain.rotations[place] if place < len(chain.rotations) else None
    too_small = began is not None and log_size < began.log_size
    too_large = ended is not None and log_size > ended.log_size
    other = any(log_size == r.log_size and log_root != r.log_root for r in (began, ended) if r is not None)
    if too_small or too_large or other:
        raise VerificationFailed(
            f"{what} has a log of {log_size} leaves by key {public_key:.16}…, which signed from "
            f"{began.log_size if began else 0} to {ended.log_size if ended else 'any number of'} leaves of another log"
        )
    return place


def _message(rotation: Rotation) -> bytes:
    return signed_bytes(asdict(rotation), ("old_signature", "new_signature"))
