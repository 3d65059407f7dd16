"""The store's Ed25519 key: made with the store, kept in it with mode 600, and used for every signature until rotated.

Works on bytes; knows nothing of what it signs.
"""

import os
from contextlib import suppress
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from datastore.errors import CorruptDatastore, VerificationFailed
from datastore.files import sync_folder, write_bytes

FILE_NAME = "signing-key.pem"
NEXT_FILE_NAME = "signing-key.next.pem"
"""A key that is being put in the place of the first one; the manifest says which of both signs."""


def create_key(folder: Path) -> Ed25519PrivateKey:
    """Make a key and write it to ``folder``, readable by its owner alone."""
    key = Ed25519PrivateKey.generate()
    write_key(folder / FILE_NAME, key)
    return key


def write_key(path: Path, key: Ed25519PrivateKey) -> None:
    """Write ``key`` to ``path``, readable by its owner alone."""
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    write_bytes(path, pem, mode=0o600)


def load_key(folder: Path, public_key: str) -> Ed25519PrivateKey:
    """The key of the store in ``folder``, whose manifest names ``public_key`` (hex).

    Raises:
        CorruptDatastore: it is missing, no Ed25519 key, or another store's: nobody could check what it signs.
    """
    if (folder / NEXT_FILE_NAME).exists():
        with suppress(CorruptDatastore):
            return _load(folder / NEXT_FILE_NAME, public_key)
    return _load(folder / FILE_NAME, public_key)


def destroy_file(path: Path) -> None:
    """Overwrite ``path`` with zeros, durably, and take it away."""
    with path.open("r+b") as file:
        file.write(bytes(path.stat().st_size))
        file.flush()
        os.fsync(file.fileno())
    path.unlink()
    sync_folder(path.parent)


def _load(path: Path, public_key: str) -> Ed25519PrivateKey:
    key = read_key(path)
    if public_hex(key) != public_key:
        raise CorruptDatastore(f"{path} is not the key that the manifest names. Put the store's own key back.")
    return key


def read_key(path: Path) -> Ed25519PrivateKey:
    """The key at ``path``. Raises CorruptDatastore where there is none."""
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError) as error:
        raise CorruptDatastore(f"{path} should be the store's Ed25519 key, but it cannot be read: {error}") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise CorruptDatastore(f"{path} should be an Ed25519 key; it is a {type(key).__name__}")
    return key


def public_hex(key: Ed25519PrivateKey) -> str:
    """The public half, 64 hex digits."""
    return key.public_key().public_bytes_raw().hex()


def check_signature(public_key: str, signature: str, message: bytes, what: str) -> None:
    """Raise VerificationFailed unless ``signature`` of ``message`` is by ``public_key``, both in lower-case hex."""
    try:
        key, signed = bytes.fromhex(public_key), bytes.fromhex(signature)
        if (key.hex(), signed.hex()) != (public_key, signature):
            raise ValueError("one signature has one spelling")
        Ed25519PublicKey.from_public_bytes(key).verify(signed, message)
    except (InvalidSignature, ValueError):
        raise VerificationFailed(
            f"{what} is not what key {public_key:.16}… signed: it was edited, torn, or signed by another store"
        ) from None


def fresh_salt() -> str:
    """256 random bits in hex."""
    return os.urandom(32).hex()
