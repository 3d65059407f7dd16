"""Where the keys of a store's backups lie: in the store's own file, and in the copies that the operator asked for.

The store remembers the copies (``backup-copies.json``), since a key is destroyed only where it is destroyed in all
of them. A copy that is out of reach may hold the keys still, and counts so. Of a copy that someone made by other means
nobody here knows. Opens keys files; knows nothing of what they encrypt.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from datastore.errors import DatastoreError
from datastore.files import canonical_json, read_json, write_bytes
from datastore.keyring import Keyring

FILE_NAME = "backup-keys"
COPIES = "backup-copies.json"


def open_keyring(folder: Path, store: str) -> Keyring | None:
    """The keys file of the store in ``folder``; None where no backup was ever made."""
    path = folder / FILE_NAME
    return Keyring(path, store) if path.exists() else None


def copies(folder: Path) -> list[Path]:
    """The other files that hold the keys of the store in ``folder``."""
    path = folder / COPIES
    if not path.exists():
        return []
    return [Path(name) for name in read_json(path, "the list of copies of the backup keys")["copies"]]


def remember_copy(folder: Path, copy: Path) -> None:
    """Note, durably, that ``copy`` holds the keys too; before it does."""
    known = {str(path) for path in copies(folder)}
    if str(copy.resolve()) not in known:
        write_bytes(folder / COPIES, canonical_json({"copies": sorted({*known, str(copy.resolve())})}))


def n_keys(folder: Path, store: str, document: str) -> int:
    """How many keys of ``document`` are left that could decrypt it in a backup of the store in ``folder``.

    0 says that every copy of every backup of it is dead. A copy of the keys that is out of reach counts as one.
    """
    ring = open_keyring(folder, store)
    n = ring.n_keys(document) if ring is not None else 0
    for copy in copies(folder):
        try:
            n += Keyring(copy, store).n_keys(document)
        except DatastoreError:
            n += 1
    return n


def can_read(folder: Path, store: str) -> Callable[[str], bool]:
    """Whether a document may still be read in a backup, as a question: the files are read at the first, and once."""

    @cache
    def rings() -> tuple[list[Keyring], bool]:
        found, all_reached = [], True
        for path in [folder / FILE_NAME] * (folder / FILE_NAME).exists() + copies(folder):
            try:
                found.append(Keyring(path, store))
            except DatastoreError:
                all_reached = False
        return found, all_reached

    def ask(document: str) -> bool:
        found, all_reached = rings()
        return not all_reached or any(ring.n_keys(document) for ring in found)

    return ask


def destroy(folder: Path, store: str, documents: Mapping[str, int], n_leaves: int) -> list[str]:
    """Destroy keys of ``documents``, durably, at a log of ``n_leaves``; the copies that were out of reach.

    Those keys that are older than a document's number says, which is a size of the log (``Keyring.destroy``).
    Only for the holder of the writer's lock. Asked again, it takes up what was left.
    """
    return _each(folder, store, lambda ring: ring.destroy(documents, n_leaves))


def add_signing_key(folder: Path, store: str, key: Ed25519PrivateKey) -> list[str]:
    """Add a private key to every keys file there is; the copies that were out of reach."""
    return _each(folder, store, lambda ring: ring.add_signing_key(key))


def keep_signing_key(folder: Path, store: str, public_key: str) -> list[str]:
    """Destroy every private key but that of ``public_key``; the copies that were out of reach."""
    return _each(folder, store, lambda ring: ring.keep_signing_key(public_key))


def _each(folder: Path, store: str, change: Callable[[Keyring], object]) -> list[str]:
    ring = open_keyring(folder, store)
    if ring is not None:
        change(ring)
    unreached = []
    for copy in copies(folder):
        reached = False
        with suppress(DatastoreError, OSError):
            change(Keyring(copy, store))
            reached = True
        if not reached:
            unreached.append(str(copy))
    return unreached
