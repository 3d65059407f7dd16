"""Asks hosts what they say of themselves: TXT records, and one file under `.well-known`. The only code that calls out.

Which hosts and addresses may be asked is decided in ``datastore.hosts``; here it is kept to. A name is resolved once,
each address is checked, and the connection goes to the very address that was checked, so a name that answers
differently the second time gains nothing. HTTPS on port 443 with the certificate checked against the name; no redirect,
proxy, cookie or credential. The first bytes are read and no more, and all of it ends after ``LIMIT_S``.
"""

import http.client
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from datastore.errors import BadHost
from datastore.hosts import MAX_BODY_BYTES, Fetched, check_address, check_host

LIMIT_S = 5.0
PORT = 443


def resolve(host: str) -> list[str]:
    """The addresses of ``host``, as the system's resolver has them. Raises OSError."""
    return list(dict.fromkeys(str(found[4][0]) for found in socket.getaddrinfo(host, PORT, type=socket.SOCK_STREAM)))


def connect(address: str, timeout: float) -> socket.socket:
    """A connection to ``address``. Raises OSError."""
    return socket.create_connection((address, PORT), timeout)


@dataclass(frozen=True)
class Network:
    """``datastore.hosts.HostFacts`` over the internet."""

    resolve: Callable[[str], Sequence[str]] = resolve
    connect: Callable[[str, float], socket.socket] = connect
    tls: ssl.SSLContext = field(default_factory=ssl.create_default_context)
    limit_s: float = LIMIT_S

    def txt(self, name: str) -> Sequence[str]:
        """The TXT records at exactly ``name``. Raises OSError where they cannot be asked for."""
        try:
            import dns.exception
            import dns.resolver
        except ImportError:
            raise OSError("this server cannot ask for DNS records (its operator lacks `dnspython`)") from None
        try:
            answer = dns.resolver.resolve(f"{name}.", "TXT", lifetime=self.limit_s, search=False)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return []
        except dns.exception.DNSException as error:
            raise OSError(f"the name servers did not answer: {type(error).__name__}") from error
        return [b"".join(record.strings).decode("utf-8", "replace") for record in answer]

    def well_known(self, host: str, path: str) -> Fetched:
        """The file at ``https://{host}{path}``. Raises OSError, and BadHost where no address of it may be asked."""
        address = self._address(check_host(host))
        with (
            self.connect(address, self.limit_s) as plain,
            _ending(plain, self.limit_s),
            self.tls.wrap_socket(plain, server_hostname=host) as secured,
        ):
            return _get(secured, host, path, address, self.limit_s)

    def _address(self, host: str) -> str:
        refused: BadHost | None = None
        for address in self.resolve(host):
            try:
                check_address(address)
            except BadHost as error:
                refused = error
            else:
                return address
        raise refused or OSError(f"{host} has no address")


def _get(connected: socket.socket, host: str, path: str, address: str, limit_s: float) -> Fetched:
    connection = http.client.HTTPConnection(host, timeout=limit_s)
    connection.sock = connected
    try:
        headers = {"Accept": "text/plain", "Accept-Encoding": "identity", "User-Agent": "silo", "Connection": "close"}
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return Fetched(host, path, address, response.status, response.read(MAX_BODY_BYTES + 1))
    except http.client.HTTPException as error:
        raise OSError(f"it does not speak HTTP: {type(error).__name__}") from error
    finally:
        connection.close()


class _ending:  # noqa: N801
    """Ends a connection after ``limit_s``, however slowly the other side feeds it."""

    def __init__(self, connected: socket.socket, limit_s: float) -> None:
        self._connected = connected
        self._timer = threading.Timer(limit_s, self._end)
        self._timer.daemon = True

    def _end(self) -> None:
        with suppress(OSError):
            self._connected.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
