"""Commands that need no LM: `silo optout`, `silo datastore info`, `compact`, `log`, `recover`, `verify`.

Thin: reads arguments, calls the library, prints.
"""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

Store = Annotated[Path, typer.Argument(help="The datastore.")]


def optout(
    document: Annotated[str, typer.Argument(help="Id of the document.")],
    store: Annotated[Path, typer.Option(help="The datastore.")],
    receipt: Annotated[Path | None, typer.Option(help="Write the signed receipt here.")] = None,
) -> None:
    """Opt a document out: in force at once, for running servers too."""
    from datastore.files import write_bytes
    from datastore.optout import opt_out
    from datastore.store import Datastore

    given = opt_out(Datastore.open(store), document, now=datetime.now(UTC))
    print(f"accepted: {document} is out since {given.accepted_at} (epoch {given.epoch}, {given.n_entries:,} entries)")
    text = json.dumps(given.to_json(), indent=2, ensure_ascii=False)
    if receipt is None:
        print(text)
    else:
        write_bytes(receipt, f"{text}\n".encode())
        print(f"receipt: {receipt}")


def info(
    store: Store,
    documents: Annotated[bool, typer.Option(help="List every document.")] = False,
) -> None:
    """What a datastore is and holds."""
    from datastore.catalog import LIVE
    from datastore.store import Datastore

    opened = Datastore.open(store)
    counts: dict[str, int] = {}
    for document in opened.documents():
        counts[document.state] = counts.get(document.state, 0) + 1
        if documents:
            facts = document.facts
            print(f"{facts.id}\t{document.state}\t{document.n_entries}\t{facts.license}\t{facts.owner}\t{facts.title}")
    manifest = opened.manifest
    print(f"store      {manifest.store}, made {manifest.created_at}, epoch {opened.epoch}")
    print(f"encoder    {manifest.encoder_name} ({manifest.encoder:.16}…), {manifest.dimension} dimensions")
    print(f"keys       {manifest.stored_dimension} dimensions as {manifest.codec}")
    print(
        f"fitted on  {manifest.n_fitted_documents:,} licensed documents: {manifest.n_lists} lists, "
        f"kNN temperature {manifest.knn_temperature:.4g}"
    )
    gone = "".join(f", {n:,} {state}" for state, n in sorted(counts.items()) if state != LIVE)
    print(f"documents  {counts.get(LIVE, 0):,} live{gone}")
    print(f"entries    {opened.n_entries:,}")


def compact(store: Store) -> None:
    """Erase the bytes of every document that was opted out."""
    from datastore.compaction import compact as compact_store
    from datastore.store import Datastore

    done = compact_store(Datastore.open(store))
    print(
        f"erased {done.n_erased:,} documents; {done.n_segments_before} segments before, {done.n_segments_after} after"
    )
    for copy in done.unreached:
        print(f"keys of erased documents may be left in {copy}, which cannot be opened; bring it and compact again")


def log(
    store: Store,
    since: Annotated[
        int | None,
        typer.Option(help="Print instead the proof that the log grew from this size, as in a receipt's head."),
    ] = None,
    chain: Annotated[
        bool, typer.Option("--chain", help="Print instead the chain of the keys that signed it, from the first one.")
    ] = False,
) -> None:
    """The signed head of the public log of opt-outs, as JSON: its size and root, and nothing of what was removed."""
    from datastore.public_log import growth_since, signed_head
    from datastore.store import Datastore

    opened = Datastore.open(store)
    if chain:
        print(json.dumps(opened.manifest.chain.to_json(), indent=2))
        return
    shown = signed_head(opened, now=datetime.now(UTC)) if since is None else growth_since(opened, since)
    print(json.dumps(shown.to_json(), indent=2))


def recover(store: Store) -> None:
    """Write to catalog and journal what only the other has, after a crash or where the catalog is an older copy."""
    from datastore.optout import recover as recover_store
    from datastore.requests import resume
    from datastore.store import Datastore

    opened = Datastore.open(store)
    done = recover_store(opened)
    print(f"{done.n_from_journal:,} opt-outs written to the catalog, {done.n_from_catalog:,} to the journal")
    for one in resume(opened, now=datetime.now(UTC)):
        print(f"accepted: request {one.id} for {one.document}, which a crash had kept from being carried out")


def verify(
    receipt: Annotated[Path | None, typer.Argument(help="A receipt; without one only the files are checked.")] = None,
    store: Annotated[
        Path | None, typer.Option(help="The datastore; without it only the receipt itself is checked.")
    ] = None,
    text: Annotated[Path | None, typer.Option(help="The document's text: search every file for it.")] = None,
    head: Annotated[
        Path | None, typer.Option(help="A head of the log (`silo datastore log STORE`): is the receipt in it?")
    ] = None,
    growth: Annotated[
        Path | None,
        typer.Option(help="For a later head: the proof that the log grew to it (`log STORE --since SIZE`)."),
    ] = None,
    chain: Annotated[
        Path | None,
        typer.Option(help="For a head by a later key: the chain of the store's keys (`log STORE --chain`)."),
    ] = None,
) -> None:
    """Check a receipt, and that the store does what it says."""
    from datastore.heads import parse_chain, parse_growth, parse_head
    from datastore.receipts import check_in_log, check_receipt, parse_receipt
    from datastore.store import Datastore
    from datastore.verification import verify as verify_receipt
    from datastore.verification import verify_files

    if receipt is None and store is None:
        raise typer.BadParameter("name a receipt, a --store, or both")
    if head is not None and receipt is None:
        raise typer.BadParameter("--head is checked against a receipt; name one")
    if growth is not None and head is None:
        raise typer.BadParameter("--growth is checked against a head; name one with --head")
    if chain is not None and head is None:
        raise typer.BadParameter("--chain is checked against a head; name one with --head")
    lines: list[str] = []
    given = None if receipt is None else parse_receipt(receipt.read_bytes())
    if store is not None:
        opened = Datastore.open(store)
        lines += verify_files(opened)
        if given is not None:
            lines += verify_receipt(opened, given, None if text is None else text.read_text(encoding="utf-8"))
    elif given is not None:
        check_receipt(given)
        lines.append("the receipt's signature and commitment are valid")
    if given is not None and head is not None:
        shown = parse_head(head.read_bytes())
        grown = None if growth is None else parse_growth(growth.read_bytes())
        check_in_log(given, shown, grown, None if chain is None else parse_chain(chain.read_bytes()))
        lines.append(f"it is leaf {given.leaf_index} of the log of {shown.size:,} that was signed at {shown.timestamp}")
    for line in lines:
        print(f"verified: {line}")
