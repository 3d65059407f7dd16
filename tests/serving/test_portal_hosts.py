"""The fetcher against a real TLS server on this machine, which stands for a host of the internet."""

import ipaddress
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from types import ModuleType, SimpleNamespace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from datastore.errors import BadHost
from datastore.hosts import MAX_BODY_BYTES
from serving.portal_hosts import Network

HOST, ADDRESS = "press.example.org", "93.184.215.14"
PATH = "/.well-known/silo-challenge/" + "0" * 64


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> str:
    """A certificate of ``HOST`` that signed itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, HOST)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "host.pem"
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(key.private_bytes(*form) + made.public_bytes(serialization.Encoding.PEM))
    return str(path)


@contextmanager
def host(certificate: str, answer: Callable[[ssl.SSLSocket], None]) -> Iterator[tuple[int, list[bytes]]]:
    """A TLS server that reads one request and does ``answer``; its port and what it was asked."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(10)

        def serve() -> None:
            try:
                plain, _ = listening.accept()
                with plain, context.wrap_socket(plain, server_side=True) as secured:
                    asked.append(secured.recv(65536))
                    answer(secured)
            except OSError:
                return

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listening.getsockname()[1], asked
        listening.close()
        thread.join(timeout=10)


def network(
    certificate: str, port: int, addresses: tuple[str, ...] = (ADDRESS,), limit_s: float = 5.0, **more
) -> Network:
    """Takes ``addresses`` for those of every host, and this machine for the one that it connects to."""
    trusting = ssl.create_default_context(cafile=certificate)
    connects: list[str] = []

    def connect(address: str, timeout: float) -> socket.socket:
        connects.append(address)
        return socket.create_connection(("127.0.0.1", port), timeout)

    made = Network(**({"resolve": lambda _: addresses, "connect": connect, "tls": trusting, "limit_s": limit_s} | more))
    object.__setattr__(made, "connects", connects)
    return made


def saying(text: str) -> Callable[[ssl.SSLSocket], None]:
    return lambda secured: secured.sendall(text.encode())


def test_the_file_of_a_host_is_fetched_with_nothing_but_the_question(certificate):
    with host(certificate, saying("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")) as (port, asked):
        asker = network(certificate, port)
        fetched = asker.well_known(HOST, PATH)
    assert (fetched.status, fetched.body, fetched.host, fetched.path) == (200, b"hello", HOST, PATH)
    assert fetched.address == ADDRESS
    assert asker.connects == [ADDRESS]
    request = asked[0].decode()
    assert request.startswith(f"GET {PATH} HTTP/1.1\r\nHost: {HOST}\r\n")
    assert not any(header in request.lower() for header in ("cookie", "authorization", "referer"))


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1"]
)
def test_an_address_inside_is_never_connected_to(certificate, address):
    asker = network(certificate, 1, (address,))
    with pytest.raises(BadHost):
        asker.well_known(HOST, PATH)
    assert asker.connects == []


def test_a_name_is_resolved_once_so_that_a_second_answer_gains_nothing(certificate):
    answers = iter([(ADDRESS,), ("127.0.0.1",)])
    with host(certificate, saying("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")) as (port, _):
        asker = network(certificate, port, resolve=lambda _: next(answers))
        asker.well_known(HOST, PATH)
    assert asker.connects == [ADDRESS]
    assert next(answers) == ("127.0.0.1",)


@pytest.mark.parametrize(
    "name", ["localhost", "127.0.0.1", "press.example.org:8080", "user@press.example.org", "PRESS.example.org"]
)
def test_a_name_that_may_not_be_asked_is_not_resolved(certificate, name):
    def resolve(_):
        raise AssertionError("was resolved")

    with pytest.raises(BadHost):
        network(certificate, 1, resolve=resolve).well_known(name, PATH)


def test_a_redirect_is_told_and_not_followed(certificate):
    with host(
        certificate, saying("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\nContent-Length: 0\r\n\r\n")
    ) as (port, _):
        asker = network(certificate, port)
        assert asker.well_known(HOST, PATH).status == 302
    assert len(asker.connects) == 1


def test_no_more_than_the_first_bytes_are_read(certificate):
    with host(certificate, saying("HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n" + "x" * 9000)) as (port, _):
        assert len(network(certificate, port).well_known(HOST, PATH).body) == MAX_BODY_BYTES + 1


def test_another_certificate_is_refused(certificate):
    with host(certificate, saying("HTTP/1.1 200 OK\r\n\r\n")) as (port, _), pytest.raises(ssl.SSLCertVerificationError):
        network(certificate, port, tls=ssl.create_default_context()).well_known(HOST, PATH)
    with host(certificate, saying("HTTP/1.1 200 OK\r\n\r\n")) as (port, _), pytest.raises(ssl.SSLCertVerificationError):
        network(certificate, port).well_known("other.example.org", PATH)


def test_a_host_that_feeds_a_byte_at_a_time_is_let_go(certificate):
    ended = threading.Event()

    def drip(secured: ssl.SSLSocket) -> None:
        try:
            for byte in b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000:
                secured.sendall(bytes([byte]))
                if ended.wait(0.05):
                    return
        except OSError:
            ended.set()

    with host(certificate, drip) as (port, _):
        with pytest.raises(OSError, match=r"."):
            network(certificate, port, limit_s=0.5).well_known(HOST, PATH)
        assert ended.wait(10), "the connection is closed on their side too"


@pytest.mark.parametrize("answer", ["", "not http at all\r\n\r\n", "HTTP/1.1 200 OK\r\n" + "A: b\r\n" * 200])
def test_what_is_no_answer_is_an_error_that_the_proof_can_tell(certificate, answer):
    with host(certificate, saying(answer)) as (port, _), pytest.raises(OSError, match=r"."):
        network(certificate, port).well_known(HOST, PATH)


def test_a_host_without_an_address_is_an_error():
    with pytest.raises(OSError, match="has no address"):
        Network(resolve=lambda _: []).well_known(HOST, PATH)


@pytest.fixture
def resolver(monkeypatch) -> SimpleNamespace:
    """Stands for dnspython."""
    error = type("DNSException", (Exception,), {})
    names = SimpleNamespace(NXDOMAIN=type("NXDOMAIN", (error,), {}), NoAnswer=type("NoAnswer", (error,), {}), asked=[])
    names.error = error

    def resolve(name, kind, **_):
        names.asked.append((name, kind))
        if isinstance(names.answer, Exception):
            raise names.answer
        return names.answer

    module, inner, errors = ModuleType("dns"), ModuleType("dns.resolver"), ModuleType("dns.exception")
    inner.resolve, inner.NXDOMAIN, inner.NoAnswer, errors.DNSException = resolve, names.NXDOMAIN, names.NoAnswer, error
    module.resolver, module.exception = inner, errors
    for name, made in (("dns", module), ("dns.resolver", inner), ("dns.exception", errors)):
        monkeypatch.setitem(sys.modules, name, made)
    return names


def test_records_are_asked_for_at_the_very_name_and_their_strings_joined(resolver):
    resolver.answer = [SimpleNamespace(strings=(b"silo-", b"challenge=1")), SimpleNamespace(strings=(b"\xff",))]
    assert Network().txt("_silo-challenge.press.example.org") == ["silo-challenge=1", "\ufffd"]
    assert resolver.asked == [("_silo-challenge.press.example.org.", "TXT")]


def test_no_record_is_none_and_no_answer_is_an_error(resolver):
    for missing in (resolver.NXDOMAIN(), resolver.NoAnswer()):
        resolver.answer = missing
        assert Network().txt("a.b") == []
    resolver.answer = resolver.error()
    with pytest.raises(OSError, match="did not answer"):
        Network().txt("a.b")


def test_without_dnspython_it_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "dns", None)
    with pytest.raises(OSError, match="dnspython"):
        Network().txt("a.b")


def test_this_machine_resolves_itself_to_what_is_refused():
    from serving.portal_hosts import resolve

    found = resolve("localhost")
    assert found
    assert all(ipaddress.ip_address(address).is_loopback for address in found)
