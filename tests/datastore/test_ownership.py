"""Proofs of ownership: the true ones are taken, once; forged ones, in every form that we could think of, are not."""

import random
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from datastore import requests as asked
from datastore.errors import BadHost, ProofRefused, RequestConflict
from datastore.hosts import MAX_BODY_BYTES, Fetched, file_path
from datastore.ownership import (
    SUBMITTER_KEY,
    TXT_VALUE,
    Binding,
    Challenge,
    HostProof,
    KeyProof,
    Method,
    Possession,
    check_key,
    check_signed,
)
from datastore.rationing import Quota
from datastore.request_states import State
from datastore.signing import public_hex

OWNER = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
STRANGER = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
HOST = "press.example.org"
N_ROUNDS = 12


@dataclass
class Hosts:
    """A network in memory: what hosts show, and where."""

    records: dict[str, list[str]] = field(default_factory=dict)
    files: dict[tuple[str, str], Fetched] = field(default_factory=dict)

    def txt(self, name: str) -> list[str]:
        return self.records.get(name, [])

    def well_known(self, host: str, path: str) -> Fetched:
        return self.files.get((host, path), Fetched(host, path, "93.184.216.34", 404, b"not found"))

    def show(self, given: Challenge, at: str = HOST, **changes: object) -> None:
        """Put up what ``given`` asks for, at host ``at``, with ``changes`` to the answer."""
        self.records[f"_silo-challenge.{at}"] = [f"{TXT_VALUE}{given.content}"]
        path = file_path(given.token)
        answer = Fetched(at, path, "93.184.216.34", 200, given.content.encode())
        self.files[at, path] = replace(answer, **changes)


@pytest.fixture
def store(make_store, documents):
    """Every document has the owner's key and a page on the owner's host, but the last, which has neither."""
    owned = [
        replace(
            d, facts=replace(d.facts, url=f"https://{HOST}/{d.facts.id}", metadata={SUBMITTER_KEY: public_hex(OWNER)})
        )
        for d in documents[:9]
    ]
    return make_store([*owned, documents[9]])


def opened(store, document: str, now, key: str = "k") -> str:
    return asked.open_request(store, document, key=f"{document} {key}", now=now).id


def signed(given: Challenge, by: Ed25519PrivateKey = OWNER) -> KeyProof:
    return KeyProof(given.token, by.sign(given.message).hex())


# --- what is taken


def test_the_key_that_submitted_a_document_proves_it(store, now):
    given = asked.challenge(store, id_ := opened(store, "doc-1", now), Method.KEY, now=now)
    assert given.place == public_hex(OWNER)
    assert asked.prove(store, id_, signed(given), now=now).state is State.VERIFIED


@pytest.mark.parametrize("method", [Method.DNS, Method.FILE])
def test_the_host_of_a_document_proves_it_once_it_shows_the_challenge(store, now, method):
    hosts, id_ = Hosts(), opened(store, "doc-1", now)
    given = asked.challenge(store, id_, method, now=now)
    with pytest.raises(ProofRefused, match=r"does not show|expected host"):
        asked.prove(store, id_, HostProof(given.token), now=now, hosts=hosts)
    hosts.show(given)
    done = asked.prove(store, id_, HostProof(given.token), now=now, hosts=hosts)
    assert (done.state, done.method) == (State.VERIFIED, method.value)
    where = {Method.DNS: f"_silo-challenge.{HOST}", Method.FILE: f"https://{HOST}{file_path(given.token)}"}
    assert given.place == where[method]


def test_an_answer_beside_other_records_counts(store, now):
    hosts, id_ = Hosts(), opened(store, "doc-1", now)
    given = asked.challenge(store, id_, Method.DNS, now=now)
    hosts.show(given)
    hosts.records[f"_silo-challenge.{HOST}"] = ["v=spf1 -all", f"{TXT_VALUE}{given.content}", "\udcff"]
    assert asked.prove(store, id_, HostProof(given.token), now=now, hosts=hosts).state is State.VERIFIED


def test_a_text_hides_and_verifies_nothing(store, documents, now):
    id_ = opened(store, "doc-9", now)
    loud = documents[9].text.upper().replace(" ", "\n")
    done = asked.prove(store, id_, Possession(loud), now=now, requester="someone")
    assert (done.state, done.method) == (State.PROVISIONAL, "possession")


# --- what is not


def forms(store, hosts: Hosts, now, document: str, other: str, odds: random.Random) -> dict:
    """Forged proofs by form: (request, proof, moment). Each is made of the best that a stranger could have."""
    mine, theirs = opened(store, document, now, f"{odds.random()}"), opened(store, other, now, f"{odds.random()}")
    given = asked.challenge(store, mine, Method.KEY, now=now)
    elsewhere = asked.challenge(store, theirs, Method.KEY, now=now)
    b, flip = given.binding, odds.randrange(64)
    good = signed(given).signature
    later = (now + asked.LIFETIME).isoformat()

    def rebound(**changes: str) -> KeyProof:
        return KeyProof(given.token, signed(Challenge(replace(b, **changes), given.token)).signature)

    assert len(good) == 128
    changed = bytearray(bytes.fromhex(good))
    changed[flip] ^= 1 << odds.randrange(8)
    return {
        "another key": (mine, signed(given, STRANGER), now),
        "one bit of the signature": (mine, KeyProof(given.token, changed.hex()), now),
        "upper case": (mine, KeyProof(given.token, good.upper()), now),
        "a signature cut short": (mine, KeyProof(given.token, good[: 2 * flip]), now),
        "no signature": (mine, KeyProof(given.token, ""), now),
        "a signature of zeros": (mine, KeyProof(given.token, "0" * 128), now),
        "no hex": (mine, KeyProof(given.token, "é" * 128), now),
        "the token alone signed": (mine, KeyProof(given.token, OWNER.sign(bytes.fromhex(given.token)).hex()), now),
        "for another request": (mine, rebound(request=theirs), now),
        "for another document": (mine, rebound(document=other), now),
        "for another store": (mine, rebound(store="0" * 32), now),
        "for another method": (mine, rebound(method="dns"), now),
        "for another holder": (mine, rebound(holder=public_hex(STRANGER)), now),
        "for another expiry": (mine, rebound(expires_at=(now + timedelta(days=99)).isoformat()), now),
        "the answer to another challenge": (mine, signed(elsewhere), now),
        "the signature of another challenge": (mine, KeyProof(given.token, signed(elsewhere).signature), now),
        "a token made up": (mine, KeyProof(odds.randbytes(32).hex(), good), now),
        "no token": (mine, KeyProof("", good), now),
        "half a character as token": (mine, KeyProof("\udcff", good), now),
        "what the store keeps of the token": (mine, KeyProof(asked.ownership.token_hash(given.token), good), now),
        "too late by nothing": (mine, signed(given), now + asked.LIFETIME),
        "too late by a year": (mine, signed(given), now + timedelta(days=365)),
        "a proof by host for a challenge by key": (mine, HostProof(given.token), now),
        "a later expiry and the time to match": (mine, rebound(expires_at=later + "Z"), now),
    }


def host_forms(store, now, method: Method, odds: random.Random) -> dict:
    """What hosts show that proves nothing, by form: (request, token, hosts)."""

    def case(**changes: object) -> tuple:
        id_, hosts = opened(store, "doc-1", now, f"{odds.random()}"), Hosts()
        given = asked.challenge(store, id_, method, now=now)
        hosts.show(given, **changes)
        return id_, given, hosts

    def with_content(make) -> tuple:
        id_, given, hosts = case()
        content = make(given)
        hosts.show(given, body=content.encode())
        hosts.records[f"_silo-challenge.{HOST}"] = [f"{TXT_VALUE}{content}", content]
        return id_, given, hosts

    found = {
        "on the parent": case(at="example.org"),
        "on a sibling": case(at="www.example.org"),
        "on a child": case(at=f"a.{HOST}"),
        "on a look-alike": case(at="press.examp1e.org"),
        "with a dot": case(at=f"{HOST}."),
        "the token": with_content(lambda given: given.token),
        "the path": with_content(lambda given: file_path(given.token)),
        "the message": with_content(lambda given: given.message.decode()),
        "for another store": with_content(lambda g: Challenge(replace(g.binding, store="0" * 32), g.token).content),
        "for another document": with_content(
            lambda g: Challenge(replace(g.binding, document="doc-2"), g.token).content
        ),
        "for another host": with_content(lambda g: Challenge(replace(g.binding, holder="a.org"), g.token).content),
        "for another token": with_content(lambda g: Challenge(g.binding, "0" * 64).content),
        "in upper case": with_content(lambda given: given.content.upper()),
        "and more": with_content(lambda given: f"{given.content} {given.content}"),
        "cut short": with_content(lambda given: given.content[:-1]),
        "nothing": with_content(lambda given: ""),
    }
    if method is Method.FILE:
        found |= {
            "moved": case(status=301),
            "not found, and the content in the error": case(status=404),
            "from a private address": case(address="10.0.0.7"),
            "from this machine": case(address="::1"),
            "from another host": case(host="attacker.example.org"),
            "from another path": case(path="/"),
            "in a long page": case(body=b" " * MAX_BODY_BYTES + b"x"),
        }
    return found


def test_no_forged_signature_is_taken_in_any_form(store, now):
    odds, n, names = random.Random(5), 0, set()
    for i in range(N_ROUNDS):
        document, other = f"doc-{i % 9}", f"doc-{(i + 1) % 9}"
        for name, (id_, proof, moment) in forms(store, Hosts(), now, document, other, odds).items():
            with pytest.raises(ProofRefused):
                asked.prove(store, id_, proof, now=moment, hosts=Hosts())
            assert asked.request(store, id_).state is State.CHALLENGED, name
            names.add(name)
            n += 1
    assert n >= 200 and len(names) >= 20
    assert not asked.requests(store, State.VERIFIED)
    id_ = opened(store, "doc-1", now, "the control")
    given = asked.challenge(store, id_, Method.KEY, now=now)
    end = now + asked.LIFETIME - timedelta(microseconds=1)
    assert asked.prove(store, id_, signed(given), now=end).state is State.VERIFIED, "the control, at the last moment"


@pytest.mark.parametrize("method", [Method.DNS, Method.FILE])
def test_nothing_else_that_a_host_shows_is_taken(store, now, method):
    names = set()
    for seed in range(6):
        for name, (id_, given, hosts) in host_forms(store, now, method, random.Random(seed)).items():
            with pytest.raises(ProofRefused):
                asked.prove(store, id_, HostProof(given.token), now=now, hosts=hosts)
            assert asked.request(store, id_).state is State.CHALLENGED, name
            hosts.show(given)
            hosts.show(given, "elsewhere.example.org")
            names.add(name)
            if seed == 0:  # the control: the same request, once the host shows the right thing
                assert asked.prove(store, id_, HostProof(given.token), now=now, hosts=hosts).state is State.VERIFIED
    assert len(names) >= 16


def test_a_host_that_echoes_what_it_is_asked_for_shows_nothing(store, now):
    class Echo(Hosts):
        def txt(self, name: str) -> list[str]:
            return [name, f"{TXT_VALUE}{name}"]

        def well_known(self, host: str, path: str) -> Fetched:
            return Fetched(host, path, "93.184.216.34", 200, path.rpartition("/")[2].encode())

    for method in (Method.DNS, Method.FILE):
        id_ = opened(store, "doc-1", now, method)
        given = asked.challenge(store, id_, method, now=now)
        with pytest.raises(ProofRefused, match="does not show"):
            asked.prove(store, id_, HostProof(given.token), now=now, hosts=Echo())


def test_a_host_that_cannot_be_asked_proves_nothing(store, now):
    class Down(Hosts):
        def txt(self, name: str) -> list[str]:
            raise TimeoutError("no answer")

    id_ = opened(store, "doc-1", now)
    given = asked.challenge(store, id_, Method.DNS, now=now)
    for hosts in (Down(), None):
        with pytest.raises(ProofRefused, match=r"could not be asked|no way to ask"):
            asked.prove(store, id_, HostProof(given.token), now=now, hosts=hosts)


def test_an_answer_is_good_once_and_for_the_newest_challenge_alone(store, now):
    id_ = opened(store, "doc-1", now)
    old, new = (asked.challenge(store, id_, Method.KEY, now=now) for _ in range(2))
    with pytest.raises(ProofRefused, match="newest"):
        asked.prove(store, id_, signed(old), now=now)
    asked.prove(store, id_, signed(new), now=now)
    with pytest.raises(RequestConflict):
        asked.prove(store, id_, signed(new), now=now)


def test_a_challenge_that_was_replaced_while_the_host_was_asked_proves_nothing(store, now):
    id_ = opened(store, "doc-1", now)
    given = asked.challenge(store, id_, Method.DNS, now=now)

    class Slow(Hosts):
        def txt(self, name: str) -> list[str]:
            asked.challenge(store, id_, Method.DNS, now=now)
            return super().txt(name)

    hosts = Slow()
    hosts.show(given)
    with pytest.raises(ProofRefused, match="newest"):
        asked.prove(store, id_, HostProof(given.token), now=now, hosts=hosts)
    assert asked.request(store, id_).state is State.CHALLENGED


def test_a_token_is_on_no_disk(store, now):
    given = asked.challenge(store, opened(store, "doc-1", now), Method.KEY, now=now)
    on_disk = b"".join(path.read_bytes() for path in store.path.rglob("*") if path.is_file())
    assert asked.ownership.token_hash(given.token).encode() in on_disk, "the control"
    assert given.token.encode() not in on_disk and bytes.fromhex(given.token) not in on_disk


def test_a_document_without_key_or_host_is_challenged_for_neither(store, now):
    id_ = opened(store, "doc-9", now)
    with pytest.raises(ProofRefused, match="without a key"):
        asked.challenge(store, id_, Method.KEY, now=now)
    for method in (Method.DNS, Method.FILE):
        with pytest.raises(BadHost, match="no URL"):
            asked.challenge(store, id_, method, now=now)
    with pytest.raises(ProofRefused, match="answers no challenge"):
        asked.challenge(store, id_, Method.POSSESSION, now=now)
    assert asked.request(store, id_).state is State.RECEIVED


@pytest.mark.parametrize("key", [7, None, "", "ab", "AB" * 32, "zz" * 32, "0a" * 31])
def test_what_is_no_key_is_not_taken_for_one(make_store, documents, now, key):
    store = make_store([replace(documents[0], facts=replace(documents[0].facts, metadata={SUBMITTER_KEY: key}))])
    with pytest.raises(ProofRefused):
        asked.challenge(store, opened(store, "doc-0", now), Method.KEY, now=now)


P = 2**255 - 19
SMALL = [y.to_bytes(32, "little") for y in (0, 1, P - 1, P, P + 1, 2**255, 2**255 + 1, P - 1 + 2**255, P + 2**255)] + [
    bytes.fromhex(y)
    for y in (
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    )
]


@pytest.mark.parametrize("key", SMALL, ids=[key.hex()[:8] + key.hex()[-2:] for key in SMALL])
def test_a_key_for_which_anyone_can_sign_is_refused(key):
    with pytest.raises(ProofRefused, match="small order"):
        check_key(key.hex())
    given = Challenge(Binding("s", "r", "d", Method.KEY, key.hex(), "2026-01-01T00:00:00+00:00"), "0" * 64)
    with pytest.raises(ProofRefused, match="small order"):
        check_signed(given, KeyProof(given.token, "01" + "00" * 63))


def test_for_a_key_of_small_order_a_signature_of_nothing_does_hold():
    """The control: without the check above, the neutral point would let anyone in."""
    identity = (1).to_bytes(32, "little")
    Ed25519PublicKey.from_public_bytes(identity).verify(identity + bytes(32), b"whatever a challenge says")


def test_a_text_that_is_not_the_documents_hides_nothing(store, documents, now):
    odds, words = random.Random(3), documents[8].text.split()
    forged = {
        "nothing": "",
        "another document": documents[7].text,
        "a prefix": " ".join(words[:-1]),
        "a suffix": " ".join(words[1:]),
        "one word more": " ".join([*words, "more"]),
        "one word changed": " ".join([*words[:5], "other", *words[6:]]),
        "two words swapped": " ".join([words[1], words[0], *words[2:]]),
        "twice": " ".join(words * 2),
        "its digest": documents[8].facts.digest,
        "half a character": documents[8].text + "a\udcff",
    }
    for _ in range(10):
        shuffled = odds.sample(words, len(words))
        forged[f"shuffled {odds.random()}"] = " ".join(shuffled)
    id_ = opened(store, "doc-8", now)
    for name, text in forged.items():
        with pytest.raises(ProofRefused):
            asked.prove(store, id_, Possession(text), now=now, requester=name, quota=Quota(1, 1.0))
        assert store.document("doc-8").state == "live", name
    proof = Possession(documents[8].text)
    assert asked.prove(store, id_, proof, now=now, requester="a").state is State.PROVISIONAL, "the control"


def test_a_text_of_a_few_words_could_be_guessed_and_hides_nothing(make_store, documents, now):
    short = replace(documents[0], text=documents[0].text.replace(". ", "aa"))  # eight words run into one
    store = make_store([short, documents[1]])
    for document, text in (("doc-0", short.text), ("doc-1", documents[1].text)):
        id_ = opened(store, document, now)
        if document == "doc-0":
            with pytest.raises(ProofRefused, match="guessed"):
                asked.prove(store, id_, Possession(text), now=now, requester="a")
        else:
            assert asked.prove(store, id_, Possession(text), now=now, requester="a").state is State.PROVISIONAL
