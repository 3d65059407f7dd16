"""What a publisher's machine-readable signals say of a document: may it be used here?

Pure; reads what whoever fetched the document wrote into its metadata. A signal that reserves the text is a standing
refusal: the document does not enter the datastore, whatever its license. One reservation in one place is enough, so
the order in which the standards rank their places does not matter here; silence allows. Within robots.txt the longest
path decides, as its RFC has it.

========================  =============================================================================================
``metadata["headers"]``   HTTP fields of the response: ``{name: value}``, a value may be a list; or a list of pairs
``metadata["meta"]``      ``<meta name= content=>`` of the page, in the same shapes
``metadata["robots"]``    the text of the host's ``/robots.txt``
``metadata["tdmrep"]``    the host's ``/.well-known/tdmrep.json``: its text or the list in it
========================  =============================================================================================

Other keys and other shapes say nothing. What is read, and where it is defined:

- TDMRep: ``tdm-reservation: 1`` as a header, a meta element, or a rule of ``tdmrep.json`` whose location matches the
  URL's path. W3C, *TDM Reservation Protocol*, final community group report, 2024.
- AIPREF: ``Content-Usage: train-ai=n`` as a header, or as a line of robots.txt, there for a path perhaps.
  draft-ietf-aipref-attach and draft-ietf-aipref-vocab, not yet an RFC: labels that later and earlier drafts used for
  generative use are read too, ``search`` is not, which is about finding a page.
- Content Signals: ``Content-Signal: ai-train=no`` or ``ai-input=no`` as a line of robots.txt, which Cloudflare writes.
- X-Robots-Tag and robots meta: ``noai``, ``noimageai`` (one who keeps images from AI is asked first), ``noml``. In use
  and in no standard. A tag for one agent counts if it is one of ``AI_AGENTS``, or names none.
- robots.txt: the URL's path barred for one of ``AI_AGENTS``, by its own group or, where it has none, by the one for
  ``*``. RFC 9309. Without a URL the path is ``/``.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from silo.documents import Document
from silo.robots import barring, lines_for, matches, normalized, path_of, read_groups

HEADERS, META, ROBOTS, TDMREP = "headers", "meta", "robots", "tdmrep"

AI_AGENTS = (
    "GPTBot",
    "ClaudeBot",
    "anthropic-ai",
    "Google-Extended",
    "CCBot",
    "Applebot-Extended",
    "Bytespider",
    "meta-externalagent",
    "Amazonbot",
    "cohere-ai",
    "cohere-training-data-crawler",
    "Diffbot",
    "AI2Bot",
    "omgili",
    "PerplexityBot",
    "ChatGPT-User",
)
"""Crawlers that say of themselves that they gather text for language models or for their answers."""

AIPREF_LABELS = frozenset(("train-ai", "ai-use", "train-genai", "genai", "ai", "tdm", "bots"))
"""Uses that a ``Content-Usage`` of ``n`` keeps from us."""
CONTENT_SIGNALS = frozenset(("ai-train", "ai-input"))
"""Uses that a ``Content-Signal`` of ``no`` keeps from us."""
_USAGE_LINES = {
    "content-usage": ("AIPREF", AIPREF_LABELS, "n"),
    "content-signal": ("Content-Signal", CONTENT_SIGNALS, "no"),
}
"""By the name of a line of robots.txt: the signal, the labels that concern us, and how each is denied."""
NO_AI = frozenset(("noai", "noimageai", "noml"))
_RULES_WITH_VALUES = frozenset(("unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"))
_ROBOTS_META = frozenset(("robots", *map(str.lower, AI_AGENTS)))
_EVIDENCE = 200
"""Characters of a signal that are told."""


@dataclass(frozen=True)
class Preference:
    """What the signals of a document say together."""

    allowed: bool
    signal: str = ""
    """Which one reserves it: ``TDMRep``, ``AIPREF``, ``X-Robots-Tag``, ``Content-Signal``, ``robots meta`` or
    ``robots.txt``."""
    evidence: str = ""
    """Where it stands and what it says."""

    @property
    def reason(self) -> str:
        """Why the document is refused, for people."""
        return f"its publisher reserves it ({self.signal}): {self.evidence}"


def preference(document: Document) -> Preference:
    """The first signal in ``document.metadata`` that reserves it; allowed where there is none."""
    path = path_of(document.url)
    for signal, evidence in _reservations(document.metadata, path):
        return Preference(False, signal, " ".join(evidence.split())[:_EVIDENCE])
    return Preference(True)


def _reservations(metadata: Mapping[str, object], path: str) -> Iterator[tuple[str, str]]:
    for place, key in (("header", HEADERS), ("meta", META)):
        for name, value in _fields(metadata.get(key)):
            shown = f"{place} {name}: {value}"
            if name == "tdm-reservation" and _is_one(value):
                yield "TDMRep", shown
            elif name == "content-usage" and _is_reserved(value):
                yield "AIPREF", shown
            elif place == "header" and name == "x-robots-tag" and _says_no_ai(value):
                yield "X-Robots-Tag", shown
            elif place == "meta" and name in _ROBOTS_META and _says_no_ai(value):
                yield "robots meta", shown
    if (location := _tdmrep(metadata.get(TDMREP), path)) is not None:
        yield "TDMRep", f"tdmrep.json: location {location}, tdm-reservation 1"
    robots = metadata.get(ROBOTS)
    if isinstance(robots, str):
        yield from _robots(robots, path)


def _robots(text: str, path: str) -> Iterator[tuple[str, str]]:
    groups = read_groups(text)
    for_all = [line for group in groups if not group.agents for line in group.lines]
    for agent in AI_AGENTS:
        lines = lines_for(groups, agent)
        if (pattern := barring(lines, path)) is not None:
            yield "robots.txt", f"robots.txt bars {agent}: Disallow: {pattern}"
        for name, (signal, labels, no) in _USAGE_LINES.items():
            stated = [_path_and_usage(line.value) for line in [*for_all, *lines] if line.name == name]
            here = [(len(normalized(where)), usage) for where, usage in stated if matches(where, path)]
            longest = max(here, default=(0, ""))[0]
            for usage in (usage for length, usage in here if length == longest):
                if _is_reserved(usage, labels, no):
                    yield signal, f"robots.txt for {agent}: {name}: {usage}"


def _path_and_usage(value: str) -> tuple[str, str]:
    """The path pattern of a ``Content-Usage`` line, ``/`` where it has none, and the preferences."""
    first, _, rest = value.partition(" ")
    return (first, rest) if first.startswith("/") else ("/", value)


def _fields(value: object) -> Iterator[tuple[str, str]]:
    """Name, in lower case, and value of each field in a mapping or a list of pairs."""
    pairs: Sequence[object] = []
    if isinstance(value, Mapping):
        pairs = list(value.items())
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        pairs = value
    for pair in pairs:
        if isinstance(pair, Sequence) and not isinstance(pair, str | bytes) and len(pair) == 2:
            name, held = pair
            many = held if isinstance(held, Sequence) and not isinstance(held, str | bytes) else [held]
            for one in many:
                if isinstance(name, str) and isinstance(one, str | int):
                    yield name.strip().lower(), str(one)


def _is_one(value: object) -> bool:
    """TDMRep: 1 reserves; 0, and whatever is neither, does not."""
    return isinstance(value, str | int) and str(value).strip() == "1"


def _is_reserved(value: str, labels: frozenset[str] = AIPREF_LABELS, no: str = "n") -> bool:
    """Whether one of ``labels`` is ``no``. A dictionary of RFC 9651: the last of two equal keys counts."""
    found = {}
    for member in value.split(","):
        key, _, preferred = member.partition(";")[0].partition("=")
        found[key.strip().lower()] = preferred.strip().lower()
    return any(found.get(label) == no for label in labels)


def _says_no_ai(value: str) -> bool:
    """Whether the rules of one robots tag, for all agents or for an AI agent, keep AI out.

    ``agent: rule, rule`` is for that agent, up to the next one named.
    """
    is_for_us = True
    for part in value.lower().split(","):
        agent, colon, rule = part.partition(":")
        if colon and agent.strip() not in _RULES_WITH_VALUES:
            is_for_us = agent.strip() in _ROBOTS_META
        else:
            rule = part
        if is_for_us and rule.strip() in NO_AI:
            return True
    return False


def _tdmrep(value: object, path: str) -> str | None:
    """The location of the first rule of a tdmrep.json that reserves ``path``, be there others that do not."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        return None
    for rule in value:
        if isinstance(rule, Mapping) and isinstance(location := rule.get("location"), str):
            pattern = location if location.startswith(("/", "*")) else f"/{location}"
            if _is_one(rule.get("tdm-reservation")) and matches(pattern, path):
                return location
    return None
