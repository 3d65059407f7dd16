"""robots.txt as RFC 9309 reads it: may an agent fetch a path, and what a file says beside that.

Pure; works on the text of the file. Lines that mean nothing are passed over, as the RFC asks; patterns match in time
linear in their length times the path's.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_ESCAPE = re.compile("%[0-9A-Fa-f]{2}")


@dataclass(frozen=True)
class Line:
    """One line that says something."""

    name: str
    """In lower case: ``user-agent``, ``disallow``, …"""
    value: str


@dataclass(frozen=True)
class Group:
    """The lines for some agents."""

    agents: tuple[str, ...]
    """Product tokens in lower case, or ``*``."""
    lines: tuple[Line, ...]


def read_groups(text: str) -> list[Group]:
    """The groups of a robots.txt; lines before the first ``User-agent`` make one for no agent."""
    groups: list[Group] = []
    agents: list[str] = []
    lines: list[Line] = []
    for raw in text.removeprefix("\ufeff").splitlines():
        name, colon, value = raw.partition("#")[0].partition(":")
        line = Line(name.strip().lower(), value.strip())
        if not colon or not line.name:
            continue
        if line.name != "user-agent":
            lines.append(line)
            continue
        if lines:
            groups.append(Group(tuple(agents), tuple(lines)))
            agents, lines = [], []
        agents.append(line.value.lower())
    return [*groups, Group(tuple(agents), tuple(lines))]


def lines_for(groups: Sequence[Group], agent: str) -> list[Line]:
    """The lines that ``agent`` follows: of all groups that name it, or else of those for ``*``."""
    for name in (agent.lower(), "*"):
        if named := [group for group in groups if name in group.agents]:
            return [line for group in named for line in group.lines]
    return []


def barring(lines: Sequence[Line], path: str) -> str | None:
    """The ``Disallow`` pattern that bars ``path``; None where it may be fetched.

    The longest pattern that matches decides, and ``Allow`` where two are as long. An empty pattern matches nothing.
    """
    found = [
        (len(normalized(line.value)), line.name == "allow", line.value)
        for line in lines
        if line.name in ("allow", "disallow") and line.value and matches(line.value, path)
    ]
    return None if not found or max(found)[1] else max(found)[2]


def matches(pattern: str, path: str) -> bool:
    """Whether ``path`` begins as ``pattern`` says; ``*`` is any run of characters, ``$`` at the end the path's end."""
    at, ends = 0, pattern.endswith("$")
    where = normalized(path)
    first, *rest = normalized(pattern.removesuffix("$") if ends else pattern).split("*")
    if not where.startswith(first):
        return False
    at = len(first)
    last = rest.pop() if rest else None
    for part in rest:
        if (found := where.find(part, at)) < 0:
            return False
        at = found + len(part)
    if not ends:
        return last is None or where.find(last, at) >= 0
    return len(where) == at if last is None else where.endswith(last) and len(where) - len(last) >= at


def path_of(url: str) -> str:
    """Path and query of ``url``; ``/`` where it has none or is no URL."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "/"
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def normalized(path: str) -> str:
    """``path`` in the one spelling that is compared: unreserved characters plain, all others escaped in upper case."""

    def plain(escape: re.Match[str]) -> str:
        value = int(escape[0][1:], 16)
        return chr(value) if value in _UNRESERVED else escape[0].upper()

    return _ESCAPE.sub(plain, quote(path.encode("utf-8", "surrogatepass"), safe="%/*$?&=+,;:@!'()#[]~"))
