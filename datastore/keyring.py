"""One file of keys: of each document in the backups of a store, and of what else only a restore may read.

A header and records of fixed size, appended and synced before a key is used. A record is destroyed where it lies:
its key is overwritten and synced, so no older version of the file is left behind in free blocks, as it would be after
a rename, or in a database's log. A record keeps the random name that backups know it by, and the size that the log of
opt-outs had when the key was destroyed: so a restore can tell a key that was destroyed from one that is missing,
and knows how long a log it must be shown. Works on ids and bytes; knows nothing of backups.

Out of reach of any file: a copy-on-write file system and the spare blocks of a flash disk may hold older bytes. There,
keep the file on an encrypted volume of its own, or in a key management service.
"""

import hashlib
import os
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from datastore.errors import CorruptDatastore, VerificationFailed
from datastore.files import write_bytes
from datastore.signing import public_hex

DOCUMENT, DESTROYED, SIGNING, RECORDS = 1, 2, 3, 4
_MAGIC = b"silokey1"
_FACTS = struct.Struct("<Q16s16s32sQ16x")
SIZE = 128
"""Bytes of the header and of each record: none of them lies across two sectors of a disk."""


@dataclass(frozen=True)
class Key:
    """One record."""

    kind: int
    name: bytes
    """16 bytes, random for a document's: what a backup calls this key; zeros where a torn record was."""
    tag: bytes
    """Of the document, 16 bytes; zeros for other keys and for a destroyed one."""
    secret: bytes
    """32 bytes: an AES-256 key, or an Ed25519 private key; zeros once it is destroyed."""
    n_leaves: int = 0
    """The size of the log when a document's key was made, or when the key was destroyed."""

    def packed(self) -> bytes:
        """The record as it is stored, with a checksum that tells a torn one."""
        facts = _FACTS.pack(self.kind, self.name, self.tag, self.secret, self.n_leaves)
        return facts + hashlib.sha256(facts).digest()

    def destroyed(self, n_leaves: int) -> "Key":
        """What is left of it."""
        return replace(self, kind=DESTROYED, tag=bytes(16), secret=bytes(32), n_leaves=n_leaves)


class Keyring:
    """The keys file at ``path`` of the store ``store``. Changing it is for the holder of that store's writer's lock.

    Raises:
        CorruptDatastore: the file cannot be read or is no keys file.
        VerificationFailed: it is another store's.
    """

    def __init__(self, path: Path, store: str) -> None:
        self.path = path
        self._store = store
        try:
            data = path.read_bytes()
        except OSError as error:
            raise CorruptDatastore(f"{path} should be a file of backup keys, but it cannot be read: {error}") from None
        if data[: len(_MAGIC)] != _MAGIC or len(data) < SIZE:
            raise CorruptDatastore(f"{path} should be a file of backup keys; it is none. Name the newest one.")
        if data[:SIZE] != _header(store):
            found = data[len(_MAGIC) : len(_MAGIC) + 16].hex()
            raise VerificationFailed(f"{path} has the backup keys of store {found}; wanted are those of {store}")
        self._records = [_parsed(data[at : at + SIZE]) for at in range(SIZE, len(data), SIZE)]
        while self._records and self._records[-1] is None:
            self._records.pop()  # torn at the end: it was never used

    @classmethod
    def create(cls, path: Path, store: str) -> "Keyring":
        """Write a new file with no document's key in it."""
        # Without a key: none goes through a temporary file, which a kill leaves behind.
        write_bytes(path, _header(store), mode=0o600)
        return cls(path, store)

    @property
    def n_leaves(self) -> int:
        """The largest size of the log at which a key was made or destroyed: no shorter log may be served."""
        return max((key.n_leaves for key in self._whole()), default=0)

    def by_name(self) -> dict[bytes, Key]:
        """Every record by its name, those that were torn left out."""
        return {key.name: key for key in self._whole() if key.name != bytes(16)}

    def add_records_key(self) -> None:
        """Add the key of what is no document's: the log, receipts and suppressions; nothing where there is one."""
        if not any(key.kind == RECORDS for key in self._whole()):
            self._append([Key(RECORDS, os.urandom(16), bytes(16), os.urandom(32))])

    def records_key(self) -> Key:
        """The key that ``add_records_key`` adds. Raises CorruptDatastore where there is none."""
        return self._only(RECORDS)

    def signing_key(self) -> Ed25519PrivateKey:
        """The newest signing key of the store. Raises CorruptDatastore where there is none."""
        return Ed25519PrivateKey.from_private_bytes(self._only(SIGNING).secret)

    def n_keys(self, document: str) -> int:
        """How many keys of ``document`` are not destroyed. Torn records count: they might be its."""
        tag = self._tag(document)
        return sum(key is None or key.tag == tag for key in self._records)

    def keys_for(self, documents: Mapping[str, int], n_leaves: int) -> dict[str, Key]:
        """A key for each of ``documents``; those that have none get a new one, durably, at a log of ``n_leaves``.

        A document's number is the size of the log once it was as it is now: an older key encrypted what has left it
        since, and is not used again.
        """
        known = {key.tag: key for key in self._whole() if key.kind == DOCUMENT}
        found, new = {}, []
        for document, since in documents.items():
            tag = self._tag(document)
            if tag not in known or known[tag].n_leaves < since:
                known[tag] = Key(DOCUMENT, os.urandom(16), tag, os.urandom(32), n_leaves)
                new.append(known[tag])
            found[document] = known[tag]
        self._append(new)
        return found

    def destroy(self, documents: Mapping[str, int], n_leaves: int) -> int:
        """Overwrite every key of ``documents`` that was made when the log was smaller than the document's number,
        durably; how many there were. Torn records go with them.
        """
        tags = {self._tag(document): size for document, size in documents.items()}

        def is_wanted(key: Key) -> bool:
            return key.kind == DOCUMENT and key.n_leaves < tags.get(key.tag, 0)

        return self._destroy(is_wanted, n_leaves) if tags else 0

    def add_signing_key(self, key: Ed25519PrivateKey) -> None:
        """Add the private key of a store that backups can be restored with."""
        if not any(public == public_hex(key) for public in self._signing().values()):
            name = hashlib.sha256(public_hex(key).encode()).digest()[:16]
            self._append([Key(SIGNING, name, bytes(16), key.private_bytes_raw())])

    def keep_signing_key(self, public_key: str) -> None:
        """Destroy every private key but that of ``public_key``."""
        public = self._signing()
        self._destroy(lambda key: key.kind == SIGNING and public[key.name] != public_key, 0)

    def copy_to(self, path: Path) -> None:
        """Make ``path`` hold every key that this file holds, and none that was destroyed here, durably.

        Records are appended or destroyed in place, so that a kill takes no key away and leaves none behind.
        """
        copy = Keyring(path, self._store) if path.exists() else Keyring.create(path, self._store)
        mine, theirs = self.by_name(), copy.by_name()
        gone = {name for name, key in mine.items() if key.kind == DESTROYED and name in theirs}
        copy._destroy(lambda key: key.name in gone and key.kind != DESTROYED, self.n_leaves)
        copy._append([key for name, key in mine.items() if name not in theirs])

    def _append(self, keys: list[Key]) -> None:
        if not keys:
            return
        with self.path.open("r+b") as file:
            file.seek(SIZE * (1 + len(self._records)))
            file.truncate()
            file.write(b"".join(key.packed() for key in keys))
            file.flush()
            os.fsync(file.fileno())
        self._records.extend(keys)

    def _destroy(self, is_wanted: Callable[[Key], bool], n_leaves: int) -> int:
        places = [i for i, key in enumerate(self._records) if key is None or is_wanted(key)]
        if not places:
            return 0
        with self.path.open("r+b") as file:
            for i in places:
                gone = (self._records[i] or Key(DESTROYED, bytes(16), bytes(16), bytes(32))).destroyed(n_leaves)
                file.seek(SIZE * (1 + i))
                file.write(gone.packed())
                self._records[i] = gone
            file.flush()
            os.fsync(file.fileno())
        return len(places)

    def _signing(self) -> dict[bytes, str]:
        """Public keys, hex, by the names of their records."""
        return {
            key.name: public_hex(Ed25519PrivateKey.from_private_bytes(key.secret))
            for key in self._whole()
            if key.kind == SIGNING
        }

    def _only(self, kind: int) -> Key:
        found = [key for key in self._whole() if key.kind == kind]
        if not found:
            raise CorruptDatastore(f"{self.path} lacks a key that every backup needs. Name its newest whole copy.")
        return found[-1]

    def _whole(self) -> list[Key]:
        return [key for key in self._records if key is not None]

    def _tag(self, document: str) -> bytes:
        return hashlib.sha256(f"{self._store}\0{document}".encode()).digest()[:16]


def _header(store: str) -> bytes:
    return (_MAGIC + bytes.fromhex(store)).ljust(SIZE, b"\0")


def _parsed(data: bytes) -> Key | None:
    """A record; None where it is torn."""
    if len(data) < SIZE or hashlib.sha256(data[: _FACTS.size]).digest() != data[_FACTS.size :]:
        return None
    return Key(*_FACTS.unpack(data[: _FACTS.size]))
