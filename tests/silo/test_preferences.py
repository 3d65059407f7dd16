"""Publishers' machine-readable signals, in tables: what reserves a text, what does not, and what is no signal."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silo.documents import Document
from silo.preferences import AI_AGENTS, preference
from silo.robots import barring, lines_for, matches, path_of, read_groups

URL = "https://press.example.org/stories/1?page=2"

RESERVED = {
    "TDMRep header": ("TDMRep", {"headers": {"tdm-reservation": "1"}}),
    "TDMRep header in any case, as a number": ("TDMRep", {"headers": {"TDM-Reservation": 1}}),
    "TDMRep header among pairs": ("TDMRep", {"headers": [["date", "x"], ["tdm-reservation", " 1 "]]}),
    "TDMRep meta": ("TDMRep", {"meta": {"tdm-reservation": "1"}}),
    "tdmrep.json": ("TDMRep", {"tdmrep": [{"location": "/", "tdm-reservation": 1}]}),
    "tdmrep.json as text": ("TDMRep", {"tdmrep": '[{"location": "/stories/*", "tdm-reservation": 1}]'}),
    "tdmrep.json, one rule of two": (
        "TDMRep",
        {"tdmrep": [{"location": "/", "tdm-reservation": 0}, {"location": "/stories", "tdm-reservation": 1}]},
    ),
    "AIPREF header": ("AIPREF", {"headers": {"Content-Usage": "train-ai=n"}}),
    "AIPREF header with others": ("AIPREF", {"headers": {"content-usage": "search=y, train-ai=n;exceptions=x"}}),
    "AIPREF in two headers": ("AIPREF", {"headers": {"content-usage": ["train-ai=y", "train-ai=n"]}}),
    "AIPREF, generative use": ("AIPREF", {"headers": {"content-usage": "ai-use=n"}}),
    "AIPREF, an earlier label": ("AIPREF", {"headers": {"content-usage": "genai=n"}}),
    "AIPREF in robots.txt": ("AIPREF", {"robots": "User-agent: *\nContent-Usage: train-ai=n\nAllow: /"}),
    "AIPREF in robots.txt for a path": ("AIPREF", {"robots": "User-agent: *\nContent-Usage: /stories/ train-ai=n"}),
    "AIPREF in robots.txt, the longer path": (
        "AIPREF",
        {"robots": "User-agent: *\nContent-Usage: train-ai=y\nContent-Usage: /stories/ train-ai=n"},
    ),
    "AIPREF in robots.txt for no agent": ("AIPREF", {"robots": "Content-Usage: train-ai=n"}),
    "AIPREF in robots.txt for an AI agent": ("AIPREF", {"robots": "User-agent: gptbot\nContent-Usage: train-ai=n"}),
    "Content-Signal": (
        "Content-Signal",
        {"robots": "User-agent: *\nContent-Signal: search=yes, ai-train=no\nAllow: /"},
    ),
    "Content-Signal for answers": ("Content-Signal", {"robots": "User-agent: *\nContent-Signal: ai-input=no"}),
    "noai": ("X-Robots-Tag", {"headers": {"X-Robots-Tag": "noai"}}),
    "noai among others": ("X-Robots-Tag", {"headers": {"x-robots-tag": "noindex, NoAI"}}),
    "noimageai": ("X-Robots-Tag", {"headers": {"x-robots-tag": "noimageai"}}),
    "noai in the second tag": ("X-Robots-Tag", {"headers": {"x-robots-tag": ["nosnippet", "noai"]}}),
    "noai for an AI agent": ("X-Robots-Tag", {"headers": {"x-robots-tag": "googlebot: noindex, gptbot: all, noai"}}),
    "noai after a date": (
        "X-Robots-Tag",
        {"headers": {"x-robots-tag": "unavailable_after: 1 Jan 2030 10:00 GMT, noai"}},
    ),
    "robots meta": ("robots meta", {"meta": {"robots": "noai, noimageai"}}),
    "robots meta for an AI agent": ("robots meta", {"meta": {"CCBot": "noai"}}),
    "robots.txt bars an AI agent": ("robots.txt", {"robots": "User-agent: GPTBot\nDisallow: /"}),
    "robots.txt bars it in a group of many": (
        "robots.txt",
        {"robots": "User-agent: a\nUser-agent: CCBot # theirs\nCrawl-delay: 1\nDisallow: /stories"},
    ),
    "robots.txt bars it in its second group": (
        "robots.txt",
        {"robots": "User-agent: CCBot\nAllow: /a\n\nUser-agent: b\nAllow: /\n\nUser-agent: ccbot\nDisallow: /stories/"},
    ),
    "robots.txt bars everyone": ("robots.txt", {"robots": "User-agent: *\nDisallow: /"}),
    "robots.txt lets in all but most AI": (
        "robots.txt",
        {"robots": "User-agent: *\nDisallow: /\n\nUser-agent: GPTBot\nAllow: /\n\nUser-agent: Googlebot\nAllow: /"},
    ),
    "robots.txt with a byte order mark": ("robots.txt", {"robots": "\ufeffUser-agent: GPTBot\r\nDisallow: /\r\n"}),
    "robots.txt by pattern": ("robots.txt", {"robots": "User-agent: GPTBot\nDisallow: /*?page="}),
}

ALLOWED = {
    "nothing": {},
    "TDMRep 0": {"headers": {"tdm-reservation": "0"}, "meta": {"tdm-reservation": 0}},
    "TDMRep that is neither": {"headers": {"tdm-reservation": "yes"}, "meta": {"tdm-reservation": "10"}},
    "a policy alone": {"headers": {"tdm-policy": "https://press.example.org/policy.json"}},
    "tdmrep.json for another path": {"tdmrep": [{"location": "/archive/*", "tdm-reservation": 1}]},
    "tdmrep.json, true": {"tdmrep": [{"location": "/", "tdm-reservation": True}]},
    "tdmrep.json that is none": {"tdmrep": "{"},
    "tdmrep.json of other shapes": {"tdmrep": [1, None, {"location": 7, "tdm-reservation": 1}, {"tdm-reservation": 1}]},
    "tdmrep.json, deep": {"tdmrep": "[" * 100_000},
    "AIPREF y": {"headers": {"content-usage": "train-ai=y"}},
    "AIPREF, the last of two keys": {"headers": {"content-usage": "train-ai=n, train-ai=y"}},
    "AIPREF about search": {"headers": {"content-usage": "search=n"}},
    "AIPREF of no value": {"headers": {"content-usage": "train-ai, train-ai=?0"}},
    "AIPREF in robots.txt for another path": {"robots": "User-agent: *\nContent-Usage: /archive/ train-ai=n"},
    "AIPREF in robots.txt, the longer path": {
        "robots": "User-agent: *\nContent-Usage: train-ai=n\nContent-Usage: /stories/ train-ai=y"
    },
    "AIPREF in robots.txt for another agent": {"robots": "User-agent: Googlebot\nContent-Usage: train-ai=n"},
    "Content-Signal yes": {"robots": "User-agent: *\nContent-Signal: search=no, ai-train=yes, ai-input=yes"},
    "other tags": {"headers": {"x-robots-tag": "noindex, nofollow, max-snippet: 20"}, "meta": {"robots": "noindex"}},
    "noai for another agent": {"headers": {"x-robots-tag": "googlebot: noai"}},
    "noai in a description": {"meta": {"description": "noai", "keywords": "gptbot, noai"}},
    "robots.txt bars another agent": {"robots": "User-agent: Googlebot\nDisallow: /"},
    "robots.txt bars another path": {"robots": "User-agent: GPTBot\nDisallow: /archive/\nDisallow: /stories/12"},
    "robots.txt bars nothing": {"robots": "User-agent: *\nDisallow:"},
    "robots.txt allows the longer path": {"robots": "User-agent: *\nDisallow: /\nAllow: /stories/"},
    "robots.txt in a comment": {"robots": "# User-agent: GPTBot\n# Disallow: /"},
    "robots.txt that is a page": {"robots": "<html><body>Not found: see above</body></html>"},
    "shapes of other makers": {"headers": ["Chapter 1", "noai"], "meta": "noai", "robots": 7, "tdmrep": {"a": 1}},
}


@pytest.mark.parametrize(("signal", "metadata"), RESERVED.values(), ids=RESERVED.keys())
def test_a_reservation_refuses_the_document_and_says_where_it_stands(signal, metadata):
    said = preference(Document("a", "text", url=URL, metadata=metadata))
    assert (said.allowed, said.signal) == (False, signal)
    assert said.evidence and said.signal in said.reason and len(said.evidence) <= 200


@pytest.mark.parametrize("metadata", ALLOWED.values(), ids=ALLOWED.keys())
def test_what_reserves_nothing_allows(metadata):
    assert preference(Document("a", "text", url=URL, metadata=metadata)).allowed


def test_a_document_without_a_url_is_taken_for_the_hosts_first_page():
    whole, part = "User-agent: *\nDisallow: /", "User-agent: *\nDisallow: /stories"
    assert not preference(Document("a", "text", metadata={"robots": whole})).allowed
    assert preference(Document("a", "text", metadata={"robots": part})).allowed


@pytest.mark.parametrize("agent", AI_AGENTS)
def test_each_agent_of_the_list_is_heard(agent):
    assert not preference(
        Document("a", "text", metadata={"robots": f"User-agent: {agent.upper()}\nDisallow: /"})
    ).allowed


PATTERNS = {
    "/": ("/ /a /a/b?c", ""),
    "/a": ("/a /ab /a/b", "/ /b /A"),
    "/a/": ("/a/ /a/b", "/a /ab"),
    "/a$": ("/a", "/ab /a/ /a?b"),
    "/*.pdf": ("/x.pdf /x.pdf?a /x/y.pdf", "/pdf /x.PDF"),
    "/*.pdf$": ("/x.pdf /.pdf /x.pdf.pdf", "/x.pdf?a"),
    "/a*b*c": ("/abc /axbxc /abbcc", "/acb /ab"),
    "/a*a$": ("/aa /axa", "/a /aab"),
    "*": ("/ /a", ""),
    "/a**b": ("/ab /axb", "/a"),
    "/caf%C3%A9": ("/café /caf%c3%a9 /caf%C3%A9s", "/cafe"),
    "/%7Ea%2Fb": ("/~a%2fb", "/~a/b"),
    "": ("/ /a", ""),
}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_matches_as_the_rfc_says(pattern):
    yes, no = (paths.split() for paths in PATTERNS[pattern])
    assert [path for path in yes + no if matches(pattern, path)] == yes


@given(st.text(alphabet="ab*$/", max_size=12), st.text(alphabet="ab/", max_size=12))
def test_patterns_match_as_a_regular_expression_made_of_them(pattern, path):
    anchored = pattern.endswith("$")
    body = pattern.removesuffix("$") if anchored else pattern
    expression = ".*".join(re.escape(part) for part in body.split("*")) + ("$" if anchored else "")
    assert matches(pattern, path) == bool(re.match(expression, path))


def test_a_pattern_of_many_stars_takes_no_longer_than_it_is():
    assert not matches("/" + "*a" * 2000 + "b", "/" + "a" * 20_000)


def test_allow_wins_between_patterns_of_one_length():
    lines = lines_for(read_groups("User-agent: *\nDisallow: /a\nAllow: /a\nDisallow: /ab"), "any")
    assert (barring(lines, "/ax"), barring(lines, "/abx")) == (None, "/ab")


@given(st.text(), st.text())
def test_no_text_of_a_robots_file_or_url_stops_the_reading(text, url):
    preference(Document("a", "text", url=url, metadata={"robots": text, "tdmrep": text, "headers": {text: text}}))
    assert path_of(url)


def test_build_and_add_refuse_reserved_documents_and_list_them_with_the_reason(
    llama, manual, tmp_path, monkeypatch, capsys
):
    from datastore.store import Datastore
    from silo.commands import add, build
    from silo.lm import LanguageModel

    monkeypatch.setattr(LanguageModel, "load", lambda *_: llama)

    def written(name: str, first: int, license: str = "", **metadata: object) -> str:  # noqa: A002
        texts = [page.text for page in manual(first, first + 2, "PSF-2.0")]
        rows = [{"id": f"page-{first}", "text": texts[0], "license": license}]
        rows += [{"id": f"page-{first + 1}", "text": texts[1], "license": license, "metadata": metadata}]
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(tmp_path / name)

    licensed = written("licensed.jsonl", 10, "PSF-2.0")
    path, model = tmp_path / "store", str(tmp_path)
    build(path, [written("a.jsonl", 0, headers={"tdm-reservation": "1"})], model, [licensed], lists=2)
    assert "refused page-1: its publisher reserves it (TDMRep): header tdm-reservation: 1" in _lines(capsys)
    add(path, [written("b.jsonl", 2, robots="User-agent: GPTBot\nDisallow: /")], model)
    barred = "its publisher reserves it (robots.txt): robots.txt bars GPTBot: Disallow: /"
    assert f"refused page-3: {barred}" in _lines(capsys)
    add(path, [written("c.jsonl", 4, headers={"tdm-reservation": "0"})], model)
    stored = [document.facts.id for document in Datastore.open(path).documents()]
    assert stored == [f"page-{n}" for n in (0, 2, 4, 5)], "the last is the control: a signal that reserves nothing"


def _lines(capsys) -> list[str]:
    return capsys.readouterr().out.splitlines()
