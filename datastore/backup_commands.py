"""Commands for what must outlast a disk or a key: `silo datastore snapshot`, `restore`, `rotate-key`.

Thin: reads arguments, calls the library, prints.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer


def snapshot(
    store: Annotated[Path, typer.Argument(help="The datastore.")],
    folder: Annotated[Path, typer.Argument(help="The folder to make.")],
    keys: Annotated[
        Path | None,
        typer.Option(help="Make or renew a copy of the keys here, apart from the snapshot; a restore needs one."),
    ] = None,
) -> None:
    """Back a datastore up, each document under a key of its own that compaction destroys after an opt-out."""
    from datastore import backup_keys
    from datastore.backups import take_snapshot
    from datastore.store import Datastore

    made = take_snapshot(Datastore.open(store), folder, now=datetime.now(UTC), keys_copy=keys)
    print(f"snapshot of {made.n_documents:,} documents at epoch {made.epoch}, with a log of {made.log_size:,} opt-outs")
    held = [store / backup_keys.FILE_NAME, *backup_keys.copies(store)]
    print(f"keys in {', '.join(map(str, held))}; copies that you make by other means are yours to destroy")
    if len(held) == 1:
        print("if the datastore is lost, so are these keys: make a copy elsewhere with --keys")


def restore(
    folder: Annotated[Path, typer.Argument(help="The snapshot.")],
    store: Annotated[Path, typer.Argument(help="The folder to make.")],
    keys: Annotated[Path, typer.Option(help="The newest keys file.")],
    journal: Annotated[
        Path | None, typer.Option(help="The newest journal.jsonl; what it has opted out stays out.")
    ] = None,
    head: Annotated[
        Path | None, typer.Option(help="The newest signed head of the log; no shorter log is served.")
    ] = None,
    chain: Annotated[
        Path | None, typer.Option(help="The chain of the store's keys, if its key was rotated since the snapshot.")
    ] = None,
) -> None:
    """Make a datastore from a snapshot; without what was opted out since, or not at all."""
    from datastore.heads import parse_chain, parse_head
    from datastore.restore import restore as restore_store

    done = restore_store(
        folder,
        store,
        keys=keys,
        journal=journal,
        head=None if head is None else parse_head(head.read_bytes()),
        chain=None if chain is None else parse_chain(chain.read_bytes()),
    )
    print(f"restored {done.n_documents:,} documents")
    for document in done.opted_out:
        print(f"left out: {document}, which was opted out since the snapshot")
    if done.n_without_key:
        print(f"left out: {done.n_without_key:,} documents whose keys were destroyed")
    for copy in done.unreached:
        print(f"keys of documents that were opted out may be left in {copy}")


def rotate_key(store: Annotated[Path, typer.Argument(help="The datastore.")]) -> None:
    """Sign with a new key from now on; the old one names it and is destroyed."""
    from datastore.rotation import rotate_key as rotate
    from datastore.store import Datastore

    done, unreached = rotate(Datastore.open(store), now=datetime.now(UTC))
    print(f"key {done.number + 1} of the store, {done.new_key}, signs from {done.log_size:,} opt-outs on")
    print(f"publish the chain beside the log's head: `silo datastore log {store} --chain`")
    for copy in unreached:
        print(f"the old private key may be left in {copy}, which cannot be opened; destroy it or renew it")
