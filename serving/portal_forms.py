"""Forms of the portal: that a form was sent from a page of ours, and what was typed or uploaded into it.

A form is taken only where the browser does not say that another site sent it (``Origin``, ``Sec-Fetch-Site``) *and*
its token fits the cookie that came with the page. Cookie and token are made of one secret that the browser alone keeps:
nothing is stored here, and any worker can check what another one gave.
"""

import hashlib
import hmac
import secrets
from urllib.parse import urlsplit

from flask import Response, g, request
from werkzeug.exceptions import BadRequest, Forbidden, RequestEntityTooLarge

from serving.bodies import MAX_BODY_BYTES

COOKIE = "silo-form"
TOKEN = "form_token"
MAX_FIELD_CHARACTERS = 4096


def form_token() -> str:
    """For the hidden field of every form that is posted; ``keep_secret`` sends the cookie that it fits."""
    if "form_secret" not in g:
        g.form_secret = request.cookies.get(cookie_name(COOKIE)) or secrets.token_hex(32)
    return _token(g.form_secret)


def keep_secret(response: Response) -> Response:
    """Send the cookie along with a page that has a form."""
    if "form_secret" in g:
        set_cookie(response, COOKIE, g.form_secret, same_site="Lax")
    return response


def check_form() -> None:
    """Raise Forbidden unless the posted form is one of ours. Reads large fields, too, into memory."""
    request.max_form_memory_size = MAX_BODY_BYTES
    origin = request.headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc != request.host:
        raise Forbidden(f"this form was sent from {origin:.100}, not from a page of this server; open the page here")
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        raise Forbidden("this form was sent from another site; open the page here and send it again")
    secret = request.cookies.get(cookie_name(COOKIE), "")
    sent = request.form.get(TOKEN, "")
    if not secret or not hmac.compare_digest(sent.encode("utf-8", "surrogatepass"), _token(secret).encode()):
        raise Forbidden(
            "this form's cookie is missing or out of date; allow cookies, reload the page and send it again"
        )


def field(name: str, limit: int = MAX_FIELD_CHARACTERS) -> str:
    """What was typed into ``name``, without spaces around it. Raises BadRequest where that is too long."""
    text = request.form.get(name, "").strip()
    if len(text) > limit:
        raise BadRequest(f"{name} may have {limit} characters; got {len(text)}")
    return text


def text_of(field_name: str, file_name: str, limit: int) -> str:
    """The text that was uploaded as ``file_name``, else what was pasted into ``field_name``; empty where neither was.

    Line ends as ``\\n``: browsers send what is pasted with others. Raises BadRequest where it is no UTF-8, and
    RequestEntityTooLarge above ``limit`` characters.
    """
    upload = request.files.get(file_name)
    if upload is not None and upload.filename:
        try:
            text = upload.stream.read().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise BadRequest(f"the file must be plain text in UTF-8; its byte {error.start} is not") from None
    else:
        text = request.form.get(field_name, "")
    if len(text) > limit:
        raise RequestEntityTooLarge(f"a text may have {limit:,} characters here; got {len(text):,}. Send a part of it.")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def cookie_name(name: str) -> str:
    """Over TLS with the prefix that keeps other hosts of the domain from setting it."""
    return f"__Host-{name}" if request.is_secure else name


def set_cookie(response: Response, name: str, value: str, *, same_site: str, max_age: int | None = None) -> None:
    """A cookie that no script reads; without ``max_age`` it ends with the browser."""
    response.set_cookie(
        cookie_name(name),
        value,
        max_age=max_age,
        secure=request.is_secure,
        httponly=True,
        samesite=same_site,
    )


def _token(secret: str) -> str:
    return hmac.new(secret.encode("utf-8", "surrogatepass"), b"a form of this server", hashlib.sha256).hexdigest()
