"""Many streams for minutes: each ends whole, none is refused, and afterwards nothing is held that was not before.

    SILO_LOAD_SECONDS=1800 python -m pytest -m slow tests/serving/test_load.py

The model is the scripted one, so this loads the server, its threads and its sockets, and says nothing of an LM.
"""

import gc
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from serving import create_app
from serving.engine import Engine
from serving.runners import DEFAULT_SLOTS, DEFAULT_WAITING, Runners
from tests.serving.conftest import ScriptedSilo, serving
from tests.serving.test_concurrency import eventually

SECONDS = int(os.environ.get("SILO_LOAD_SECONDS", "120"))
N_STREAMS = 64
N_TOKENS = 40
MAX_GROWTH = 16 << 20
"""Of memory in bytes, after a first round of streams."""


@pytest.fixture
def engine() -> Engine:
    silo = ScriptedSilo(None)
    return Engine(silo, makers=Runners(silo, slots=DEFAULT_SLOTS, waiting=DEFAULT_WAITING))


@pytest.fixture
def url(engine: Engine) -> Iterator[str]:
    with serving(create_app(engine)) as address:
        yield address


def _n_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def _memory() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _ask(url: str) -> None:
    asked = {"prompt": "a", "max_tokens": N_TOKENS, "stream": True}
    with requests.post(f"{url}/v1/completions", json=asked, stream=True, timeout=60) as answer:
        assert answer.status_code == 200, answer.text
        lines = [line for line in answer.iter_lines() if line]
    assert b"error" not in b"".join(lines)
    assert lines[-1] == b"data: [DONE]"
    assert sum(b'"text":' in line.replace(b": ", b":") for line in lines) >= N_TOKENS


def _round(url: str, seconds: float) -> int:
    """``N_STREAMS`` at once, each followed by another until ``seconds`` are over; how many there were."""
    until = time.monotonic() + seconds

    def keep_asking(_: int) -> int:
        n = 0
        while not n or time.monotonic() < until:
            _ask(url)
            n += 1
        return n

    with ThreadPoolExecutor(N_STREAMS) as pool:
        return sum(pool.map(keep_asking, range(N_STREAMS)))


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 300)
@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts open files by way of /proc")
def test_streams_for_minutes_drop_nothing_and_leave_nothing(url, engine, record_property):
    _round(url, min(SECONDS / 4, 10))
    assert eventually(lambda: engine.makers.n_requests == 0)
    n_threads, n_files, memory = threading.active_count(), _n_files(), _memory()
    n = _round(url, SECONDS)
    record_property("n_streams", n)
    assert n >= N_STREAMS
    assert eventually(lambda: engine.makers.n_requests == 0)
    assert eventually(lambda: _n_files() <= n_files, 20)
    assert eventually(lambda: threading.active_count() <= n_threads, 20)
    assert _memory() - memory < MAX_GROWTH
    print(f"{n} streams; memory grew by {_memory() - memory} bytes")
