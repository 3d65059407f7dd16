"""Commands of a reviewer: `silo datastore requests`, `accept`, `reject`, `dispute`. Thin; they need no LM."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from datastore.request_states import State

Id = Annotated[str, typer.Argument(help="Id of the request, as `silo datastore requests` prints it.")]
Store = Annotated[Path, typer.Option(help="The datastore.")]
Note = Annotated[str, typer.Option(help="Why; kept with the request.")]


def requests(
    store: Annotated[Path, typer.Argument(help="The datastore.")],
    state: Annotated[State | None, typer.Option(help="Only those in this state.")] = None,
) -> None:
    """List opt-out requests: id, state, proof, when it changed last, document."""
    from datastore.requests import requests as all_requests
    from datastore.store import Datastore

    for one in all_requests(Datastore.open(store), state):
        shown = f"{one.state} (accepted, not yet in force)" if _is_waiting(one.state, one.accepted_at) else one.state
        print(f"{one.id}\t{shown}\t{one.method or '-'}\t{one.changed_at}\t{one.document}")


def accept(
    request: Id,
    store: Store,
    note: Note = "",
    receipt: Annotated[Path | None, typer.Option(help="Write the signed receipt here.")] = None,
) -> None:
    """Accept a request: its document is out for good, in running servers too."""
    from datastore.files import write_bytes
    from datastore.optout import given_receipt

    document = _decide(request, store, State.ACCEPTED, note)
    if receipt is not None:
        from datastore.store import Datastore

        given = given_receipt(Datastore.open(store), document)
        assert given is not None
        write_bytes(receipt, f"{json.dumps(given.to_json(), indent=2, ensure_ascii=False)}\n".encode())
        print(f"receipt: {receipt}")


def reject(request: Id, store: Store, note: Note = "") -> None:
    """Reject a request; a document that was hidden for it is served again."""
    _decide(request, store, State.REJECTED, note)


def dispute(request: Id, store: Store, note: Note = "") -> None:
    """Set a proven request aside, because someone else claims the document too."""
    _decide(request, store, State.DISPUTED, note)


def _decide(request: str, store: Path, decision: State, note: str) -> str:
    """Make and print a decision; return the document it is about."""
    from datastore.requests import decide
    from datastore.store import Datastore

    opened = Datastore.open(store)
    made = decide(opened, request, decision, now=datetime.now(UTC), note=note)
    print(f"{made.state}: request {made.id} for {made.document}, which is {opened.document(made.document).state}")
    return made.document


def _is_waiting(state: State, accepted_at: str) -> bool:
    return bool(accepted_at) and state in (State.VERIFIED, State.PROVISIONAL, State.DISPUTED)
