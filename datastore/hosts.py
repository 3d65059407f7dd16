"""Which hosts may show that they own a document, and what they must show where; as checks on names and addresses.

Pure; no network. The host is the one in the document's URL, to the letter: not its parent, not a sibling, not a
look-alike. Anything that a resolver, a URL parser or a reader could take for another host is refused before a
question is asked, since the fetcher that asks it may read names in another way than we do.

Sources: RFC 3986 (URLs), RFC 5890 (A-labels), RFC 6761 and RFC 8375 (special-use names), RFC 6890 (special-purpose
addresses), RFC 6052 (NAT64), RFC 8615 (`.well-known`).
"""

import ipaddress
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from datastore.errors import BadHost, ProofRefused
from datastore.fingerprints import normalize

TXT_PREFIX = "_silo-challenge."
FOLDER = "/.well-known/silo-challenge/"
MAX_BODY_BYTES = 1024
"""What a host shows is shorter; a fetcher may stop reading there."""

_MAX_NAME = 253 - len(TXT_PREFIX)
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_TOKEN = re.compile(r"[0-9a-f]{64}")
_SPECIAL = frozenset(
    "alt arpa corp example home internal intranet invalid lan local localhost onion private test".split()
)
_NAT64, _LOCAL_NAT64 = ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("64:ff9b:1::/48")
_LIKE_LATIN = {"ARMENIAN", "CHEROKEE", "CYRILLIC", "GREEK"}


@dataclass(frozen=True)
class Fetched:
    """What a fetcher got for one request of a file, redirects *not* followed, certificate checked."""

    host: str
    """That answered, as it stood in the request."""
    path: str
    address: str
    """The address that it was connected to, after the resolver spoke."""
    status: int
    body: bytes


class HostFacts(Protocol):
    """What a host says of itself; whoever has a network brings it. It may raise OSError: the proof then fails.

    A fetcher connects only to addresses that ``check_address`` lets through, and checks the very address that it
    connects to: a name that is resolved twice may give two answers.
    """

    def txt(self, name: str) -> Sequence[str]:
        """The TXT records at exactly ``name``, each with its strings joined."""
        ...

    def well_known(self, host: str, path: str) -> Fetched:
        """The file at ``https://{host}{path}``, port 443, with at least the first ``MAX_BODY_BYTES`` + 1 bytes."""
        ...


def host_of(url: str) -> str:
    """The host of a document's URL, in lower case. Raises BadHost where it may not be asked for a proof."""
    if not url:
        raise BadHost("the document has no URL, so no host can show that it owns it. Use another proof.")
    if not url.isascii() or re.search(r"[\x00-\x20\x7f\\]", url):
        raise BadHost(
            f"a URL for a proof must be printable ASCII without backslashes, its host in `xn--` form; got {url!r:.200}"
        )
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise BadHost(f"{url!r:.200} is no URL: {error}") from None
    if parts.scheme.lower() not in ("http", "https") or not parts.netloc:
        raise BadHost(f"a proof by host needs an http or https URL; got {url!r:.200}")
    if "@" in parts.netloc:
        raise BadHost(f"a URL for a proof must name no user; got {url!r:.200}")
    if port is not None or ":" in parts.netloc or "[" in parts.netloc:
        raise BadHost(f"a URL for a proof must name no port and no IP address; got {url!r:.200}")
    return check_host(parts.netloc.lower())


def check_host(host: str) -> str:
    """``host``, if it is a public name in its one spelling. Raises BadHost."""
    if len(host) > _MAX_NAME:
        raise BadHost(f"a host may have {_MAX_NAME} characters; got {len(host)}")
    labels = host.split(".")
    if labels[-1] == "":
        raise BadHost(f"a host for a proof must not end with a dot; got {host!r}")
    if bad := [label for label in labels if not _LABEL.fullmatch(label)]:
        raise BadHost(
            f"a host is labels of a to z, 0 to 9 and hyphens inside, in lower case; got {bad[0]!r:.80} in {host!r:.260}"
        )
    if len(labels) < 2:
        raise BadHost(f"a host for a proof must be a public name with a dot in it; got {host!r}")
    if labels[-1].isdecimal() or labels[-1].startswith("0x"):
        raise BadHost(f"an IP address owns no document; got {host!r}")
    if labels[-1] in _SPECIAL:
        raise BadHost(f"{host!r} is a name for private or special use")
    for label in labels:
        _check_label(label, host)
    return host


def _check_label(label: str, host: str) -> None:
    """Raise BadHost where ``label`` is an A-label that is not the one spelling of its text, or passes for another.

    The encodings of 2003 and 2008 must agree: a label that they read differently (ß, ς) is two hosts to two resolvers.
    """
    if label[2:4] != "--":
        return
    try:
        if not label.startswith("xn--"):
            raise ValueError("the prefix is reserved")
        shown = label[4:].encode("ascii").decode("punycode")
        if shown.isascii() or shown.encode("idna").decode("ascii") != label:
            raise ValueError("it has another spelling")
    except ValueError as error:  # UnicodeError is one
        raise BadHost(f"{label!r} in {host!r} is no valid internationalized label: {error}") from None
    letters = "".join(c for c in unicodedata.normalize("NFKD", shown) if unicodedata.category(c) != "Mn")
    scripts = {unicodedata.name(c, "").partition(" ")[0] for c in letters if c.isalpha()}
    is_mixed = "LATIN" in scripts and not scripts.isdisjoint(_LIKE_LATIN)
    if is_mixed or (not letters.isascii() and normalize(shown).isascii()):
        raise BadHost(
            f"{label!r} in {host!r} can be taken for {normalize(shown)!r}, which it is not. Use another proof."
        )


def check_address(address: str) -> None:
    """Raise BadHost unless ``address``, IPv4 or IPv6 in text, is one of the public internet."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        raise BadHost(f"{address!r:.80} is no IP address") from None
    inner: ipaddress.IPv4Address | ipaddress.IPv6Address = found
    if isinstance(found, ipaddress.IPv6Address):
        if found.scope_id or found.sixtofour or found.teredo or found in _LOCAL_NAT64:
            raise BadHost(f"{address} is not of the public internet")
        if found.ipv4_mapped:
            inner = found.ipv4_mapped
        elif found in _NAT64:
            inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
    if not inner.is_global or inner.is_multicast or inner.is_reserved:
        raise BadHost(f"{address} is not of the public internet")


def txt_name(host: str) -> str:
    """Where the TXT record of ``host`` stands."""
    return f"{TXT_PREFIX}{check_host(host)}"


def file_path(token: str) -> str:
    """Where the file stands; ``token`` is 64 hex digits. Raises BadHost: nothing else makes a path."""
    if not _TOKEN.fullmatch(token):
        raise BadHost("a challenge's token is 64 hex digits in lower case")
    return f"{FOLDER}{token}"


def body_of(fetched: Fetched, host: str, token: str) -> bytes:
    """The content of the file, without a line end. Raises ProofRefused unless it is the file that was asked for."""
    check_address(fetched.address)
    expected = (host, file_path(token), 200)
    if (fetched.host, fetched.path, fetched.status) != expected:
        got = (fetched.host, fetched.path, fetched.status)
        raise ProofRefused(
            f"expected host, path and status {expected}, got {got!r:.400}. Redirects do not count: put the file there."
        )
    if len(fetched.body) > MAX_BODY_BYTES:
        raise ProofRefused(f"the file at {file_path(token)} should hold the challenge's content and nothing else")
    return fetched.body.removesuffix(b"\n").removesuffix(b"\r")
