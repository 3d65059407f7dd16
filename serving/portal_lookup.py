"""``/owners``: is my text in it? By the text itself, or by the first digits of its SHA-256.

The text is compared and let go: it is neither stored nor logged. Whoever does not want to send it sends the first 4
to 16 hex digits of its hash and gets the hashes that begin so, as in Troy Hunt's k-anonymity for passwords: which of
them is the own one, if any, only the asker can tell. By hash a text is found as a whole alone, up to composed accents
and line ends. What is shown of a document is what ``/v1/documents`` shows, never its text.
"""

import re
import secrets
from dataclasses import dataclass

from flask import Blueprint, Response, jsonify, request
from sqlalchemy import select
from werkzeug.exceptions import BadRequest, NotFound

from datastore import tables
from datastore.copies import Copy, find_copies
from datastore.errors import UnknownDocument
from datastore.fingerprints import SHINGLE, words
from datastore.records import StoredDocument
from datastore.store import Datastore
from datastore.tables import ERASED, REMOVED
from serving.errors import Busy
from serving.pages import page
from serving.portal import Portal, portal_blueprint
from serving.portal_forms import check_form, text_of
from silo.documents import text_digest

MAX_CHARACTERS = 500_000
MAX_SHOWN = 50
_PREFIX = re.compile(r"[0-9a-f]{4,16}")


@dataclass(frozen=True)
class Match:
    """A document of the store and what it has to do with a text."""

    document: StoredDocument
    is_same: bool
    """The very text, up to composed accents and line ends."""
    containment: float
    """From 0 to 1; how much of one is in the other, the larger of both ways."""


def blueprint(portal: Portal) -> Blueprint:
    """The pages, on the store of ``portal``."""
    routes = portal_blueprint("lookup")

    @routes.get("/owners")
    def ask() -> Response:
        return page("portal/lookup.html", text="", prefix="", fault="")

    @routes.post("/owners")
    def by_text() -> Response:
        check_form()
        text = text_of("text", "file", MAX_CHARACTERS)
        if not words(text):
            fault = "Paste or upload a text with at least one word."
            return page("portal/lookup.html", 422, text=text, prefix="", fault=fault)
        if not portal.lookups.acquire(blocking=False):
            raise Busy("other texts are being looked up; try again in a second")
        try:
            found = matches(portal.store, text)
        finally:
            portal.lookups.release()
        is_short = len(words(text)) < SHINGLE
        return page(
            "portal/found.html",
            found=found[:MAX_SHOWN],
            n_found=len(found),
            text=text,
            is_short=is_short,
            once=secrets.token_hex(32),
        )

    @routes.get("/owners/digests")
    def by_prefix() -> Response:
        prefix = _prefix(request.args.get("prefix", ""))
        return page("portal/digests.html", prefix=prefix, found=with_digest(portal.store, prefix))

    @routes.get("/owners/digests.json")
    def digests() -> Response:
        prefix = _prefix(request.args.get("prefix", ""))
        found = [
            {"digest": one.facts.digest, "document": one.facts.id, "state": one.state}
            for one in with_digest(portal.store, prefix)
        ]
        return jsonify({"prefix": prefix, "digests": found})

    @routes.get("/owners/document")
    def show() -> Response:
        id_ = request.args.get("id", "")
        try:
            return page("portal/document.html", document=portal.store.document(id_), once=secrets.token_hex(32))
        except UnknownDocument:
            raise NotFound("no document of this id was ever here") from None

    return routes


def matches(store: Datastore, text: str) -> list[Match]:
    """The documents that hold some of ``text``, the very text first; of those that left, the very text alone."""
    digest = text_digest(text)
    same = {one.facts.id: one for one in with_digest(store, digest)}
    copies = {copy.document: copy for copy in find_copies(store, text)}
    others = [Match(store.document(id_), False, copy.containment) for id_, copy in copies.items() if id_ not in same]
    exact = [Match(one, True, _share(copies.get(id_))) for id_, one in same.items()]
    return exact + [match for match in others if match.document.state not in (REMOVED, ERASED)]


def with_digest(store: Datastore, prefix: str) -> list[StoredDocument]:
    """The documents, of any state, whose digest begins with ``prefix``, in the order of ingestion."""
    d = tables.documents.c
    after = f"{int(prefix, 16) + 1:0{len(prefix)}x}"
    found = select(d.id).where(d.digest >= prefix)
    if len(after) == len(prefix):
        found = found.where(d.digest < after)
    with store.catalog.read() as connection:
        ids = list(connection.execute(found.order_by(d.number)).scalars())
    return [store.document(id_) for id_ in ids]


def _share(copy: Copy | None) -> float:
    return 1.0 if copy is None else copy.containment


def _prefix(given: str) -> str:
    prefix = given.strip().lower()
    if not _PREFIX.fullmatch(prefix):
        raise BadRequest(f"a prefix is 4 to 16 hex digits of the text's SHA-256; got {given!r:.40}")
    return prefix
