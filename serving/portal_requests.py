"""``/owners/requests``: ask, show that the text is yours, follow what becomes of it, take the receipt along, appeal.

The link of a request has 128 random bits and is all that anybody needs to act for it: there are no accounts, and an
unknown link answers like one that never was. A proof by key or host puts the opt-out in force at once, unless another
proven request for the document is open or was turned down: then a reviewer decides between them, and so it is with an
appeal. The challenge's token is in the link to its page, since the store keeps only its hash; it is worth nothing to
anyone who cannot answer it.
"""

import hashlib
import json
import secrets
from collections.abc import Mapping
from datetime import datetime

from flask import Blueprint, Response, make_response, redirect, request, url_for
from werkzeug.exceptions import BadRequest, NotFound

from datastore import ownership
from datastore import requests as asked
from datastore.errors import (
    DatastoreError,
    ProofRefused,
    QuotaExceeded,
    RequestConflict,
    UnknownDocument,
    UnknownRequest,
)
from datastore.optout import given_receipt
from datastore.ownership import Binding, Challenge, HostProof, KeyProof, Method, Possession, Proof
from datastore.receipts import Receipt
from datastore.request_states import Request, State
from datastore.store import Datastore
from serving.pages import page
from serving.portal import Portal, portal_blueprint
from serving.portal_forms import check_form, field, text_of
from serving.portal_lookup import MAX_CHARACTERS

IN_FORCE = (State.ACCEPTED, State.ERASED_LIVE, State.ERASED_BACKUPS)
HOST_METHODS = (Method.DNS, Method.FILE)
MAX_WORDS_CHARACTERS = 2000
"""Of what a requester tells a reviewer."""


def blueprint(portal: Portal) -> Blueprint:
    """The pages, on the store of ``portal``."""
    routes = portal_blueprint("requests")
    store = portal.store

    @routes.post("/owners/requests")
    def open_() -> Response:
        check_form()
        # The page brings a key of its own, so that sending a form of it twice opens one request.
        document = field("document")
        key = hashlib.sha256(f"{field('once') or secrets.token_hex(32)} {document}".encode()).hexdigest()
        try:
            opened = asked.open_request(store, document, key=f"portal {key}", now=portal.now())
        except UnknownDocument:
            raise NotFound("no document of this id was ever here") from None
        return _to_page(opened.id)

    @routes.get("/owners/requests/<id>")
    def show(id: str) -> Response:  # noqa: A002
        return _page_of(portal, _found(store, id))

    @routes.post("/owners/requests/<id>/challenge")
    def challenge(id: str) -> Response:  # noqa: A002
        check_form()
        known = _found(store, id)
        try:
            method = Method(field("method"))
            made = asked.challenge(store, known.id, method, now=portal.now())
        except ValueError:
            raise BadRequest("choose how to show that the text is yours: key, dns or file") from None
        except (ProofRefused, RequestConflict) as error:
            return _page_of(portal, known, fault=error)
        link = url_for("requests.answer", id=known.id, token=made.token, until=made.binding.expires_at)
        return redirect(link, 303)  # type: ignore[return-value]

    @routes.get("/owners/requests/<id>/challenge")
    def answer(id: str) -> Response:  # noqa: A002
        known = _found(store, id)
        if known.state is not State.CHALLENGED:
            return _to_page(known.id)
        return _challenge_page(store, known, request.args)

    @routes.post("/owners/requests/<id>/proof")
    def prove(id: str) -> Response:  # noqa: A002
        check_form()
        known = _found(store, id)
        proof = _proof()
        try:
            who = request.remote_addr or "unknown"
            now = portal.now()
            asked.prove(store, known.id, proof, now=now, hosts=portal.hosts, requester=who, quota=portal.quota)
        except (ProofRefused, QuotaExceeded, RequestConflict) as error:
            if isinstance(proof, Possession):
                return _page_of(portal, known, fault=error)
            return _challenge_page(store, known, request.form, fault=error)
        settle(store, known.id, now=portal.now(), words=field("words", MAX_WORDS_CHARACTERS))
        return _to_page(known.id)

    @routes.post("/owners/requests/<id>/settle")
    def settle_again(id: str) -> Response:  # noqa: A002
        """For a proven request that a crash kept from its decision."""
        check_form()
        known = _found(store, id)
        settle(store, known.id, now=portal.now(), words=field("words", MAX_WORDS_CHARACTERS))
        return _to_page(known.id)

    @routes.post("/owners/requests/<id>/appeal")
    def appeal(id: str) -> Response:  # noqa: A002
        check_form()
        known = _found(store, id)
        words = field("words", MAX_WORDS_CHARACTERS)
        if known.state is not State.REJECTED:
            return _page_of(portal, known, fault=RequestConflict("only a rejected request can be appealed"))
        if not words:
            return _page_of(portal, known, fault=RequestConflict("an appeal needs your reasons, in your own words"))
        note = f"The requester appeals: {words}"
        if known.note:
            note = f"{known.note}\n{note}"
        asked.decide(store, known.id, State.DISPUTED, now=portal.now(), note=note)
        return _to_page(known.id)

    @routes.get("/owners/requests/<id>/receipt.json")
    def receipt(id: str) -> Response:  # noqa: A002
        given = receipt_of(store, _found(store, id))
        if given is None:
            raise NotFound("there is no receipt yet: it is given once the opt-out is in force")
        return download(given.to_json(), f"silo-receipt-{given.leaf_index}.json")

    return routes


def settle(store: Datastore, id: str, *, now: datetime, words: str = "") -> Request:  # noqa: A002
    """Put a proven request in force, or before a reviewer where another claim is in its way; others stay."""
    known = asked.request(store, id)
    if known.state is not State.VERIFIED:
        return known
    if not is_contested(store, known):
        return asked.decide(store, id, State.ACCEPTED, now=now)
    note = "Another proven request for this document is open or was turned down."
    if words:
        note = f"{note}\nThe requester says: {words}"
    return asked.decide(store, id, State.DISPUTED, now=now, note=note)


def is_contested(store: Datastore, known: Request) -> bool:
    """Whether another request for the same document, proven by more than its text, waits or was rejected."""
    rivals = (State.VERIFIED, State.DISPUTED, State.REJECTED)
    return any(
        one.document == known.document and one.id != known.id and one.method not in ("", Method.POSSESSION)
        for state in rivals
        for one in asked.requests(store, state)
    )


def receipt_of(store: Datastore, known: Request) -> Receipt | None:
    """The receipt that belongs to a request: given only where this request was accepted."""
    return given_receipt(store, known.document) if known.state in IN_FORCE else None


def offered(portal: Portal, document: str) -> dict[str, str]:
    """The ways to show ownership of a document that can be tried: each with the key or host that it is about."""
    facts = portal.store.document(document).facts
    found = {}
    for method in (Method.KEY, *(HOST_METHODS if portal.hosts is not None else ())):
        try:
            found[method.value] = ownership.holder_of(facts, method)
        except ProofRefused:
            continue
    return found


def download(value: object, name: str) -> Response:
    """A JSON object as a file to keep."""
    response = make_response(f"{json.dumps(value, indent=2, ensure_ascii=False)}\n")
    response.mimetype = "application/json"
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


def _found(store: Datastore, id: str) -> Request:  # noqa: A002
    try:
        return asked.request(store, id)
    except UnknownRequest:
        raise NotFound("there is no request at this link; check that it was copied whole") from None


def _page_of(portal: Portal, known: Request, fault: DatastoreError | None = None) -> Response:
    """The page of a request as it stands; ``fault`` is why the last step was not taken."""
    store = portal.store
    return page(
        "portal/request.html",
        200 if fault is None else _status(fault),
        claim=known,
        document=store.document(known.document),
        is_out=given_receipt(store, known.document) is not None,
        receipt=receipt_of(store, known),
        offered=offered(portal, known.document),
        is_contested=known.state is State.VERIFIED and is_contested(store, known),
        fault="" if fault is None else str(fault),
    )


def _challenge_page(
    store: Datastore, known: Request, told: Mapping[str, str], fault: DatastoreError | None = None
) -> Response:
    """The page of a running challenge, made again from what its link says."""
    token, until = told.get("token", ""), told.get("until", "")
    try:
        holder = ownership.holder_of(store.document(known.document).facts, Method(known.method))
        binding = Binding(store.id, known.id, known.document, known.method, holder, until)
        place = (made := Challenge(binding, token)).place
    except (ProofRefused, ValueError):
        raise BadRequest("this is no whole link to a challenge; open the request's page and choose again") from None
    return page(
        "portal/challenge.html",
        200 if fault is None else _status(fault),
        claim=known,
        document=store.document(known.document),
        challenge=made,
        place=place,
        message=made.message.decode("utf-8"),
        record=f"{ownership.TXT_VALUE}{made.content}",
        is_contested=is_contested(store, known),
        fault="" if fault is None else str(fault),
    )


def _proof() -> Proof:
    """What the form brings as a proof."""
    match field("method"):
        case "key":
            return KeyProof(field("token"), "".join(field("signature").split()).lower())
        case "dns" | "file":
            return HostProof(field("token"))
        case "possession":
            return Possession(text_of("text", "upload", MAX_CHARACTERS))
        case other:
            raise BadRequest(f"a proof is by key, dns, file or possession; got {other!r:.40}")


def _status(fault: DatastoreError) -> int:
    match fault:
        case QuotaExceeded():
            return 429
        case RequestConflict():
            return 409
        case _:
            return 422


def _to_page(id: str) -> Response:  # noqa: A002
    """Send the browser to the page of a request, by GET."""
    return redirect(url_for("requests.show", id=id), 303)  # type: ignore[return-value]
