"""``/review``: provisional and disputed requests, for a reviewer to decide. Only there where a token opens it.

The token is shown once and compared in constant time; from then on a cookie with a time of expiry, signed with a key
made of the token, stands for it. Nothing is stored: a new token ends every session. What is decided, and why, stays
with the request.
"""

import hashlib
import hmac
import time
from pathlib import Path

from flask import Blueprint, Response, redirect, request, url_for
from werkzeug.exceptions import BadRequest, Forbidden, NotFound

from datastore import requests as asked
from datastore.errors import RequestConflict, UnknownRequest
from datastore.request_states import Request, State
from datastore.store import Datastore
from serving.errors import BadReviewerToken
from serving.pages import page
from serving.portal import Portal, portal_blueprint
from serving.portal_forms import check_form, cookie_name, field, set_cookie

COOKIE = "silo-reviewer"
LIFETIME_S = 8 * 3600
MIN_TOKEN_CHARACTERS = 32
OPEN = (State.PROVISIONAL, State.DISPUTED)
MAX_NOTE_CHARACTERS = 2000


def read_token(path: Path) -> str:
    """The reviewer's token in the file ``path``. Raises BadReviewerToken where it is short or not to be read."""
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadReviewerToken(f"the reviewer's token cannot be read from {path}: {error}") from None
    if len(token) < MIN_TOKEN_CHARACTERS:
        raise BadReviewerToken(
            f"a reviewer's token has at least {MIN_TOKEN_CHARACTERS} characters; {path} has {len(token)}. "
            "Make one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'"
        )
    return token


def blueprint(portal: Portal, token: str) -> Blueprint:
    """The pages, on the store of ``portal``, for whoever has ``token``."""
    routes = portal_blueprint("review")
    store = portal.store

    @routes.get("/review")
    def index() -> Response:
        if not _is_signed_in(token):
            return page("portal/sign_in.html", fault="")
        waiting = [one for state in OPEN for one in asked.requests(store, state)]
        return page("portal/review.html", waiting=[(one, store.document(one.document)) for one in waiting])

    @routes.post("/review/sign-in")
    def sign_in() -> Response:
        check_form()
        if not hmac.compare_digest(field("token").encode("utf-8", "surrogatepass"), token.encode()):
            return page("portal/sign_in.html", 403, fault="This is not the reviewer's token.")
        response = _to("review.index")
        set_cookie(response, COOKIE, session(token, int(time.time()) + LIFETIME_S), same_site="Strict")
        return response

    @routes.post("/review/sign-out")
    def sign_out() -> Response:
        check_form()
        response = _to("review.index")
        set_cookie(response, COOKIE, "", same_site="Strict", max_age=0)
        return response

    @routes.get("/review/<id>")
    def show(id: str) -> Response:  # noqa: A002
        if not _is_signed_in(token):
            return _to("review.index")
        return _case(store, _found(store, id))

    @routes.post("/review/<id>")
    def decide(id: str) -> Response:  # noqa: A002
        check_form()
        if not _is_signed_in(token):
            raise Forbidden("your session as a reviewer has ended; sign in again")
        known = _found(store, id)
        note = field("note", MAX_NOTE_CHARACTERS)
        try:
            decision = State(field("decision"))
        except ValueError:
            raise BadRequest("decide accepted or rejected") from None
        if decision not in (State.ACCEPTED, State.REJECTED):
            raise BadRequest("decide accepted or rejected")
        if known.state not in OPEN:
            return _case(store, known, fault=f"This request is {known.state.value} by now.")
        if not note:
            return _case(store, known, fault="Say why: the requester and your colleagues will read it.")
        try:
            asked.decide(store, known.id, decision, now=portal.now(), note=note)
        except RequestConflict as error:
            return _case(store, _found(store, id), fault=str(error))
        return _to("review.index")

    return routes


def session(token: str, expires: int) -> str:
    """The cookie of a session that ends at ``expires``, in seconds since 1970."""
    key = hashlib.sha256(b"a reviewer's session\0" + token.encode()).digest()
    return f"{expires}.{hmac.new(key, str(expires).encode(), hashlib.sha256).hexdigest()}"


def is_session(token: str, cookie: str, *, now: float) -> bool:
    """Whether ``cookie`` was made with ``token`` and has not ended ``now``."""
    expires, _, _ = cookie.partition(".")
    if not (expires.isascii() and expires.isdecimal() and len(expires) < 12):
        return False
    expected = session(token, int(expires))
    return hmac.compare_digest(cookie.encode("utf-8", "surrogatepass"), expected.encode()) and now < int(expires)


def _is_signed_in(token: str) -> bool:
    return is_session(token, request.cookies.get(cookie_name(COOKIE), ""), now=time.time())


def _found(store: Datastore, id: str) -> Request:  # noqa: A002
    try:
        return asked.request(store, id)
    except UnknownRequest:
        raise NotFound("there is no such request") from None


def _case(store: Datastore, known: Request, fault: str = "") -> Response:
    others = [one for one in asked.requests(store) if one.document == known.document and one.id != known.id]
    text = store.stored_text(known.document) if known.state in OPEN else None
    return page(
        "portal/case.html",
        409 if fault else 200,
        claim=known,
        document=store.document(known.document),
        others=others,
        excerpt=(text or "")[:1500],
        is_open=known.state in OPEN,
        fault=fault,
    )


def _to(endpoint: str) -> Response:
    return redirect(url_for(endpoint), 303)  # type: ignore[return-value]
