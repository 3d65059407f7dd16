"""Which hosts may be asked for a proof, and what they may answer: tables of what is refused, and controls that pass."""

import pytest

from datastore.errors import BadHost, ProofRefused
from datastore.hosts import FOLDER, MAX_BODY_BYTES, Fetched, body_of, check_address, file_path, host_of, txt_name

TOKEN = "0a" * 32

GOOD_URLS = {
    "plain": ("https://press.example.org/stories/1?a=b#c", "press.example.org"),
    "upper case": ("HTTPS://Press.Example.ORG/", "press.example.org"),
    "http": ("http://press.example.org", "press.example.org"),
    "an at sign in the path": ("https://press.example.org/@user", "press.example.org"),
    "a colon in the path": ("https://press.example.org/a:b", "press.example.org"),
    "a German label": ("https://xn--bcher-kva.example.org/", "xn--bcher-kva.example.org"),
    "a Japanese label": ("https://xn--wgv71a119e.example.org/", "xn--wgv71a119e.example.org"),
    "a Russian label that reads as nothing else": ("https://xn--d1acufc.xn--p1ai/", "xn--d1acufc.xn--p1ai"),
    "digits inside": ("https://24.press1.example.org/", "24.press1.example.org"),
}

BAD_URLS = {
    "nothing": "",
    "no scheme": "press.example.org/a",
    "no host": "https:///a",
    "a file": "file:///etc/passwd",
    "ftp": "ftp://press.example.org/a",
    "javascript": "javascript:alert(1)",
    "a user": "https://owner@press.example.org/",
    "a user that looks like the host": "https://press.example.org@attacker.net/",
    "a password": "https://press.example.org:secret@attacker.net/",
    "a port": "https://press.example.org:8443/",
    "the usual port": "https://press.example.org:443/",
    "an empty port": "https://press.example.org:/",
    "a port too large": "https://press.example.org:99999/",
    "a trailing dot": "https://press.example.org./",
    "an empty label": "https://press..example.org/",
    "a leading dot": "https://.example.org/",
    "a backslash": "https://press.example.org\\@attacker.net/",
    "a space": "https://press.example.org /",
    "a line end": "https://press.example.org\n.attacker.net/",
    "a tab": "https://press.exam\tple.org/",
    "a zero byte": "https://press.example.org\x00.attacker.net/",
    "an escaped dot": "https://press%2eexample.org/",
    "an escaped slash": "https://press.example.org%2f.attacker.net/",
    "IPv4": "https://93.184.216.34/",
    "IPv4 in short": "https://127.1/",
    "IPv4 in decimal": "https://2130706433/",
    "IPv4 in hex": "https://0x7f000001/",
    "IPv4 in parts of hex": "https://0x7f.0.0.0x1/",
    "IPv4 in octal": "https://0177.0.0.1/",
    "IPv6": "https://[2606:2800:220:1::1]/",
    "IPv6 loopback": "https://[::1]/",
    "one label": "https://intranet/",
    "localhost": "https://localhost/",
    "under localhost": "https://press.localhost/",
    "local": "https://press.local/",
    "internal": "https://metadata.google.internal/",
    "home": "https://press.home.arpa/",
    "onion": "https://press.onion/",
    "test": "https://press.test/",
    "invalid": "https://press.invalid/",
    "an underscore": "https://_silo-challenge.example.org/",
    "a hyphen first": "https://-press.example.org/",
    "a hyphen last": "https://press-.example.org/",
    "a star": "https://*.example.org/",
    "a label too long": f"https://{'a' * 64}.example.org/",
    "a name too long": f"https://{'a.' * 120}org/",
    "Cyrillic a": "https://pаypal.example.org/",
    "full-width letters": "https://ｐress.example.org/",
    "a full-width dot": "https://press．example.org/",
    "a letter that folds to two": "https://straße.example.org/",
    "a sign that folds to letters": "https://press.example.ℂom/",
    "punycode of a Cyrillic look-alike": "https://xn--pypal-4ve.example.org/",
    "punycode all Cyrillic, reads as apple": "https://xn--80ak6aa92e.com/",
    "punycode of mixed scripts": "https://xn--press-9we.example.org/",
    "punycode of ASCII": "https://xn--press-.example.org/",
    "punycode of nothing": "https://xn--.example.org/",
    "punycode that does not decode": "https://xn--press-999999999.example.org/",
    "punycode read two ways": "https://xn--strae-oqa.example.org/",
    "another reserved prefix": "https://ab--press.example.org/",
}

GOOD_ADDRESSES = ["93.184.216.34", "8.8.8.8", "2606:2800:220:1::1", "::ffff:8.8.8.8", "64:ff9b::808:808"]

BAD_ADDRESSES = {
    "loopback": "127.0.0.1",
    "all loopback": "127.255.255.254",
    "this host": "0.0.0.0",
    "private 10": "10.1.2.3",
    "private 172": "172.16.0.1",
    "private 192": "192.168.1.1",
    "shared": "100.64.0.1",
    "link-local, where clouds keep their keys": "169.254.169.254",
    "documentation": "192.0.2.1",
    "benchmarks": "198.18.0.1",
    "multicast": "224.0.0.1",
    "reserved": "240.0.0.1",
    "broadcast": "255.255.255.255",
    "IPv6 loopback": "::1",
    "IPv6 unspecified": "::",
    "IPv6 unique local": "fd00::1",
    "IPv6 link-local": "fe80::1",
    "IPv6 link-local with a zone": "fe80::1%eth0",
    "a public one with a zone": "2606:2800:220:1::1%eth0",
    "IPv6 multicast": "ff02::1",
    "IPv6 documentation": "2001:db8::1",
    "mapped loopback": "::ffff:127.0.0.1",
    "mapped private": "::ffff:10.0.0.1",
    "compatible loopback": "::127.0.0.1",
    "NAT64 of a private one": "64:ff9b::a00:1",
    "local NAT64": "64:ff9b:1::a00:1",
    "6to4 of a private one": "2002:a00:1::1",
    "Teredo": "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "a name": "localhost",
    "short": "127.1",
    "octal": "0177.0.0.1",
    "nothing": "",
}


@pytest.mark.parametrize(("url", "host"), GOOD_URLS.values(), ids=GOOD_URLS.keys())
def test_the_host_of_a_url_is_the_very_one(url, host):
    assert host_of(url) == host
    assert txt_name(host) == f"_silo-challenge.{host}"


@pytest.mark.parametrize("url", BAD_URLS.values(), ids=BAD_URLS.keys())
def test_a_url_that_could_mean_another_host_is_refused(url):
    with pytest.raises(BadHost):
        host_of(url)


@pytest.mark.parametrize("address", GOOD_ADDRESSES)
def test_a_public_address_is_let_through(address):
    check_address(address)


@pytest.mark.parametrize("address", BAD_ADDRESSES.values(), ids=BAD_ADDRESSES.keys())
def test_an_address_that_is_not_of_the_public_internet_is_refused(address):
    with pytest.raises(BadHost):
        check_address(address)


@pytest.mark.parametrize("token", ["", "../../etc/passwd", "0A" * 32, "0a" * 31, f"{TOKEN}/", f"{TOKEN}\n", "0a" * 33])
def test_nothing_but_a_token_makes_a_path(token):
    assert file_path(TOKEN) == f"{FOLDER}{TOKEN}"
    with pytest.raises(BadHost):
        file_path(token)


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_a_line_end_after_the_content_is_not_of_it(end):
    assert body_of(Fetched("a.org", file_path(TOKEN), "8.8.8.8", 200, b"x" + end), "a.org", TOKEN) == b"x"


@pytest.mark.parametrize(
    "fetched",
    [
        Fetched("www.a.org", file_path(TOKEN), "8.8.8.8", 200, b"x"),
        Fetched("a.org.", file_path(TOKEN), "8.8.8.8", 200, b"x"),
        Fetched("a.org", file_path("0b" * 32), "8.8.8.8", 200, b"x"),
        Fetched("a.org", "/", "8.8.8.8", 200, b"x"),
        Fetched("a.org", file_path(TOKEN), "8.8.8.8", 404, b"x"),
        Fetched("a.org", file_path(TOKEN), "8.8.8.8", 301, b"x"),
        Fetched("a.org", file_path(TOKEN), "127.0.0.1", 200, b"x"),
        Fetched("a.org", file_path(TOKEN), "8.8.8.8", 200, b"x" * (MAX_BODY_BYTES + 1)),
    ],
    ids=["another host", "a dot", "another token", "another path", "not found", "moved", "private address", "too much"],
)
def test_an_answer_from_anywhere_else_does_not_count(fetched):
    with pytest.raises(ProofRefused):
        body_of(fetched, "a.org", TOKEN)
