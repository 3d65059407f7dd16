"""Over a thousand attempts at documents of somebody else's, drawn with a seed: none gains anything, or learns anything.

The fetcher is the real one; what stands for the internet is a resolver and hosts that say what an attacker would have
them say. The control is that the rightful accounts succeed by the same doors, with the same internet, afterwards.
"""

import ipaddress
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Engine as Database
from sqlalchemy import event
from werkzeug.test import TestResponse

from datastore.receipts import receipt_from_json
from datastore.verification import verify
from serving import create_app
from serving.access import Access
from serving.engine import Engine
from serving.keys import KeyBook, Limits, Scope
from tests.conftest import NOON, lattice_document
from tests.serving.conftest import ScriptedSilo
from tests.serving.internet import Internet, saying
from tests.serving.portal_visitor import HOST, OWNER, owned

PUBLIC, MALICE = "93.184.215.14", "151.101.1.69"
STRANGER = Ed25519PrivateKey.from_private_bytes(bytes(range(32, 64)))
INSIDE = [
    ipaddress.ip_network(net)
    for net in (
        "0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.2.0/24 192.168.0.0/16 "
        "198.18.0.0/15 224.0.0.0/4 240.0.0.0/4 ::1/128 fc00::/7 fe80::/10 ff00::/8 64:ff9b:1::/48 ::ffff:10.0.0.0/104 "
        "::ffff:127.0.0.0/104 64:ff9b::7f00:0/104 64:ff9b::a00:0/104 2002:7f00::/24"
    ).split()
]
LOOK_ALIKES = (
    "example.org",
    "www.press.example.org",
    "press.example.org.evil.example.net",
    "press-example.org",
    "pres.example.org",
    "press.example.com",
    "xn--prss-dqa.example.org",
    "evil.example.net",
)
STRANGE_URLS = (
    f"https://{HOST}@evil.example.net/",
    f"https://evil.example.net@{HOST}/",
    f"https://{HOST}:8443/",
    f"https://{HOST}./",
    f"https://{HOST}\\@evil.example.net/",
    f"https://{HOST}%2eevil.example.net/",
    "https://pre\u0455s.example.org/",
    "https://127.0.0.1/",
    "https://0x7f.1/",
    "https://[::ffff:127.0.0.1]/",
    "https://localhost/",
    "https://metadata.internal/",
    f"ftp://{HOST}/",
    f"//{HOST}/",
)


Ask = Callable[..., TestResponse]


@dataclass
class Scene:
    """Two accounts, and what the victim's has already done."""

    victim: Ask
    attacker: Ask
    internet: Internet
    own: dict[str, str]
    """The victim's requests by document; those for ``out`` documents are accepted."""
    challenges: dict[str, dict]
    theirs: dict[str, str]
    """The attacker's own requests, by document."""


@pytest.fixture
def store(make_store):
    documents = [owned(lattice_document(f"doc-{i}", seed=i)) for i in range(4)]
    strange = [
        owned(lattice_document(f"strange-{i}", seed=50 + i), url=url, metadata={}) for i, url in enumerate(STRANGE_URLS)
    ]
    store = make_store(documents + strange)
    yield store
    store.close()


@pytest.fixture
def scene(store, tmp_path) -> Iterator[Scene]:
    book, internet = KeyBook(tmp_path / "keys.sqlite"), Internet(resolved=[[PUBLIC]])
    app = create_app(Engine(ScriptedSilo(store), clock=lambda: NOON), hosts=internet, access=Access.of(book))

    def account() -> Ask:
        secret, _ = book.create("someone", [Scope.OWNER], Limits(requests_per_minute=1_000_000), now=NOON)
        web, headers = app.test_client(), {"Authorization": f"Bearer {secret}"}
        return lambda path, body=None: web.open(
            f"/v1/{path}", method="GET" if body is None else "POST", json=body, headers=headers
        )

    victim, attacker = account(), account()
    own = {name: victim("opt-outs", {"document": name}).json["id"] for name in ("doc-0", "doc-1", "doc-2", "doc-3")}
    ways = {"doc-0": "key", "doc-1": "dns", "doc-2": "file", "doc-3": "key"}
    challenges = {name: victim(f"opt-outs/{own[name]}/challenge", {"method": way}).json for name, way in ways.items()}
    theirs = {
        document.facts.id: attacker("opt-outs", {"document": document.facts.id}).json["id"]
        for document in store.documents()
    }
    assert accept(victim, own["doc-3"], challenges["doc-3"]) == "accepted"
    yield Scene(victim, attacker, internet, own, challenges, theirs)
    book.engine.dispose()


def accept(ask: Ask, request: str, asked: dict) -> str:
    """Prove by what the challenge asks for; the state after it."""
    signed = {"signature": OWNER.sign(asked["message"].encode()).hex()} if asked["method"] == "key" else {}
    return ask(f"opt-outs/{request}/proof", {"method": asked["method"], "token": asked["token"]} | signed).json["state"]


def told(response: TestResponse) -> tuple[int, list[tuple[str, str]], bytes]:
    """All that an answer tells, but for the name that each problem has of its own."""
    problem = response.json
    return (
        response.status_code,
        sorted(response.headers),
        response.data.replace(problem.get("instance", " ").encode(), b""),
    )


class Attacks:
    """Each kind makes one attempt and says whether it was turned down."""

    def __init__(self, scene: Scene, rng: random.Random) -> None:
        self.scene, self.rng = scene, rng
        self.running: dict[str, dict] = {}
        self.kinds = {name: getattr(self, name) for name in vars(type(self)) if not name.startswith("_")}

    def foreign_request(self) -> bool:
        """Someone else's request, with any token and signature that there is; as one that never was."""
        foreign, unknown = self.rng.choice(list(self.scene.own.values())), f"{self.rng.getrandbits(128):032x}"
        known = [*self.scene.challenges.values(), {"token": f"{self.rng.getrandbits(256):064x}", "message": "x"}]
        asked, signed = self.rng.choice(known), self.rng.choice(known)
        signature = self.rng.choice([OWNER, STRANGER]).sign(signed["message"].encode()).hex()
        path, body = self.rng.choice(
            [
                ("", None),
                ("/receipt", None),
                ("/challenge", {"method": self.rng.choice(["key", "dns", "file"])}),
                ("/proof", {"method": "key", "token": asked["token"], "signature": signature}),
                ("/proof", {"method": self.rng.choice(["dns", "file"]), "token": asked["token"]}),
                ("/proof", {"method": "possession", "text": "a text"}),
            ]
        )
        answers = [told(self.scene.attacker(f"opt-outs/{name}{path}", body)) for name in (foreign, unknown)]
        return answers[0] == answers[1] and answers[0][0] == 404

    def foreign_decision(self) -> bool:
        """To decide, or take out, without being an administrator."""
        request, decision = self.rng.choice(list(self.scene.own.values())), self.rng.choice(["accepted", "rejected"])
        if self.rng.random() < 0.5:
            return self.scene.attacker("optouts", {"document": f"doc-{self.rng.randrange(3)}"}).status_code == 403
        return self.scene.attacker(f"opt-outs/{request}/decision", {"decision": decision}).status_code == 403

    def foreign_key(self) -> bool:
        """The own request for someone else's document, answered with a key or a message that is another's."""
        asked = self._challenge("doc-0", "key")
        kept = self.scene.challenges["doc-0"]
        signature, token = self.rng.choice(
            [
                (STRANGER.sign(asked["message"].encode()), asked["token"]),
                (OWNER.sign(kept["message"].encode()), asked["token"]),
                (OWNER.sign(kept["message"].encode()), kept["token"]),
                (bytes(64), asked["token"]),
                (self.rng.randbytes(64), asked["token"]),
            ]
        )
        return self._is_refused("doc-0", {"method": "key", "token": token, "signature": signature.hex()})

    def look_alike_record(self) -> bool:
        """The right record at a name that resembles the right one."""
        asked = self._challenge("doc-1", "dns")
        shown = f"silo-challenge={asked['content']}"
        names = [f"_silo-challenge.{self.rng.choice(LOOK_ALIKES)}", HOST, asked["place"].upper(), f"{asked['place']}."]
        self.scene.internet.records = {self.rng.choice(names): [shown]}
        return self._is_refused("doc-1", {"method": "dns", "token": asked["token"]})

    def wrong_record(self) -> bool:
        """Another's answer, or nearly the right one, at the right name."""
        asked = self._challenge("doc-1", "dns")
        right, kept = f"silo-challenge={asked['content']}", self.scene.challenges["doc-1"]["content"]
        wrong = [f"silo-challenge={kept}", asked["content"], right[:-1], f"{right} ", right.upper(), asked["token"]]
        self.scene.internet.records = {asked["place"]: [self.rng.choice(wrong)]}
        return self._is_refused("doc-1", {"method": "dns", "token": asked["token"]})

    def strange_url(self) -> bool:
        """A document whose URL one reader takes for the owner's host, and another for the attacker's."""
        name = f"strange-{self.rng.randrange(len(STRANGE_URLS))}"
        body = {"method": self.rng.choice(["dns", "file"])}
        asked = len(self.scene.internet.asked)
        refused = self.scene.attacker(f"opt-outs/{self.scene.theirs[name]}/challenge", body).status_code == 403
        return refused and len(self.scene.internet.asked) == asked

    def redirect(self) -> bool:
        """To a host of the attacker's that shows it; with the right content in the redirect's own body."""
        asked = self._challenge("doc-2", "file")
        to = self.rng.choice([*LOOK_ALIKES, "127.0.0.1", HOST])
        status = self.rng.choice([201, 203, 206, 301, 302, 303, 307, 308, 404, 500])
        moved = saying(status, asked["content"], f"Location: https://{to}{self.rng.choice(['/', '/.well-known/x'])}")
        return self._is_file_refused(asked, [[PUBLIC]], {PUBLIC: moved, MALICE: saying(200, asked["content"])})

    def private_address(self) -> bool:
        """The owner's name leads inside, where something echoes the right content."""
        asked = self._challenge("doc-2", "file")
        inside = [self._inside() for _ in range(self.rng.randint(1, 3))]
        return self._is_file_refused(asked, [inside], dict.fromkeys(inside, saying(200, asked["content"])))

    def rebinding(self) -> bool:
        """The name is a public address when it is looked up first, and one inside when it is looked up again."""
        asked = self._challenge("doc-2", "file")
        inside = self._inside()
        answers = [[PUBLIC], [inside]] if self.rng.random() < 0.5 else [[inside, PUBLIC], [inside]]
        return self._is_file_refused(asked, answers, {inside: saying(200, asked["content"])})

    def wrong_file(self) -> bool:
        """What the victim's challenge asks for, or nearly the right file."""
        asked, kept = self._challenge("doc-2", "file"), self.scene.challenges["doc-2"]
        right = asked["content"]
        wrong = [
            kept["content"],
            right[:-1],
            f" {right}",
            f"{right}\n\n",
            right.upper(),
            asked["token"],
            right * 40,
            "",
        ]
        return self._is_file_refused(asked, [[PUBLIC]], {PUBLIC: saying(200, self.rng.choice(wrong))})

    def _challenge(self, document: str, method: str) -> dict:
        """The running challenge; now and then a new one."""
        if document in self.running and self.rng.random() < 0.8:
            return self.running[document]
        asked = self.scene.attacker(f"opt-outs/{self.scene.theirs[document]}/challenge", {"method": method})
        assert asked.status_code == 200
        self.running[document] = asked.json
        return self.running[document]

    def _is_refused(self, document: str, proof: dict) -> bool:
        return self.scene.attacker(f"opt-outs/{self.scene.theirs[document]}/proof", proof).status_code == 403

    def _is_file_refused(self, asked: dict, resolved: list, answers: dict[str, bytes]) -> bool:
        net = self.scene.internet
        net.resolved, net.answers, net.asked, net.connected = resolved, answers, [], []
        refused = self._is_refused("doc-2", {"method": "file", "token": asked["token"]})
        return refused and net.asked == [HOST] and set(net.connected) <= {PUBLIC}

    def _inside(self) -> str:
        net = self.rng.choice(INSIDE)
        return str(net[self.rng.randrange(min(net.num_addresses, 1 << 24))])


def test_of_a_thousand_attempts_across_accounts_none_is_accepted(scene, store):
    attacks = Attacks(scene, random.Random(20261124))
    done: Counter[str] = Counter()
    for n in range(1100):
        kind = list(attacks.kinds)[n % len(attacks.kinds)]
        assert attacks.kinds[kind](), f"attempt {n}, {kind}"
        done[kind] += 1
    assert done.total() >= 1000
    assert min(done.values()) >= 100
    assert {one.facts.id for one in store.documents() if one.state != "live"} == {"doc-3"}
    states = [scene.victim(f"opt-outs/{request}").json["state"] for request in scene.own.values()]
    assert states == ["challenged", "challenged", "challenged", "accepted"]

    net, asked = scene.internet, scene.challenges
    net.records = {asked["doc-1"]["place"]: [f"silo-challenge={asked['doc-1']['content']}"]}
    net.resolved, net.answers = [[PUBLIC]], {PUBLIC: saying(200, asked["doc-2"]["content"] + "\n")}
    for name in ("doc-0", "doc-1", "doc-2"):
        assert accept(scene.victim, scene.own[name], asked[name]) == "accepted", "the rightful account succeeds"
        receipt = receipt_from_json(scene.victim(f"opt-outs/{scene.own[name]}/receipt").json)
        verify(store, receipt)
        assert receipt.document == name


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("", None),
        ("/receipt", None),
        ("/challenge", {"method": "dns"}),
        ("/proof", {"method": "dns", "token": "0" * 64}),
        ("/proof", {"method": "possession", "text": "a text"}),
    ],
    ids=["look", "receipt", "challenge", "host", "text"],
)
def test_what_is_foreign_takes_the_same_steps_as_what_never_was(scene, path, body):
    """The same questions to the same databases, so the same time, give or take what no test can tell."""

    def steps(request: str) -> list[str]:
        seen: list[str] = []

        def note(*said) -> None:
            # What a key used is counted by the minute, which may change meanwhile.
            if "usage" not in said[2] and "SAVEPOINT" not in said[2]:
                seen.append(said[2])

        event.listen(Database, "before_cursor_execute", note)
        try:
            assert scene.attacker(f"opt-outs/{request}{path}", body).status_code == 404
        finally:
            event.remove(Database, "before_cursor_execute", note)
        return seen

    unknown = steps("0" * 32)
    assert len(unknown) > 1, json.dumps(unknown)
    assert [steps(request) for request in scene.own.values()] == [unknown] * len(scene.own)
