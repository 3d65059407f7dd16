import dataclasses
import json

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from silo.errors import BadGate, EncoderMismatch
from silo.evidence import Components, Evidence, feature_names
from silo.files import file_digest
from silo.gate import Gate, GateFacts, fixed

COMPONENTS = Components(k=4, temperatures=(1.0,), limits=(8, 2))
N_FEATURES = len(feature_names(COMPONENTS))


@pytest.fixture
def gate():
    random = np.random.default_rng(3)

    def array(*shape):
        return random.normal(0, 1, shape).astype(np.float32)

    facts = GateFacts("e" * 64, ({"id": "one", "digest": "d" * 64, "license": "CC0-1.0"},), {"seed": 3})
    scale = np.abs(array(N_FEATURES)) + 0.5
    return Gate(COMPONENTS, facts, array(N_FEATURES), scale, array(N_FEATURES, 6), array(6), array(6, 4), array(4))


@pytest.fixture
def known():
    random = np.random.default_rng(5)
    features = random.normal(0, 3, (40, N_FEATURES)).astype(np.float32)
    is_present = random.random((40, 4)) < 0.6
    is_present[:, 0] = True
    is_present[0] = [True, False, False, False]
    return Evidence(features, is_present)


def test_shares_sum_to_one_and_what_is_absent_gets_nothing(gate, known):
    shares = gate.shares(known)
    assert shares.sum(axis=1) == pytest.approx(1)
    assert not shares[~known.is_present].any()
    assert (shares[known.is_present] > 0).all()
    assert shares[0].tolist() == [1, 0, 0, 0]


def test_shares_are_the_documented_equation(gate, known):
    x = (known.features.astype(float) - gate.mean) / gate.scale
    assert np.abs(x).max() > 8  # so that the clipping is tried
    logits = np.tanh(np.clip(x, -8, 8) @ gate.first + gate.first_bias) @ gate.second + gate.second_bias
    weights = np.where(known.is_present, np.exp(logits), 0)
    assert gate.shares(known) == pytest.approx(weights / weights.sum(axis=1, keepdims=True), rel=1e-4)


def test_a_position_gets_the_same_bits_alone_as_among_others(gate, known):
    together = gate.shares(known)
    for row in range(len(together)):
        alone = gate.shares(Evidence(known.features[row : row + 1], known.is_present[row : row + 1]))
        assert (alone[0] == together[row]).all()


def test_a_gate_is_the_same_after_it_was_saved_and_says_where_it_comes_from(gate, known, tmp_path):
    path = tmp_path / "gate.safetensors"
    gate.save(path)
    loaded = Gate.load(path)
    assert (loaded.shares(known) == gate.shares(known)).all()
    assert (loaded.components, loaded.facts) == (gate.components, gate.facts)
    assert loaded.digest == file_digest(path)
    gate.save(tmp_path / "again.safetensors")
    assert file_digest(tmp_path / "again.safetensors") == loaded.digest


def test_a_gate_of_another_lm_is_refused(gate):
    gate.check_encoder("e" * 64)
    with pytest.raises(EncoderMismatch, match="fit-gate"):
        gate.check_encoder("f" * 64)


def rewritten(path, change):
    with safe_open(path, "np") as file:
        header = json.loads(file.metadata()["silo-gate"])
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(header, arrays)
    save_file(arrays, path, {"silo-gate": json.dumps(header)})


BROKEN = {
    "another format": (lambda header, arrays: header.update(format=9), "format 9"),
    "another feature": (lambda header, arrays: header["features"].append("moon"), "other features"),
    "a missing array": (lambda header, arrays: arrays.pop("mean"), "should have arrays"),
    "an array of another shape": (
        lambda header, arrays: arrays.update(mean=np.zeros(3, np.float32)),
        "should have arrays",
    ),
    "no facts": (lambda header, arrays: header.pop("facts"), "no gate"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_gate_is_refused_with_the_reason(gate, tmp_path, name):
    change, message = BROKEN[name]
    path = tmp_path / "gate.safetensors"
    gate.save(path)
    rewritten(path, change)
    with pytest.raises(BadGate, match=message):
        Gate.load(path)


@pytest.mark.parametrize("content", [b"", b"not safetensors", None])
def test_what_is_no_gate_is_refused(tmp_path, content):
    path = tmp_path / "gate.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadGate, match="no gate"):
        Gate.load(path)


def test_fixed_shares_of_what_is_absent_go_to_the_lm(known):
    shares = fixed(COMPONENTS, np.array([0.4, 0.3, 0.2, 0.1]), known)
    assert shares.sum(axis=1) == pytest.approx(1)
    assert shares[0] == pytest.approx([1, 0, 0, 0])
    complete = dataclasses.replace(known, is_present=np.ones_like(known.is_present))
    assert fixed(COMPONENTS, np.array([0.4, 0.3, 0.2, 0.1]), complete)[7] == pytest.approx([0.4, 0.3, 0.2, 0.1])
