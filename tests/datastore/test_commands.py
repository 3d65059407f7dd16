"""The commands that need no LM: what they print, and the status they leave with."""

import json
import os
import shutil
import stat
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from datastore import requests as asked
from datastore.optout import opt_out
from datastore.ownership import Possession
from datastore.rationing import Quota
from datastore.receipts import check_receipt, parse_receipt
from datastore.request_states import State
from datastore.store import Datastore
from silo.cli import main

ROOT = Path(__file__).parents[2]


def registered(group: str) -> list[EntryPoint]:
    """The commands that ``pyproject.toml`` names, be the installed metadata older or not."""
    points = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"][group]
    return [EntryPoint(name, value, group) for name, value in points.items()]


@pytest.fixture
def silo(monkeypatch, capsys):
    """Runs ``silo`` with arguments; returns its status, what it printed, and what it complained of."""
    monkeypatch.setattr("silo.cli.entry_points", registered)

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["silo", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main()
        return (left.value.code or 0, *capsys.readouterr())

    return run


@pytest.fixture
def path(make_store, documents) -> Path:
    store = make_store(documents[:5], documents[5:])
    store.close()
    return store.path


def test_info_tells_what_a_store_is_and_holds(silo, path, now):
    status, out, _ = silo("datastore", "info", path)
    lines = out.splitlines()
    store = Datastore.open(path)
    assert (status, lines[0]) == (0, f"store      {store.id}, made {now.isoformat()}, epoch 2")
    assert lines[1].startswith("encoder    made-up (made-up…), 4 dimensions")
    assert "fitted on  1 licensed documents: 4 lists, kNN temperature 1" in lines
    assert lines[2] == "keys       4 dimensions as fp16"
    assert lines[4:] == ["documents  10 live", "entries    125"]
    opt_out(store, "doc-0", now=now)
    _, out, _ = silo("datastore", "info", path)
    assert out.splitlines()[4:] == ["documents  9 live, 1 removed", "entries    117"]


def test_info_lists_every_document_with_its_owner(silo, path):
    _, out, _ = silo("datastore", "info", path, "--documents")
    rows = [line.split("\t") for line in out.splitlines() if "\t" in line]
    assert rows[4] == ["doc-4", "live", "12", "LicenseRef-test", "owner of doc-4", ""]
    assert len(rows) == 10


def test_an_opt_out_its_receipt_its_verification_and_its_erasure(silo, path, documents, tmp_path):
    receipt, text = tmp_path / "receipt.json", tmp_path / "text.txt"
    text.write_text(documents[4].text)
    status, out, _ = silo("optout", "doc-4", "--store", path, "--receipt", receipt)
    assert status == 0
    assert out.startswith("accepted: doc-4 is out since ") and "(epoch 3, 12 entries)" in out
    check_receipt(parse_receipt(receipt.read_bytes()))

    status, out, _ = silo("datastore", "verify", receipt)
    assert (status, out) == (0, "verified: the receipt's signature and commitment are valid\n")
    status, out, _ = silo("datastore", "verify", receipt, "--store", path, "--text", text)
    assert (status, len(out.splitlines())) == (0, 7)
    assert "verified: its bytes are still in the files, out of service" in out

    status, out, _ = silo("datastore", "compact", path)
    assert (status, out) == (0, "erased 1 documents; 2 segments before, 1 after\n")
    status, out, _ = silo("datastore", "verify", receipt, "--store", path, "--text", text)
    assert (status, len(out.splitlines())) == (0, 8)
    assert "verified: no file of the store holds 48 bytes in a row of the text" in out
    assert silo("datastore", "compact", path)[1] == "erased 0 documents; 1 segments before, 1 after\n"


def test_asking_again_prints_the_same_receipt(silo, path):
    first, second = (silo("optout", "doc-4", "--store", path)[1] for _ in range(2))
    assert first == second
    parsed = parse_receipt(first[first.index("{") :].encode())
    assert (parsed.document, parsed.epoch) == ("doc-4", 3)


def test_a_receipt_is_checked_offline_against_the_log_s_head(silo, path, tmp_path, now):
    receipts = [opt_out(Datastore.open(path), name, now=now) for name in ("doc-4", "doc-5", "doc-6")]
    receipt, head, growth = tmp_path / "receipt.json", tmp_path / "head.json", tmp_path / "growth.json"
    receipt.write_text(json.dumps(receipts[0].to_json()))
    status, out, _ = silo("datastore", "log", path)
    shown = json.loads(out)
    assert (status, shown["size"], shown["root"]) == (0, 3, receipts[2].head.root)
    assert not any(trace in out for trace in ("doc-", receipts[0].salt, receipts[0].digest))
    head.write_text(out)
    growth.write_text(silo("datastore", "log", path, "--since", 1)[1])
    shutil.rmtree(path)
    status, _, complaint = silo("datastore", "verify", receipt, "--head", head)
    assert status == 2 and "silo datastore log STORE --since 1" in " ".join(complaint.split())
    status, out, _ = silo("datastore", "verify", receipt, "--head", head, "--growth", growth)
    assert status == 0
    assert out.splitlines()[1] == f"verified: it is leaf 0 of the log of 3 that was signed at {shown['timestamp']}"
    head.write_text(json.dumps(shown | {"size": 2}))
    assert silo("datastore", "verify", receipt, "--head", head, "--growth", growth)[0] == 2


def test_the_head_of_a_log_that_has_nothing_yet_is_signed_too(silo, path):
    status, out, _ = silo("datastore", "log", path)
    assert (status, json.loads(out)["size"]) == (0, 0)


def test_recover_says_what_it_wrote(silo, path, now):
    opt_out(Datastore.open(path), "doc-4", now=now)
    (path / "journal.jsonl").write_bytes(b"")
    expected = "0 opt-outs written to the catalog, 1 to the journal\n"
    assert silo("datastore", "recover", path)[:2] == (0, expected)
    assert silo("datastore", "recover", path)[1] == expected.replace("1", "0")


def test_verify_without_a_receipt_checks_the_files(silo, path):
    status, out, _ = silo("datastore", "verify", "--store", path)
    assert status == 0 and "2 segments" in out


def _spoiled(path: Path, tmp_path: Path) -> Path:
    receipt = json.loads(json.dumps(opt_out(Datastore.open(path), "doc-4", now=_noon()).to_json()))
    (tmp_path / "edited.json").write_text(json.dumps(receipt | {"document": "doc-5"}))
    return tmp_path / "edited.json"


def _noon():
    from datetime import UTC, datetime

    return datetime(2026, 1, 1, 12, tzinfo=UTC)


def _file(tmp_path: Path, data: bytes) -> Path:
    (tmp_path / "file").write_bytes(data)
    return tmp_path / "file"


REFUSED = {
    "optout of an unknown document": (
        lambda path, tmp: ["optout", "nobody", "--store", path],
        "no document 'nobody' was ever in this store. `silo datastore info --documents` lists them.",
    ),
    "optout with half a character": (
        lambda path, tmp: ["optout", "\udcff", "--store", path],
        "no document '\\udcff' was ever in this store",
    ),
    "optout from no store": (lambda path, tmp: ["optout", "doc-4", "--store", tmp], "holds no datastore"),
    "info on no store": (lambda path, tmp: ["datastore", "info", tmp / "missing"], "holds no datastore"),
    "compact on no store": (lambda path, tmp: ["datastore", "compact", tmp], "holds no datastore"),
    "verify of an edited receipt": (lambda path, tmp: ["datastore", "verify", _spoiled(path, tmp)], "was edited"),
    "verify of no JSON": (lambda path, tmp: ["datastore", "verify", _file(tmp, b"receipt")], "a receipt is a JSON"),
    "verify of no UTF-8": (lambda path, tmp: ["datastore", "verify", _file(tmp, b"\xff{}")], "a receipt is a JSON"),
    "verify of a missing file": (lambda path, tmp: ["datastore", "verify", tmp / "missing"], "missing"),
    "log of no store": (lambda path, tmp: ["datastore", "log", tmp], "holds no datastore"),
    "log since a size it never had": (lambda path, tmp: ["datastore", "log", path, "--since", "4"], "it never had 4"),
    "recover on no store": (lambda path, tmp: ["datastore", "recover", tmp], "holds no datastore"),
    "verify of a head alone": (
        lambda path, tmp: ["datastore", "verify", "--store", path, "--head", path],
        "checked against a receipt",
    ),
    "snapshot of no store": (lambda path, tmp: ["datastore", "snapshot", tmp, tmp / "new"], "holds no datastore"),
    "restore from no snapshot": (
        lambda path, tmp: ["datastore", "restore", path, tmp / "new", "--keys", path, "--journal", path],
        "holds no snapshot",
    ),
    "restore over a store": (
        lambda path, tmp: ["datastore", "restore", tmp, path, "--keys", path, "--journal", path],
        "never writes over a store",
    ),
    "restore with no log": (
        lambda path, tmp: ["datastore", "restore", tmp, tmp / "new", "--keys", path],
        "does not know what was opted out since",
    ),
    "rotate-key of no store": (lambda path, tmp: ["datastore", "rotate-key", tmp], "holds no datastore"),
    "verify of a chain alone": (
        lambda path, tmp: ["datastore", "verify", "--store", path, "--chain", path],
        "checked against a head",
    ),
    "verify of nothing": (lambda path, tmp: ["datastore", "verify"], "name a receipt, a --store, or both"),
}


@pytest.mark.parametrize(("arguments", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_status_2_and_one_clear_line_for(silo, path, tmp_path, arguments, message):
    before = Datastore.open(path).n_entries
    status, out, complaint = silo(*arguments(path, tmp_path))
    assert (status, out) == (2, "")
    assert message in complaint
    assert "Traceback" not in complaint
    assert Datastore.open(path).n_entries in (before, before - 12)


def test_verify_fails_on_a_torn_segment_and_names_the_file(silo, path):
    file = next(path.rglob("text.bin"))
    data = file.read_bytes()
    file.write_bytes(data[:-1])
    status, _, complaint = silo("datastore", "verify", "--store", path)
    assert (status, "text.bin was changed after it was written" in complaint) == (2, True)
    file.write_bytes(data)
    assert silo("datastore", "verify", "--store", path)[0] == 0


def test_a_snapshot_an_opt_out_and_a_restore_without_it(silo, path, tmp_path):
    snapshot, keys, restored = tmp_path / "snapshot", tmp_path / "keys", tmp_path / "restored"
    status, out, _ = silo("datastore", "snapshot", path, snapshot, "--keys", keys)
    assert status == 0 and out.splitlines()[0] == "snapshot of 10 documents at epoch 2, with a log of 0 opt-outs"
    head = _file(tmp_path, silo("datastore", "log", path)[1].encode())
    assert silo("datastore", "restore", snapshot, tmp_path / "now", "--keys", keys, "--head", head)[0] == 0
    silo("optout", "doc-4", "--store", path)
    newest = ("--keys", keys, "--journal", path / "journal.jsonl")
    head.write_text(silo("datastore", "log", path)[1])
    status, _, complaint = silo("datastore", "restore", snapshot, restored, "--keys", keys, "--head", head)
    assert status == 2 and "Name the newest journal" in complaint
    status, out, _ = silo("datastore", "restore", snapshot, restored, *newest)
    assert (status, out.splitlines()[0]) == (0, "restored 9 documents")
    assert "left out: doc-4, which was opted out since the snapshot" in out
    assert "documents  9 live, 1 erased" in silo("datastore", "info", restored)[1].splitlines()
    silo("datastore", "compact", path)
    _, out, _ = silo("datastore", "restore", snapshot, tmp_path / "again", *newest)
    assert "left out: 1 documents whose keys were destroyed" in out


def test_a_snapshot_without_a_copy_of_its_keys_says_what_that_means(silo, path, tmp_path):
    assert "make a copy elsewhere with --keys" in silo("datastore", "snapshot", path, tmp_path / "one")[1]
    out = silo("datastore", "snapshot", path, tmp_path / "two", "--keys", tmp_path / "keys")[1]
    assert "make a copy elsewhere" not in out and str(tmp_path / "keys") in out


def test_after_a_rotation_a_receipt_is_checked_offline_with_the_chain(silo, path, tmp_path):
    receipt, head, chain = tmp_path / "receipt.json", tmp_path / "head.json", tmp_path / "chain.json"
    silo("optout", "doc-4", "--store", path, "--receipt", receipt)
    status, out, _ = silo("datastore", "rotate-key", path)
    assert status == 0 and out.startswith("key 2 of the store, ") and "signs from 1 opt-outs on" in out
    head.write_text(silo("datastore", "log", path)[1])
    chain.write_text(silo("datastore", "log", path, "--chain")[1])
    shutil.rmtree(path)
    status, _, complaint = silo("datastore", "verify", receipt, "--head", head)
    assert status == 2 and "--chain" in complaint
    assert silo("datastore", "verify", receipt, "--head", head, "--chain", chain)[0] == 0
    chain.write_text(chain.read_text().replace('"log_size": 1', '"log_size": 2'))
    assert silo("datastore", "verify", receipt, "--head", head, "--chain", chain)[0] == 2


def test_the_signing_key_is_its_owner_s_alone(path):
    assert stat.S_IMODE((path / "signing-key.pem").stat().st_mode) == 0o600


def test_in_a_process_of_its_own_an_unknown_document_is_status_2_and_a_line(path):
    command = [sys.executable, "-W", "ignore", "-c", "from silo.cli import main; main()"]
    command += ["optout", "nobody", "--store", str(path)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ran = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert (ran.returncode, ran.stdout, len(ran.stderr.splitlines())) == (2, "", 1)
    assert ran.stderr.startswith("silo: no document 'nobody' was ever in this store")


def test_a_reviewer_lists_requests_and_decides(silo, path, documents, tmp_path, now):
    store = Datastore.open(path)
    ids = [asked.open_request(store, f"doc-{i}", key=str(i), now=now).id for i in (2, 4)]
    for i, id_ in zip((2, 4), ids, strict=True):
        asked.prove(store, id_, Possession(documents[i].text), now=now, requester="a", quota=Quota(9, 1.0))
    status, out, _ = silo("datastore", "requests", path)
    rows = [line.split("\t") for line in out.splitlines()]
    assert status == 0
    assert [[row[0], row[1], row[2], row[4]] for row in rows] == [
        [id_, "provisional", "possession", f"doc-{i}"] for i, id_ in zip((2, 4), ids, strict=True)
    ]
    receipt = tmp_path / "receipt.json"
    status, out, _ = silo("datastore", "accept", ids[0], "--store", path, "--receipt", receipt)
    assert (status, out.splitlines()[0]) == (0, f"accepted: request {ids[0]} for doc-2, which is removed")
    check_receipt(parse_receipt(receipt.read_bytes()))
    status, _, complaint = silo("datastore", "dispute", ids[1], "--store", path)
    assert status == 2 and "it can become: accepted, rejected" in complaint
    status, out, _ = silo("datastore", "reject", ids[1], "--store", path, "--note", "not theirs")
    assert (status, out) == (0, f"rejected: request {ids[1]} for doc-4, which is live\n")
    _, out, _ = silo("datastore", "requests", path, "--state", "rejected")
    assert [line.split("\t")[0] for line in out.splitlines()] == [ids[1]]


def test_recover_carries_out_what_was_accepted_before_a_crash(silo, path, documents, now, monkeypatch):
    store = Datastore.open(path)
    id_ = asked.open_request(store, "doc-4", key="k", now=now).id
    asked.prove(store, id_, Possession(documents[4].text), now=now, requester="a")
    with monkeypatch.context() as patched, pytest.raises(TypeError):
        patched.setattr(asked, "opt_out", None)
        asked.decide(store, id_, State.ACCEPTED, now=now)
    _, out, _ = silo("datastore", "requests", path)
    assert "provisional (accepted, not yet in force)" in out
    status, out, _ = silo("datastore", "recover", path)
    assert status == 0 and f"accepted: request {id_} for doc-4" in out
    assert Datastore.open(path).document("doc-4").state == "removed"


COPIED = [
    "The keeper of the northern light counted every ship that passed him for some thirty years. ",
    "He wrote each of their names into a thick green book, which nobody was ever allowed to see. ",
]
AROUND = ["Our town has many stories worth telling to a guest. ", "The ferry leaves at noon. "]


def story(name: str, sentences: list[str]):
    import numpy as np

    from datastore.records import DocumentFacts, EncodedDocument

    ends = np.cumsum([len(sentence) for sentence in sentences])
    n = 5 * len(sentences)
    spans = np.stack([ends - [len(sentence) for sentence in sentences], ends], axis=1)
    marks = np.append(np.repeat(np.arange(len(sentences)), 5), len(sentences) - 1)
    return EncodedDocument(
        DocumentFacts(name, digest=f"{len(name):064x}"),
        "".join(sentences),
        np.arange(n + 1) % 50,
        np.zeros((n, 4), np.float16),
        spans,
        marks,
    )


def test_copies_of_an_opted_out_text_are_listed_and_taken_out_with_receipts_of_their_own(silo, make_store, tmp_path):
    store = make_store([story("own", COPIED), story("host", [AROUND[0], *COPIED, AROUND[1]])])
    store.close()
    status, out, _ = silo("optout", "own", "--store", store.path, "--receipt", tmp_path / "r.json")
    assert status == 0
    assert "copy: host, sentences 1-2 (100%, 34 words in a row)" in out
    opened = Datastore.open(store.path)
    assert opened.sentence_text("host", 1) == COPIED[0]  # listed is not taken out
    status, out, _ = silo("optout", "own", "--store", store.path, "--receipt", tmp_path / "r.json", "--copies")
    assert status == 0 and "accepted: they are out since" in out
    receipt = parse_receipt((tmp_path / "r-copy-1.json").read_bytes())
    check_receipt(receipt)
    assert (receipt.document, receipt.sentences, receipt.n_entries) == ("host", ((1, 3),), 11)
    assert [piece for _, piece in opened.live_text("host").pieces()] == AROUND
    text = tmp_path / "own.txt"
    text.write_text("".join(COPIED))
    for _ in range(2):
        for name in ("r.json", "r-copy-1.json"):
            assert silo("datastore", "verify", tmp_path / name, "--store", store.path, "--text", text)[0] == 0
        silo("datastore", "compact", store.path)
    _, out, _ = silo("datastore", "verify", tmp_path / "r-copy-1.json", "--store", store.path, "--text", text)
    assert "verified: their bytes are erased" in out and "no file of the store holds 48 bytes" in out


def test_single_passages_are_taken_out_by_number(silo, make_store, tmp_path):
    store = make_store([story("host", [AROUND[0], *COPIED, AROUND[1]])])
    command = ["datastore", "remove-passages", store.path, "host"]
    status, out, _ = silo(*command, "--sentences", "1-2", "--sentences", "3")
    assert status == 0 and out.startswith("accepted: sentences of host are out since")
    assert parse_receipt(out[out.index("{") :].encode()).sentences == ((1, 4),)
    for wrong, message in (
        ("x", "name sentences as 3 or 3-5"),
        ("2-1", "no range of the 4"),
        ("9", "no range of the 4"),
    ):
        status, _, complaint = silo(*command, "--sentences", wrong)
        assert status == 2 and message in complaint


def test_a_model_is_asked_about_a_text_in_a_store_and_nothing_else(silo, path):
    status, _, complaint = silo("datastore", "verify", "--store", path, "--model", "any")
    assert (status, "name both" in complaint) == (2, True)


def test_with_a_model_the_probe_is_printed_too(silo, llama, manual, build, tmp_path, now, monkeypatch):
    page = manual(2, 3, "LicenseRef-test", characters=500)[0]
    store = build(llama, manual(0, 4, "LicenseRef-test", characters=500))
    receipt, text = tmp_path / "r.json", tmp_path / "text.txt"
    receipt.write_text(json.dumps(opt_out(store, page.id, now=now).to_json()))
    text.write_text(page.text)
    monkeypatch.setattr("silo.lm.LanguageModel.load", lambda model, device: llama)
    command = ["datastore", "verify", receipt, "--store", store.path, "--text", text, "--model", "any"]
    status, out, complaint = silo(*command)
    assert (status, complaint) == (0, "")
    probed = [line for line in out.splitlines() if line.startswith("probed: ")]
    assert len(probed) == 2 and "in a row are live" in probed[0] and "nats" in probed[1]
