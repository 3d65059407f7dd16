"""How `silo serve` ends: at once, with status 0, whatever is being answered."""

import json
import signal
import subprocess
import sys
import time
import urllib.request

import pytest

from serving.engine import Engine

SERVER = """
import itertools, sys, time, types
from silo.attribution import GeneratedToken

class Endless:
    text, finish_reason, datastore_epoch = "", None, None

    def __iter__(self):
        for _ in itertools.count():
            time.sleep(0.001)
            yield GeneratedToken(0, "", 0, 0.0, (), 1.0, ())

class Silo:
    lm = types.SimpleNamespace(name="endless", context_length=64)
    datastore = None
    generate = lambda self, prompt, settings: Endless()
    open = classmethod(lambda cls, *_, **__: cls())

sys.modules["silo.generation"] = types.SimpleNamespace(Silo=Silo)
from serving.engine import Engine

Engine.of_silo = classmethod(lambda cls, silo, **_: cls(silo))
from serving.commands import serve
serve("endless", None, "127.0.0.1", 0, "cpu")
"""


@pytest.mark.parametrize("name", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_server_and_the_streams_it_is_in(name):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", SERVER], **pipes) as server:
        url = server.stdout.readline().split(" at ")[1].split()[0]
        body = json.dumps({"prompt": "a", "max_tokens": 1_000_000, "stream": True}).encode()
        asked = urllib.request.Request(f"{url}/v1/completions", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(asked) as stream:
            assert stream.readline().startswith(b"data: ")
            begun = time.monotonic()
            server.send_signal(name)
            errors = server.stderr.read()
        assert server.wait(timeout=10) == 0, errors
        assert time.monotonic() - begun < 4
        assert errors == ""


def test_a_closed_engine_ends_what_runs_and_begins_nothing(web, engine: Engine, silo, caplog):
    def close_at_the_third() -> None:
        made.append(None)
        if len(made) == 3:
            engine.close()

    made: list[None] = []
    silo.before_token = close_at_the_third
    *_, last, end = web.post("/v1/completions", json={"prompt": "a", "stream": True}).text.split("\n\n")
    problem = json.loads(last.removeprefix("data: "))
    assert (problem["status"], problem["error"]["code"], end) == (503, "stopping", "")
    assert len(made) == 3
    answer = web.post("/v1/completions", json={"prompt": "a"})
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert web.post("/v1/optouts", json={"document": "opinion"}).status_code == 201
    assert silo.n_running == 0
    assert caplog.text == ""
