"""The command that starts the server."""

import subprocess
import sys

import pytest

from serving.commands import welcome
from serving.errors import CannotListen
from serving.server import listen


def test_the_welcome_names_the_address_and_a_request_to_try():
    text = welcome("tiny", "127.0.0.1", 8000)
    assert "Serving tiny at http://127.0.0.1:8000" in text
    assert "curl http://127.0.0.1:8000/v1/completions" in text
    assert "no accounts" not in text


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "example.org", "192.0.2.1"])
def test_an_address_that_others_reach_comes_with_a_warning(host):
    assert "can opt documents out" in welcome("tiny", host, 8000)


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
