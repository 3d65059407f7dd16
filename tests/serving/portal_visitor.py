"""A visitor of the portal without scripts: reads pages, fills in their forms, follows where they lead."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from html.parser import HTMLParser
from io import BytesIO

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from flask import Flask
from werkzeug.test import TestResponse

from datastore.hosts import Fetched, file_path, txt_name
from datastore.ownership import SUBMITTER_KEY
from datastore.records import EncodedDocument
from datastore.signing import public_hex

OWNER = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
HOST = "press.example.org"
TOKEN = "a-reviewer-token-of-a-length-that-nobody-guesses"


def owned(document: EncodedDocument, **facts: object) -> EncodedDocument:
    """A document that can be claimed by key and by host."""
    told = {"url": f"https://{HOST}/a", "metadata": {SUBMITTER_KEY: public_hex(OWNER)}, "title": "A title"}
    return replace(document, facts=replace(document.facts, **told | facts))


@dataclass
class Form:
    action: str
    method: str
    values: dict[str, str] = field(default_factory=dict)


class _Forms(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.links: list[str] = []

    def handle_starttag(self, tag, attrs) -> None:
        at = dict(attrs)
        if tag == "form":
            self.forms.append(Form(at.get("action", ""), at.get("method", "get")))
        elif tag == "input" and at.get("type") == "hidden" and at.get("name"):
            self.forms[-1].values[at["name"]] = at.get("value", "")
        elif tag == "a" and "href" in at:
            self.links.append(at["href"])


def forms_of(page: str) -> list[Form]:
    parser = _Forms()
    parser.feed(page)
    return parser.forms


def links_of(page: str) -> list[str]:
    parser = _Forms()
    parser.feed(page)
    return parser.links


class Visitor:
    """One browser with its cookies."""

    def __init__(self, app: Flask) -> None:
        self.web = app.test_client()
        self.at = ""
        self.page = ""
        self.status = 0

    def go(self, path: str) -> str:
        return self._see(self.web.get(path, follow_redirects=True))

    def submit(self, action: str, *, which: Callable[[Form], bool] = lambda form: True, **values: object) -> str:
        """Send the form of the page whose action ends with ``action``, with ``values`` typed into it."""
        form = next(f for f in forms_of(self.page) if f.action.endswith(action) and which(f))
        typed = {name: (BytesIO(v), "a.txt") if isinstance(v, bytes) else v for name, v in values.items()}
        return self._see(self.web.post(form.action, data=form.values | typed, follow_redirects=True))

    def _see(self, response: TestResponse) -> str:
        self.status, self.page, self.at = response.status_code, response.text, response.request.full_path.rstrip("?")
        return self.page


class Hosts:
    """A host that shows what it is told to."""

    def __init__(self) -> None:
        self.records: dict[str, list[str]] = {}
        self.files: dict[tuple[str, str], bytes] = {}

    def show_record(self, value: str) -> None:
        self.records[txt_name(HOST)] = [value]

    def show_file(self, token: str, content: str) -> None:
        self.files[HOST, file_path(token)] = content.encode()

    def txt(self, name: str) -> list[str]:
        return self.records.get(name, [])

    def well_known(self, host: str, path: str) -> Fetched:
        body = self.files.get((host, path))
        return Fetched(host, path, "93.184.215.14", 404 if body is None else 200, body or b"")


class Clock:
    """A time that a test moves."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now
