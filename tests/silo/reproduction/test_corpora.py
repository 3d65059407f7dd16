from pathlib import Path

import pytest
from typer.testing import CliRunner

from silo.corpora import read_documents, write_documents
from silo.documents import Document
from silo.errors import UnreadableCorpus
from silo.licenses import RiskClass, classify
from silo.reproduction.corpora import GATE, HIGH, LOW, app


def run(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output


def documents(folder: Path):
    found = {}
    for path in sorted(folder.rglob("*.jsonl.gz")):
        found[path.relative_to(folder).as_posix()] = list(read_documents(str(path)))
    return found


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpora") / "made"
    run("stand-in", folder)
    return folder


def test_the_stand_in_has_every_split_and_no_document_twice(stand_in):
    found = documents(stand_in)
    expected = {f"low/{d}/{s}.jsonl.gz" for d in ("exercises", "manual") for s in (*LOW, GATE)}
    assert set(found) == expected | {f"high/{d}/{s}.jsonl.gz" for d in ("series", "modules") for s in HIGH}
    assert all(found.values())
    digests = [one.digest for name, some in found.items() for one in some if GATE not in name]
    assert len(digests) == len(set(digests))


def test_what_stands_in_for_high_risk_text_is_high_risk_and_the_rest_is_not(stand_in):
    for name, some in documents(stand_in).items():
        classes = {classify(one.license).risk == RiskClass.HIGH_RISK for one in some}
        assert classes == {name.startswith("high/")}


def test_a_stored_owner_has_several_documents(stand_in):
    owners = [one.owner for one in documents(stand_in)["high/series/datastore.jsonl.gz"]]
    assert max(map(owners.count, owners)) >= 3


def test_the_stand_in_is_the_same_every_time(stand_in, tmp_path):
    run("stand-in", tmp_path / "again")
    for path in stand_in.rglob("*.gz"):
        assert (tmp_path / "again" / path.relative_to(stand_in)).read_bytes() == path.read_bytes()


@pytest.fixture
def corpora(tmp_path):
    for kind, domain, splits in (("low", "a", LOW), ("high", "b", HIGH)):
        for split in splits:
            some = [Document(f"{split}/{i}", f"{split} {i} " * 10) for i in range(30)]
            write_documents(tmp_path / "corpora" / kind / domain / f"{split}.jsonl.gz", some)
    return tmp_path / "corpora"


LIMITS = ("--train-bytes", 900, "--store-bytes", 600, "--gate-bytes", 400, "--eval-bytes", 300)


def test_a_sample_has_so_much_of_each_split_and_a_larger_one_contains_it(corpora, tmp_path):
    run("sample", corpora, tmp_path / "small", *LIMITS)
    run(
        "sample",
        corpora,
        tmp_path / "large",
        "--train-bytes",
        2000,
        "--store-bytes",
        600,
        "--gate-bytes",
        400,
        "--eval-bytes",
        10000,
    )
    small, large = documents(tmp_path / "small"), documents(tmp_path / "large")
    assert set(small) == {f"low/a/{s}.jsonl.gz" for s in (*LOW, GATE)} | {f"high/b/{s}.jsonl.gz" for s in HIGH}
    for name, limit in (("low/a/train", 900), ("high/b/datastore", 600), ("low/a/gate", 400), ("high/b/test", 300)):
        sizes = [len(one.text) for one in small[f"{name}.jsonl.gz"]]
        assert sum(sizes) - max(sizes) < limit <= sum(sizes)
    for name, some in small.items():
        assert {one.id for one in some} <= {one.id for one in large[name]}
    assert len(large["high/b/test.jsonl.gz"]) == 30


def test_a_folder_that_is_laid_out_otherwise_is_refused(corpora, tmp_path):
    (corpora / "high" / "b" / "test.jsonl.gz").unlink()
    with pytest.raises(UnreadableCorpus, match=r"expected test\.jsonl\.gz"):
        run("sample", corpora, tmp_path / "out", *LIMITS)
    with pytest.raises(UnreadableCorpus, match="expected folders of domains"):
        run("sample", tmp_path / "nothing", tmp_path / "out", *LIMITS)
    assert not (tmp_path / "out").exists()


def test_what_is_stored_for_a_gate_is_a_part_of_what_trains(stand_in):
    found = documents(stand_in)
    for domain in ("exercises", "manual"):
        gate, train = ({one.id for one in found[f"low/{domain}/{split}.jsonl.gz"]} for split in (GATE, "train"))
        assert gate < train
