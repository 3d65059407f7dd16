"""What every page promises: headers, escaping, forms of our own alone, and errors that are pages."""

import re
from dataclasses import replace

import pytest
from flask import Flask
from werkzeug.exceptions import HTTPException

from datastore import requests as asked
from datastore.errors import RequestConflict, WriterBusy
from datastore.request_states import State
from serving import create_app, pages
from serving.pages import ASSETS, moment, percent, read_assets, version_of
from serving.portal import Portal
from tests.serving.portal_visitor import TOKEN, Hosts, Visitor, owned

EVIL = "<script>alert('x')</script>\"'><img src=x onerror=alert(1)>{{ 7*7777777 }}"
PAGES = [
    "/",
    "/playground",
    "/owners",
    "/verify",
    "/transparency",
    "/review",
    "/owners/document?id=no%20such",
    "/review/x",
]
ATTACKS = [
    {"headers": {"Origin": "https://evil.example"}},
    {"headers": {"Origin": "null"}},
    {"headers": {"Origin": "http://localhost:9999"}},
    {"headers": {"Sec-Fetch-Site": "cross-site"}},
    {"headers": {"Sec-Fetch-Site": "same-site"}},
    {"token": ""},
    {"token": "0" * 64},
    {"token": "ä\ud800"},
    {"cookie": None},
    {"cookie": "another"},
]


@pytest.fixture
def store(make_store, documents):
    """Texts and facts that are markup; in a store of their own, beside the scripted one of ``engine``."""
    evil = [owned(d, title=EVIL, owner=EVIL, license=EVIL, source=EVIL) for d in documents]
    return make_store([replace(evil[0], facts=replace(evil[0].facts, id=f"doc {EVIL}"[:100])), *evil[1:]])


@pytest.fixture
def app(engine, store) -> Flask:
    return create_app(engine, portal=Portal(store, Hosts(), TOKEN))


@pytest.fixture
def engine():
    from serving.engine import Engine
    from tests.serving.conftest import MemoryStore, ScriptedSilo

    return Engine(ScriptedSilo(MemoryStore()))


@pytest.fixture
def visitor(app) -> Visitor:
    return Visitor(app)


@pytest.mark.parametrize("path", PAGES)
def test_every_page_may_run_our_scripts_and_nothing_else(visitor, path):
    response = visitor.web.get(path)
    policy = dict(part.split(" ", 1) for part in response.headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == policy["form-action"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert "unsafe" not in response.headers["Content-Security-Policy"]
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Referrer-Policy"] == "same-origin"
    assert response.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("path", PAGES)
def test_no_page_has_a_script_or_style_of_its_own_or_asks_another_host(visitor, path):
    page = visitor.go(path)
    assert all(re.match(r'<script( type="module")? src="/assets/', tag) for tag in re.findall(r"<script[^>]*>", page))
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", page)
    assert not re.search(r"""(?:src|href|action)=["'](?:https?:)?//""", page)


def test_assets_ask_no_other_host_and_load_each_other_by_relative_names():
    for path in ASSETS.rglob("*"):
        if path.suffix in (".js", ".css"):
            text = path.read_text()
            assert not re.search(r"https?://(?!www\.w3\.org)|@import|url\(", text), path
            assert all(name.startswith("./") for name in re.findall(r'from "(.*?)"', text)), path
            assert not re.search(
                r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", text
            ), path


def test_assets_are_kept_for_a_year_under_a_name_that_changes_with_them(visitor):
    address = re.search(r'href="(/assets/\w+/silo\.css)"', visitor.go("/"))[1]
    got = visitor.web.get(address)
    assert (got.status_code, got.mimetype) == (200, "text/css")
    assert "immutable" in got.headers["Cache-Control"]
    assert visitor.web.get(address.replace("silo.css", "theme.js")).mimetype == "text/javascript"
    assets = read_assets()
    assert version_of(assets) == address.split("/")[2]
    assert version_of(assets | {"silo.css": b""}) != version_of(assets)


@pytest.mark.parametrize("name", ["../pages.py", "%2e%2e/pages.py", "no-such.css", "playground/../../pages.py"])
def test_nothing_but_assets_is_served_as_one(visitor, name):
    assert visitor.web.get(f"/assets/x/{name}").status_code == 404


def test_an_asset_of_another_version_is_not_kept(visitor):
    assert visitor.web.get("/assets/old/silo.css").headers["Cache-Control"] == "no-store"


def test_titles_owners_and_ids_that_are_markup_are_shown_as_text(visitor, store, documents):
    visitor.go("/owners")
    found = visitor.submit("/owners", text=documents[9].text)
    shown = [found]
    for one in list(store.documents())[:2]:
        shown.append(visitor.web.get("/owners/document", query_string={"id": one.facts.id}).text)
    visitor.go("/owners/document?id=doc-1")
    shown.append(visitor.submit("/owners/requests"))
    shown.append(visitor.submit("/proof", text=documents[1].text))
    visitor.go("/review")
    shown.append(visitor.submit("/review/sign-in", token=TOKEN))
    shown.append(visitor.go(f"/review/{asked.requests(store)[0].id}"))
    shown.append(visitor.submit("/review/" + asked.requests(store)[0].id, decision="rejected", note=""))
    for i, page in enumerate(shown):
        assert "alert" in page, i
        assert not re.search(r"<script>|<img|\{\{|54444439", page.replace("{{ 7*7777777 }}", ""))


@pytest.mark.parametrize("text", [EVIL * 3, "</textarea><script>alert(1)</script> " * 4])
def test_what_is_typed_comes_back_as_text(visitor, text):
    visitor.go("/verify")
    page = visitor.submit("/verify", receipt=text)
    assert visitor.status == 422
    assert not re.search(r"<script>alert|<img", page)


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
@pytest.mark.parametrize(
    "target", ["/owners", "/owners/requests", "/verify", "/review/sign-in", "/proof", "/review/sign-out"]
)
def test_a_form_that_is_not_ours_does_nothing(visitor, store, documents, target, attack):
    visitor.go("/owners/document?id=doc-1")
    visitor.submit("/owners/requests")
    before = [(one.id, one.state) for one in asked.requests(store)]
    path = f"{visitor.at}/proof" if target == "/proof" else target
    token = re.search(r'name="form_token" value="(\w+)"', visitor.page)[1]
    values = {
        "form_token": attack.get("token", token),
        "text": documents[1].text,
        "document": "doc-1",
        "method": "possession",
    }
    if "cookie" in attack:
        visitor.web.delete_cookie("silo-form")
        if attack["cookie"]:
            visitor.web.set_cookie("silo-form", attack["cookie"])
    data = "&".join(f"{k}={v}" for k, v in values.items()).encode("utf-8", "surrogatepass")
    headers = {"Content-Type": "application/x-www-form-urlencoded"} | attack.get("headers", {})
    got = visitor.web.post(path, data=data, headers=headers)
    assert got.status_code == 403, got.text
    assert [(one.id, one.state) for one in asked.requests(store)] == before


def test_the_control_of_the_attacks_a_form_of_ours_is_taken(visitor):
    visitor.go("/owners")
    visitor.web.environ_base["HTTP_ORIGIN"] = "http://localhost"
    visitor.web.environ_base["HTTP_SEC_FETCH_SITE"] = "same-origin"
    visitor.submit("/owners", text="nothing that is here, in words enough to compare")
    assert visitor.status == 200


def test_cookies_are_for_this_host_and_no_script(app):
    plain = app.test_client().get("/owners").headers["Set-Cookie"]
    secure = app.test_client().get("/owners", base_url="https://localhost").headers["Set-Cookie"]
    assert secure.startswith("__Host-silo-form=")
    for cookie in (plain, secure):
        assert "HttpOnly" in cookie
        assert "SameSite=Lax" in cookie
    assert "Secure" in secure
    assert "Secure" not in plain


def test_a_page_that_fails_says_so_without_telling_what(visitor, store, monkeypatch, caplog):
    def fail(*_):
        raise RuntimeError("secret detail")

    monkeypatch.setattr("serving.portal_log.document_counts", fail)
    page = visitor.go("/transparency")
    assert (visitor.status, "secret detail" in page) == (500, False)
    instance = re.search(r"urn:uuid:[0-9a-f-]+", page)[0]
    assert instance in caplog.text
    assert visitor.web.get("/transparency").headers["Content-Security-Policy"]


def test_errors_of_the_store_are_pages_that_say_what_to_do(visitor, monkeypatch):
    for error, status in ((WriterBusy("come back"), 503), (RequestConflict("not now"), 409)):

        def fail(*_, error=error):
            raise error

        monkeypatch.setattr("serving.portal_log.document_counts", fail)
        assert str(error) in visitor.go("/transparency")
        assert visitor.status == status


def test_the_api_still_answers_its_problems(visitor):
    assert visitor.web.get("/v1/documents/none").mimetype == "application/problem+json"
    assert visitor.web.get("/no/such/page").mimetype == "application/problem+json"


def test_without_a_portal_there_is_a_playground_alone(engine):
    web = create_app(engine).test_client()
    assert web.get("/playground").status_code == 200
    assert "/owners" not in web.get("/playground").text
    assert web.get("/owners").status_code == 404


@pytest.mark.parametrize(
    ("share", "shown"), [(0, "0 %"), (0.001, "< 1 %"), (0.5, "50 %"), (0.999, "> 99 %"), (1, "100 %")]
)
def test_shares_are_never_rounded_to_nothing_or_all(share, shown):
    assert percent(share) == shown


def test_times_are_shown_to_the_minute():
    assert moment("2026-01-01T12:03:04.5+00:00") == "2026-01-01, 12:03 UTC"
    assert moment("soon") == "soon"


def test_the_states_of_a_request_all_have_words(app):
    with app.test_request_context("/"):
        for state in State:
            one = asked.Request("i", "d", state, "", "", "", "", "")
            macro = app.jinja_env.get_template("macros.html").make_module({}).request_state
            assert len(macro(one)) > 20


def test_redirects_pass(app):
    class Moved(HTTPException):
        code = 302

    with app.test_request_context("/"):
        assert pages.error_page(moved := Moved()) is moved
