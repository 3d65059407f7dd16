"""The command that starts the server."""

import subprocess
import sys

import pytest

from serving.commands import welcome


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
