"""An internet, beneath the real fetcher, that says what an attacker would have it say."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, field

from datastore.hosts import Fetched
from serving.portal_hosts import Network
from tests.serving.portal_visitor import HOST


@dataclass
class Internet:
    """``HostFacts``, and what stands for TLS beneath them."""

    records: dict[str, list[str]] = field(default_factory=dict)
    answers: dict[str, bytes] = field(default_factory=dict)
    """What is answered at an address."""
    resolved: list[Sequence[str]] = field(default_factory=list)
    """What the resolver says, one answer after another; the last one stays."""
    asked: list[str] = field(default_factory=list)
    connected: list[str] = field(default_factory=list)

    def txt(self, name: str) -> list[str]:
        return self.records.get(name, [])

    def well_known(self, host: str, path: str) -> Fetched:
        network = Network(self._resolve, self._connect, tls=self)  # type: ignore[arg-type]
        return network.well_known(host, path)

    def _resolve(self, host: str) -> Sequence[str]:
        self.asked.append(host)
        return self.resolved.pop(0) if len(self.resolved) > 1 else self.resolved[0]

    def _connect(self, address: str, _: float) -> "Connection":
        self.connected.append(address)
        return Connection(self.answers.get(address, saying(404, "")))

    def wrap_socket(self, plain: "Connection", server_hostname: str) -> "Connection":
        assert server_hostname == HOST
        return plain


@dataclass
class Connection:
    answer: bytes

    def makefile(self, *_: object) -> io.BytesIO:
        return io.BytesIO(self.answer)

    def sendall(self, _: bytes) -> None: ...

    def shutdown(self, _: int) -> None: ...

    def close(self) -> None: ...

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None: ...


def saying(status: int, body: str, *headers: str) -> bytes:
    head = [f"HTTP/1.1 {status} Said", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*head, "", body]).encode()
