"""Commands that need no LM: `silo optout`, `silo datastore info`, `compact`, `log`, `recover`, `remove-passages`.

And all of `verify` but what the LM makes of a text.

Thin: reads arguments, calls the library, prints.
"""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from datastore.receipts import Receipt

Store = Annotated[Path, typer.Argument(help="The datastore.")]


def optout(
    document: Annotated[str, typer.Argument(help="Id of the document.")],
    store: Annotated[Path, typer.Option(help="The datastore.")],
    receipt: Annotated[
        Path | None, typer.Option(help="Write the signed receipt here; those of copies beside it, numbered.")
    ] = None,
    copies: Annotated[
        bool, typer.Option("--copies", help="Take the copies of its text out of other documents too.")
    ] = False,
) -> None:
    """Opt a document out: in force at once, for running servers too. Copies of its text elsewhere are listed."""
    from datastore.copies import find_copies
    from datastore.optout import opt_out
    from datastore.passage_optout import remove_passages
    from datastore.store import Datastore

    opened = Datastore.open(store)
    given = opt_out(opened, document, now=datetime.now(UTC))
    text = opened.stored_text(document)  # its bytes are there until compaction
    print(f"accepted: {document} is out since {given.accepted_at} (epoch {given.epoch}, {given.n_entries:,} entries)")
    receipts = [given]
    for copy in find_copies(opened, text, besides={document}) if text else []:
        where = ", ".join(f"{first}-{last - 1}" for first, last in copy.sentences)
        print(f"copy: {copy.document}, sentences {where} ({copy.containment:.0%}, {copy.n_words} words in a row)")
        if copies and copy.sentences:
            taken = remove_passages(opened, copy.document, copy.sentences, now=datetime.now(UTC))
            print(
                f"accepted: they are out since {taken.accepted_at} (epoch {taken.epoch}, {taken.n_entries:,} entries)"
            )
            receipts.append(taken)
    _hand_over(receipts, receipt)


def remove_passages(
    store: Store,
    document: Annotated[str, typer.Argument(help="Id of the document that holds them.")],
    sentences: Annotated[list[str], typer.Option(help="Sentences to take out, as 3 or 3-5; may be repeated.")],
    receipt: Annotated[Path | None, typer.Option(help="Write the signed receipt here.")] = None,
) -> None:
    """Take sentences out of a document that stays: in force at once, for running servers too."""
    from datastore.passage_optout import remove_passages as remove
    from datastore.store import Datastore

    ranges = [_range(value) for value in sentences]
    given = remove(Datastore.open(store), document, ranges, now=datetime.now(UTC))
    print(
        f"accepted: sentences of {document} are out since {given.accepted_at} "
        f"(epoch {given.epoch}, {given.n_entries:,} entries)"
    )
    _hand_over([given], receipt)


def _range(value: str) -> tuple[int, int]:
    """``3`` or ``3-5``, both ends included, as a half-open range."""
    first, _, last = value.partition("-")
    if not (first.isdecimal() and (last or first).isdecimal()):
        raise typer.BadParameter(f"name sentences as 3 or 3-5; got {value!r}")
    return int(first), int(last or first) + 1


def _hand_over(receipts: "list[Receipt]", path: Path | None) -> None:
    """Write the first receipt to ``path`` and the others beside it, numbered; or print all."""
    from datastore.files import write_bytes

    for i, given in enumerate(receipts):
        text = json.dumps(given.to_json(), indent=2, ensure_ascii=False)
        if path is None:
            print(text)
            continue
        here = path if i == 0 else path.with_name(f"{path.stem}-copy-{i}{path.suffix}")
        write_bytes(here, f"{text}\n".encode())
        print(f"receipt: {here}")


def info(
    store: Store,
    documents: Annotated[bool, typer.Option(help="List every document.")] = False,
) -> None:
    """What a datastore is and holds."""
    from datastore.store import Datastore
    from datastore.tables import LIVE

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
