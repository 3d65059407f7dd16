import dataclasses

import pytest

from silo.errors import BadRequest
from silo.evaluation.protocol import Setup, Tuned, check_apart, check_may_tune, check_same, freeze, read_frozen
from silo.evaluation.traces import TraceSettings
from silo.evaluation.tuning import Choice

SETUP = Setup("lm" * 32, "store", 3, "gate" * 16, TraceSettings())
DOMAINS = {"mail": Tuned({"knn": Choice("knn", 8, 0.5, (0.7, 0.3))}, ("a" * 64, "b" * 64)), "news": Tuned({}, ())}


def test_a_frozen_run_is_read_as_it_was_written(tmp_path):
    freeze(tmp_path / "run.json", SETUP, DOMAINS)
    assert read_frozen(tmp_path / "run.json") == (SETUP, DOMAINS)


def test_a_frozen_run_is_never_written_over(tmp_path):
    path = tmp_path / "run.json"
    freeze(path, SETUP, DOMAINS)
    before = path.read_bytes()
    for attempt in (lambda: freeze(path, SETUP, {}), lambda: check_may_tune(["mail/validation.jsonl"], path)):
        with pytest.raises(BadRequest, match="is frozen"):
            attempt()
    assert path.read_bytes() == before


OTHERS = {
    "encoder": {"encoder": "x"},
    "store": {"store": "x"},
    "epoch": {"epoch": 4},
    "gate": {"gate": ""},
    "settings": {"settings": TraceSettings(ks=(8,))},
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_was_tuned_for_something_else_is_refused_by_name(name):
    check_same(SETUP, SETUP)
    with pytest.raises(BadRequest, match=f"another {name}"):
        check_same(SETUP, dataclasses.replace(SETUP, **OTHERS[name]))


def test_text_that_tuned_any_domain_is_not_reported_on():
    check_apart(DOMAINS, "news", ["c" * 64])
    with pytest.raises(BadRequest, match="1 documents of 'news' were tuned on"):
        check_apart(DOMAINS, "news", ["c" * 64, "b" * 64])


@pytest.mark.parametrize("location", ["mail/test.jsonl.gz", "mail=here/test.jsonl"])
def test_a_test_may_not_tune(location, tmp_path):
    check_may_tune(["mail/validation.jsonl.gz", "testimony.jsonl"], tmp_path / "new.json")
    with pytest.raises(BadRequest, match="is a test"):
        check_may_tune(["mail/validation.jsonl.gz", location], tmp_path / "new.json")


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"format": 9}', '{"format": 1, "setup": {}}'])
def test_what_is_no_frozen_run_is_refused(tmp_path, content):
    path = tmp_path / "run.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(BadRequest):
        read_frozen(path)
