"""Clients that send slowly, or never finish: they cost sockets, and nobody else's answer."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import requests

N_OF_EACH = 200
HEAD = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
UNFINISHED = {
    "in the head": HEAD + b"X-Slow: ",
    "in the body": HEAD + b"Content-Length: 1000\r\n\r\n" + b'{"prompt": "',
    "in a chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\n400\r\n" + b'{"prompt": "',
}


@pytest.fixture
def slow(url: str) -> Iterator[list[socket.socket]]:
    """Connections that are each in the middle of a request."""
    port = int(url.rpartition(":")[2])
    with ExitStack() as stack:
        opened = []
        for begun in UNFINISHED.values():
            for _ in range(N_OF_EACH):
                one = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20))
                one.sendall(begun)
                opened.append(one)
        yield opened


def test_slow_clients_keep_nobody_from_an_answer(slow, url: str):
    for _ in range(3):
        for one in slow:
            one.sendall(b"x")
        assert requests.get(f"{url}/healthz", timeout=20).status_code == 200
        answer = requests.post(f"{url}/v1/completions", json={"prompt": "a", "max_tokens": 3}, timeout=20)
        assert answer.json()["choices"][0]["text"] == "The court ruled"
        assert requests.post(f"{url}/v1/optouts", json={"document": "opinion"}, timeout=20).ok


def test_a_slow_request_is_answered_once_it_is_whole(slow, url: str):
    body = b'a", "max_tokens": 2}'
    slow[N_OF_EACH].sendall(body + b" " * (1000 - len(b'{"prompt": "') - len(body)))
    answer = b""
    while b"usage" not in answer:
        answer += slow[N_OF_EACH].recv(4096)
    assert b"The court" in answer
