"""The command that starts the server."""

import subprocess
import sys

import pytest

from serving import create_app
from serving.commands import serve, welcome
from serving.engine import Engine
from serving.errors import CannotListen
from serving.opening import opened
from serving.server import listen
from tests.conftest import lattice_document


def test_the_welcome_names_the_address_and_a_request_to_try():
    text = welcome("tiny", "127.0.0.1", 8000)
    assert "Serving tiny at http://127.0.0.1:8000" in text
    assert "curl http://127.0.0.1:8000/v1/completions" in text


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "example.org", "192.0.2.1"])
def test_an_address_that_others_reach_needs_keys(host):
    with pytest.raises(CannotListen, match="without keys everybody who reaches"):
        serve("a/model", host=host)


def test_a_datastore_that_cannot_be_trusted_is_off_and_the_reason_is_told(make_store, llama, tmp_path, monkeypatch):
    monkeypatch.setattr("silo.lm.LanguageModel.load", lambda *_: llama)
    store = make_store([lattice_document("doc", seed=1)])
    store.close()
    next(path for path in store.path.rglob("*") if "centroids" in path.name or path.suffix == ".npy").write_bytes(b"x")
    silo, trouble = opened("model", store.path, "cpu")
    assert silo.datastore is None
    web = create_app(Engine(silo, store_trouble=trouble)).test_client()
    assert web.get("/readyz").json["datastore"] == {"status": "off", "reason": trouble, "version": None}
    assert trouble in web.get("/v1/documents/doc").json["detail"]
    assert web.post("/v1/completions", json={"prompt": "a", "max_tokens": 2}).status_code == 200


def test_an_ipv6_address_is_written_as_urls_have_it():
    assert "http://[::1]:8000" in welcome("tiny", "::1", 8000)


def test_naming_the_command_loads_nothing_heavy():
    code = "import sys, serving.commands; print(sorted({'flask', 'torch', 'waitress', 'pydantic'} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_an_address_that_cannot_be_had_is_named(app, monkeypatch):
    with pytest.raises(CannotListen, match=r"'no\.such\.host\.invalid', port 80: .*Name another"):
        listen(app, "no.such.host.invalid", 80)

    def refuse(*_, **__):  # the real one leaves sockets open for the collector when it fails
        raise OSError(98, "Address already in use")

    monkeypatch.setattr("waitress.create_server", refuse)
    with pytest.raises(CannotListen, match=r"'127\.0\.0\.1', port 8000: .*in use"):
        listen(app, "127.0.0.1", 8000)
