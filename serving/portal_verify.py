"""``/verify``: check a receipt against this store, with the verifier that everybody has.

A receipt is checked twice: by itself (signature, commitment, place in the log), which needs no store, and against the
store as it is now. What a page of the very store says about itself is worth what the store is: the page says how to
check the same on a machine of one's own.
"""

from dataclasses import dataclass, field

from flask import Blueprint, Response
from werkzeug.exceptions import BadRequest

from datastore.errors import UnknownDocument, VerificationFailed
from datastore.receipts import Receipt, check_receipt, parse_receipt
from datastore.store import Datastore
from datastore.verification import verify
from serving.pages import page
from serving.portal import Portal, portal_blueprint
from serving.portal_forms import check_form, text_of

MAX_CHARACTERS = 200_000


@dataclass(frozen=True)
class Verdict:
    """What became of checking a receipt."""

    receipt: Receipt | None
    """None where the bytes are no receipt."""
    found: tuple[str, ...] = field(default=())
    """What holds, in words."""
    fault: str = ""
    """What does not; empty where all of it holds."""


def blueprint(portal: Portal) -> Blueprint:
    """The page, on the store of ``portal``."""
    routes = portal_blueprint("verify")

    @routes.get("/verify")
    def ask() -> Response:
        return _page(None, "")

    @routes.post("/verify")
    def check() -> Response:
        check_form()
        text = text_of("receipt", "file", MAX_CHARACTERS)
        if not text.strip():
            raise BadRequest("upload a receipt, or paste it")
        verdict = judge(portal.store, text)
        return _page(verdict, text, 422 if verdict.fault else 200)

    def _page(verdict: Verdict | None, text: str, status: int = 200) -> Response:
        return page("portal/verify.html", status, verdict=verdict, text=text, store=portal.store.id)

    return routes


def judge(store: Datastore, text: str) -> Verdict:
    """Check the receipt in ``text``, by itself and then against ``store``."""
    try:
        receipt = parse_receipt(text.encode("utf-8", "surrogatepass"))
    except (VerificationFailed, RecursionError) as error:
        return Verdict(None, fault=str(error) or "this is no receipt")
    try:
        check_receipt(receipt)
    except VerificationFailed as error:
        return Verdict(receipt, fault=str(error))
    found = ["by itself: signature, commitment and place in the log hold"]
    try:
        return Verdict(receipt, (*found, *verify(store, receipt)))
    except UnknownDocument:
        return Verdict(receipt, tuple(found), "this store never had a document of that id")
    except VerificationFailed as error:
        return Verdict(receipt, tuple(found), str(error))
