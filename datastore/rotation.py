"""Rotating the key that signs for a store: the old key names the new one, and is destroyed.

One rename decides: of the manifest, which names the keys of the store and is signed by the newest. A kill before it
leaves the old key in force, a kill after it the new one; private keys that are not in force are then destroyed by the
next rotation or compaction. The epoch's lock is held meanwhile, so that no opt-out is signed by a key whose time is
over.
"""

from dataclasses import replace
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from datastore import backup_keys
from datastore.files import TEMPORARY_PREFIX, remove_leftovers, sync_folder
from datastore.key_chain import Rotation, sign_rotation
from datastore.manifest import read_manifest, write_manifest
from datastore.signing import FILE_NAME, NEXT_FILE_NAME, destroy_file, load_key, public_hex, read_key, write_key
from datastore.store import Datastore
from datastore.writer import writing


def rotate_key(store: Datastore, *, now: datetime) -> tuple[Rotation, list[str]]:
    """Sign with a new key from now on; the statement, and the copies of the keys file that were out of reach.

    Such a copy keeps the old private key, and lacks the new one: write it anew, or destroy it.

    Raises:
        WriterBusy: another process is writing.
        CorruptDatastore: the old key is not the one that the manifest names.
    """
    with writing(store):
        with store.catalog.change() as connection:
            destroy_retired_keys(store)
            manifest = read_manifest(store.path)
            old, new = load_key(store.path, manifest.public_key), Ed25519PrivateKey.generate()
            tree, size = store.catalog.tree(connection)
            chain = sign_rotation(manifest.chain, old, new, log_size=size, log_root=tree.root(size).hex(), now=now)
            write_key(store.path / NEXT_FILE_NAME, new)
            unreached = backup_keys.add_signing_key(store.path, store.id, new)
            changed = replace(manifest, public_key=public_hex(new), rotations=chain.rotations)
            write_manifest(store.path, changed, new)
            unreached = sorted({*unreached, *destroy_retired_keys(store)})
        store.manifest = changed
    return chain.rotations[-1], unreached


def destroy_retired_keys(store: Datastore) -> list[str]:
    """Destroy every private key but the one that the manifest names; only for the holder of the writer's lock.

    Returns the copies of the keys file that were out of reach.
    """
    public_key = read_manifest(store.path).public_key
    main, waiting = store.path / FILE_NAME, store.path / NEXT_FILE_NAME
    load_key(store.path, public_key)  # before anything is destroyed: the one in force is here
    for unfinished in store.path.glob(f"{TEMPORARY_PREFIX}{waiting.name}-*"):
        destroy_file(unfinished)
    remove_leftovers(store.path)
    if waiting.exists():
        if public_hex(read_key(waiting)) == public_key:
            if main.exists():
                destroy_file(main)
            waiting.rename(main)
            sync_folder(store.path)
        else:
            destroy_file(waiting)
    return backup_keys.keep_signing_key(store.path, store.id, public_key)
