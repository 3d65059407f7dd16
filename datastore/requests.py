"""Opt-out requests: from someone who asks to a decision that is in force, with every step on record.

``open_request`` → ``challenge`` → ``prove`` → ``decide``; ``request`` and ``requests`` tell how far one is. Every
change of state is a step in the table of ``request_states``, in one transaction that looks and writes, so of two
decisions at once one is made and the other is told.

Three states are never stored. A decision to accept is written first, then the document is opted out, and a request
*shows* ``ACCEPTED`` only where the opt-out is in force, in catalog or journal: a crash in between can neither show an
acceptance that is not in force nor lose one, since ``resume`` (or deciding again) carries it out, and until then
nothing else can be decided. ``ERASED_LIVE`` is what compaction did to the document; ``ERASED_BACKUPS`` says that no
key is left that could read it in a backup, in any keys file that the store knows of, or that there was never a backup.

A request in ``PROVISIONAL`` hides its document (``hiding``): in the same transaction, and no longer than the last such
request. Hiding needs the text alone, so it is rationed (``rationing``), and a document that a reviewer gave back is not
hidden so again.

Requests are in the catalog's file. A catalog that is restored from an older copy has forgotten the requests since, and
a hide with them, though never an opt-out, which the journal repeats.
"""

import hashlib
import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, RowMapping, select, update

from datastore import backup_keys, catalog_rows, hiding, ownership, tables
from datastore.errors import ProofRefused, RequestConflict, UnknownRequest
from datastore.files import canonical_json
from datastore.hosts import HostFacts
from datastore.optout import opt_out, receipt_in
from datastore.ownership import Binding, Challenge, KeyProof, Method, Possession, Proof
from datastore.rationing import STANDARD, Quota, check_share, spend
from datastore.request_states import DECISIONS, Request, State, check_step
from datastore.request_tables import requests as table
from datastore.store import Datastore
from datastore.tables import ERASED, HIDDEN, LIVE

LIFETIME = timedelta(days=7)
"""Of a challenge: time for a change of DNS."""
MAX_KEY_CHARACTERS = 512


def open_request(store: Datastore, document: str, *, key: str, now: datetime) -> Request:
    """A new request for ``document``, or the one that the idempotency ``key`` has opened.

    Whoever serves several clients puts the client's name into ``key``; only its hash is kept.

    Raises:
        UnknownDocument: no document of that id was ever in the store.
        RequestConflict: the key opened a request for another document, or is empty or too long.
    """
    store.document(document)
    if not 0 < len(key) <= MAX_KEY_CHARACTERS:
        raise RequestConflict(f"an idempotency key has 1 to {MAX_KEY_CHARACTERS} characters; got {len(key)}")
    key_hash, body_hash = _hash(key), _hash(document)
    with store.catalog.note() as connection:
        known = connection.execute(select(table).where(table.c.key_hash == key_hash)).mappings().first()
        if known is None:
            id_ = secrets.token_hex(16)
            blank = dict.fromkeys(("method", "challenge_hash", "challenge_expires_at", "accepted_at", "note"), "")
            times = dict.fromkeys(("received_at", "changed_at"), _iso(now))
            facts = {"id": id_, "document": document, "key_hash": key_hash, "body_hash": body_hash}
            connection.execute(table.insert().values(**facts, **blank, **times, state=State.RECEIVED.value))
        elif known["body_hash"] != body_hash:
            raise RequestConflict("this idempotency key opened a request for another document. Use a new key.")
        else:
            id_ = known["id"]
    return request(store, id_)


def challenge(
    store: Datastore,
    id: str,  # noqa: A002
    method: Method,
    *,
    now: datetime,
    lifetime: timedelta = LIFETIME,
) -> Challenge:
    """What the requester is to do to show ownership by ``method``. A new challenge ends the one before.

    Raises:
        UnknownRequest: there is none of that id.
        RequestConflict: the request is past being challenged.
        ProofRefused: the document names no key, or no host that may be asked.
    """
    token = secrets.token_hex(32)
    with store.catalog.note() as connection:
        row = _row(connection, id)
        check_step(State(row["state"]), State.CHALLENGED)
        made = Challenge(_binding(store, connection, row, method, _iso(now + lifetime)), token)
        kept = {"challenge_hash": ownership.token_hash(token), "challenge_expires_at": made.binding.expires_at}
        _step(connection, row, State.CHALLENGED, now, method=method.value, **kept)
    return made


def prove(
    store: Datastore,
    id: str,  # noqa: A002
    proof: Proof,
    *,
    now: datetime,
    hosts: HostFacts | None = None,
    requester: str = "",
    quota: Quota = STANDARD,
) -> Request:
    """Show ownership: the request is VERIFIED, or for possession PROVISIONAL and the document hidden.

    ``requester``, an account or an address, is needed for possession, and is counted and not kept.

    Raises:
        UnknownRequest, RequestConflict: as ``challenge``; and for possession, where the document is out already.
        ProofRefused: the proof does not show it, or its challenge has expired, is used, or was for another method.
        QuotaExceeded: too much is hidden on possession alone; nothing else is wrong with the proof.
    """
    if isinstance(proof, Possession):
        return _hide(store, id, proof, requester, quota, now)
    with store.catalog.read() as connection:
        row = _row(connection, id)
        check_step(State(row["state"]), State.VERIFIED)
        wanted = (Method.KEY,) if isinstance(proof, KeyProof) else (Method.DNS, Method.FILE)
        if row["method"] not in wanted:
            raise ProofRefused(f"the running challenge is by {row['method']}; this proof answers {' or '.join(wanted)}")
        ownership.check_token(proof.token, row["challenge_hash"], row["challenge_expires_at"], now=now)
        binding = _binding(store, connection, row, Method(row["method"]), row["challenge_expires_at"])
    answered = Challenge(binding, proof.token)
    if isinstance(proof, KeyProof):
        ownership.check_signed(answered, proof)
    elif hosts is None:
        raise ProofRefused("this store has no way to ask a host. Use the submitter's key, or ask the operator.")
    else:
        ownership.check_host_shows(answered, hosts)
    with store.catalog.note() as connection:  # asking a host took time: the challenge may be used or replaced by now
        row = _row(connection, id)
        ownership.check_token(proof.token, row["challenge_hash"], row["challenge_expires_at"], now=now)
        _step(connection, row, State.VERIFIED, now)
    return request(store, id)


def decide(store: Datastore, id: str, decision: State, *, now: datetime, note: str = "") -> Request:  # noqa: A002
    """Accept, reject or dispute a request. When this returns an acceptance, the document is out for good.

    Accepting again returns the same. ``opt_out`` gives the receipt at any time.

    Raises:
        UnknownRequest, RequestConflict: as ``challenge``; or the decision was made already, and was another.
    """
    if decision not in DECISIONS:
        raise RequestConflict(f"a reviewer decides {', '.join(DECISIONS)}; got {decision}")
    if decision is State.ACCEPTED:
        with store.catalog.note() as connection:
            row = _row(connection, id)
            if not row["accepted_at"]:
                check_step(State(row["state"]), State.ACCEPTED)
                _write(connection, row, now, accepted_at=_iso(now), note=note)
        opt_out(store, row["document"], now=now)
    elif decision is State.REJECTED and request(store, id).state is State.PROVISIONAL:
        with store.catalog.change() as connection:
            row = _row(connection, id)
            _step(connection, row, State.REJECTED, now, note=note)
            others = select(table.c.id).where(table.c.document == row["document"], table.c.state == State.PROVISIONAL)
            if connection.execute(others).first() is None:
                hiding.release(connection, row["document"])
    else:
        with store.catalog.note() as connection:
            row = _row(connection, id)
            if row["state"] == State.PROVISIONAL and decision is State.REJECTED:
                raise RequestConflict(f"request {id} was just made provisional. Look at it, and decide again.")
            _step(connection, row, decision, now, note=note)
    return request(store, id)


def resume(store: Datastore, *, now: datetime) -> list[Request]:
    """Carry out acceptances that a crash came between; a server calls it when it starts. Those that it put in force."""
    with store.catalog.read() as connection:
        decided = connection.execute(select(table).where(table.c.accepted_at != "")).mappings().all()
        waiting = [row for row in decided if not _is_out(connection, row["document"])]
    return [decide(store, row["id"], State.ACCEPTED, now=now, note=row["note"]) for row in waiting]


def request(store: Datastore, id: str, has_backups: Callable[[str], bool] | None = None) -> Request:  # noqa: A002
    """The request ``id`` as it stands; ``has_backups`` says of a document whether a backup of it can still be read.

    Raises UnknownRequest. Without ``has_backups`` the store's keys files are asked (``backup_keys``).
    """
    with store.catalog.read() as connection:
        return _shown(connection, _row(connection, id), has_backups or backup_keys.can_read(store.path, store.id))


def requests(
    store: Datastore, state: State | None = None, has_backups: Callable[[str], bool] | None = None
) -> list[Request]:
    """All requests in the order they came, or those in one ``state``; as ``request``."""
    with store.catalog.read() as connection:
        rows = connection.execute(select(table).order_by(table.c.number)).mappings().all()
        ask = has_backups or backup_keys.can_read(store.path, store.id)
        found = [_shown(connection, row, ask) for row in rows]
    return [one for one in found if state is None or one.state is state]


def _hide(
    store: Datastore,
    id: str,  # noqa: A002
    proof: Possession,
    requester: str,
    quota: Quota,
    now: datetime,
) -> Request:
    with store.catalog.read() as connection:
        row = _row(connection, id)
        _check_may_hide(connection, row)
    with store.catalog.note() as connection:
        spend(connection, requester, quota, now)
    stored = store.stored_text(row["document"])
    if stored is None:
        raise RequestConflict(f"document {row['document']!r} is out already; nothing is left to hide")
    ownership.check_possession(proof, stored)
    with store.catalog.change() as connection:
        row = _row(connection, id)
        if _check_may_hide(connection, row) == LIVE:
            check_share(connection, row["document"], quota)
        _step(connection, row, State.PROVISIONAL, now, method=Method.POSSESSION.value)
        hiding.hide(connection, row["document"])
    return request(store, id)


def _check_may_hide(connection: Connection, row: RowMapping) -> str:
    """The document's state. Raises RequestConflict where the request or the document is past being hidden."""
    check_step(State(row["state"]), State.PROVISIONAL)
    d, t = tables.documents.c, table.c
    state: str = connection.execute(select(d.state).where(d.id == row["document"])).scalar_one()
    if state not in (LIVE, HIDDEN):
        raise RequestConflict(f"document {row['document']!r} is out already; nothing is left to hide")
    given_back = t.state.in_((State.REJECTED, State.DISPUTED))  # disputed: the rejection was appealed
    same = (t.document == row["document"]) & given_back & (t.method == Method.POSSESSION)
    if connection.execute(select(t.id).where(same).limit(1)).first():
        raise RequestConflict(
            "a reviewer gave this document back after it was hidden on possession of its text, which cannot hide it "
            "again. Prove ownership by key or host."
        )
    return state


def _step(connection: Connection, row: RowMapping, then: State, now: datetime, **values: str) -> None:
    """Take the request in ``row`` to ``then``. Raises RequestConflict. A challenge ends with any step but its own."""
    check_step(State(row["state"]), then)
    if row["accepted_at"]:
        raise RequestConflict(f"request {row['id']} was accepted at {row['accepted_at']}; there is no way back")
    ended = dict.fromkeys(("challenge_hash", "challenge_expires_at"), "")
    _write(connection, row, now, **ended | values, state=then.value)


def _write(connection: Connection, row: RowMapping, now: datetime, **values: str) -> None:
    here = table.c.number == row["number"]
    connection.execute(update(table).where(here).values(**values, changed_at=_iso(now)))


def _row(connection: Connection, id: str) -> RowMapping:  # noqa: A002
    row = connection.execute(select(table).where(table.c.id == id)).mappings().first()
    if row is None:
        raise UnknownRequest(f"no opt-out request {id!r:.80}; `silo datastore requests STORE` lists them")
    return row


def _binding(store: Datastore, connection: Connection, row: RowMapping, method: Method, expires_at: str) -> Binding:
    d = tables.documents
    facts = catalog_rows.facts_of(connection.execute(select(d).where(d.c.id == row["document"])).mappings().one())
    holder = ownership.holder_of(facts, method)
    return Binding(store.id, row["id"], row["document"], method.value, holder, expires_at)


def _shown(connection: Connection, row: RowMapping, has_backups: Callable[[str], bool]) -> Request:
    """The request in ``row``, with what follows from the document's own state."""
    state = State(row["state"])
    if row["accepted_at"] and _is_out(connection, row["document"]):
        state = State.ACCEPTED
        d = tables.documents.c
        if connection.execute(select(d.state).where(d.id == row["document"])).scalar_one() == ERASED:
            state = State.ERASED_LIVE if has_backups(row["document"]) else State.ERASED_BACKUPS
    same: dict[str, Any] = {
        name: row[name] for name in ("id", "document", "method", "received_at", "changed_at", "accepted_at", "note")
    }
    return Request(state=state, **same)


def _is_out(connection: Connection, document: str) -> bool:
    """Whether an opt-out of ``document``, as a whole, is in force, by catalog or journal."""
    return receipt_in(connection, document) is not None


def _hash(text: str) -> str:
    return hashlib.sha256(canonical_json(text)).hexdigest()


def _iso(now: datetime) -> str:
    if now.tzinfo is None:
        raise ValueError(f"a time without a zone cannot be compared; got {now.isoformat()}")
    return now.astimezone(UTC).isoformat()
