import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from datastore.codecs import Codec
from datastore.store import Datastore
from silo import commands, packaged
from silo.checkpoint import TRAINED_ON_NAME, verify_checkpoint, verify_files
from silo.corpora import write_documents
from silo.errors import BadCheckpoint, BadDocument, EncoderMismatch
from silo.evidence import Components, feature_names
from silo.files import file_digest
from silo.fitted import read_fitted
from silo.gate import GATE_NAME, Gate, GateFacts
from silo.lm import LanguageModel
from silo.packing import pack
from training.commands import RECIPES
from training.config import read_recipe
from training.pipeline import train_checkpoint

N_LISTS = 8


@pytest.fixture(scope="module")
def checkpoint(manual, tmp_path_factory):
    folder = tmp_path_factory.mktemp("packing")
    write_documents(folder / "texts.jsonl", manual(0, 40, "PSF-2.0", 3000))
    train_checkpoint(read_recipe(RECIPES / "smoke.toml"), data=folder, out=folder / "trained")
    return folder / "trained"


@pytest.fixture(scope="module")
def packed(checkpoint, manual, tmp_path_factory):
    out = tmp_path_factory.mktemp("packed") / "small"
    pack(checkpoint, out, manual(40, 50, "PSF-2.0"), N_LISTS, Codec("sq8", 16))
    return out


def test_a_packed_checkpoint_is_the_trained_one_in_half_precision(checkpoint, packed):
    manifest = verify_checkpoint(packed)
    assert manifest.notes["packed_from"] == file_digest(checkpoint / "silo-manifest.json")
    assert (packed / TRAINED_ON_NAME).read_bytes() == (checkpoint / TRAINED_ON_NAME).read_bytes()
    trained, small = load_file(checkpoint / "model.safetensors"), load_file(packed / "model.safetensors")
    assert trained.keys() == small.keys()
    for name, weight in trained.items():
        assert small[name].dtype == torch.float16
        assert torch.equal(small[name], weight.to(torch.float16))


def test_half_precision_is_computed_in_single_precision(checkpoint, packed):
    first, second = LanguageModel.load(checkpoint), LanguageModel.load(packed)
    assert {parameter.dtype for parameter in second.model.parameters()} == {torch.float32}
    tokens = np.arange(20)
    np.testing.assert_allclose(first.encode(tokens), second.encode(tokens), atol=0.02)
    assert first.fingerprint != second.fingerprint


def test_a_store_is_built_with_the_parts_that_came_with_the_checkpoint(packed, manual, tmp_path):
    write_documents(tmp_path / "texts.jsonl", manual(0, 3, "LicenseRef-theirs"))
    commands.build(tmp_path / "store", [str(tmp_path / "texts.jsonl")], str(packed))
    store = Datastore.open(tmp_path / "store")
    fitted = read_fitted(packed, LanguageModel.load(packed).fingerprint)
    assert store.manifest.n_lists == N_LISTS
    assert (store.manifest.codec, store.manifest.stored_dimension) == ("sq8", 16)
    assert store.manifest.knn_temperature == fitted.knn_temperature
    assert (tmp_path / "store" / "centroids.npy").read_bytes() == (packed / "fitted" / "centroids.npy").read_bytes()
    assert store.manifest.n_fitted_documents == len(fitted.documents) > 0
    commands.build(
        tmp_path / "again",
        [str(tmp_path / "texts.jsonl")],
        str(packed),
        licensed=[_file(tmp_path, manual(40, 50, "PSF-2.0"))],
        lists=N_LISTS,
        codec="sq8",
        pca=16,
    )
    for name in ("centroids.npy", "codec.npy", "projection.npy", "key-steps.npy"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "store" / name).read_bytes()


def _file(folder, documents):
    write_documents(folder / "licensed.jsonl", documents)
    return str(folder / "licensed.jsonl")


def test_nothing_is_packed_that_high_risk_text_was_fitted_on(checkpoint, manual, tmp_path):
    with pytest.raises(BadDocument, match="is high-risk"):
        pack(checkpoint, tmp_path / "out", manual(40, 50, "LicenseRef-theirs"), N_LISTS, Codec())
    assert not (tmp_path / "out").exists()


def test_a_gate_comes_along_with_the_model_that_it_was_fitted_with(checkpoint, packed, manual, tmp_path):
    licensed = manual(40, 50, "PSF-2.0")
    for encoder in (LanguageModel.load(packed).fingerprint, "0" * 64):
        _gate(encoder).save(tmp_path / "gate")
        out = tmp_path / f"of-{encoder:.4}"
        if encoder == "0" * 64:
            with pytest.raises(EncoderMismatch, match="this gate was fitted with the LM 0000"):
                pack(checkpoint, out, licensed, N_LISTS, Codec("sq8", 16), tmp_path / "gate")
            assert not out.exists()
        else:
            pack(checkpoint, out, licensed, N_LISTS, Codec("sq8", 16), tmp_path / "gate")
            assert GATE_NAME in verify_files(out).files
            assert Gate.load(out / GATE_NAME).facts.encoder == encoder
            assert LanguageModel.load(out).fingerprint == encoder


def _gate(encoder):
    components = Components(k=4, temperatures=(1.0,), limits=(8,))
    f, c = len(feature_names(components)), len(components)
    shapes = ((f,), (f,), (f, 2), (2,), (2, c), (c,))
    return Gate(components, GateFacts(encoder, ()), *(np.ones(shape, np.float32) for shape in shapes))


def test_fitted_parts_that_were_changed_are_not_used(packed, tmp_path):
    copy = Path(shutil.copytree(packed, tmp_path / "copy"))
    encoder = LanguageModel.load(copy).fingerprint
    assert read_fitted(copy, encoder).documents  # the control
    centroids = np.load(copy / "fitted" / "centroids.npy")
    np.save(copy / "fitted" / "centroids.npy", centroids + 1)
    with pytest.raises(BadCheckpoint, match=r"fitted/centroids\.npy has SHA-256"):
        read_fitted(copy, encoder)


def test_fitted_parts_serve_the_lm_that_they_were_fitted_for(checkpoint, packed):
    with pytest.raises(BadCheckpoint, match="whose keys it does not fit"):
        read_fitted(packed, "0" * 64)
    with pytest.raises(BadCheckpoint, match="Name licensed text to fit on"):
        read_fitted(checkpoint, "0" * 64)


def test_the_packaged_model_is_found_by_its_name_unless_a_folder_has_it(tmp_path, monkeypatch):
    monkeypatch.setattr(packaged, "FOLDER", tmp_path / "models")
    assert packaged.location(packaged.DEFAULT) == packaged.DEFAULT
    (tmp_path / "models" / packaged.DEFAULT).mkdir(parents=True)
    assert packaged.location(packaged.DEFAULT) == tmp_path / "models" / packaged.DEFAULT
    monkeypatch.chdir(tmp_path)
    (tmp_path / packaged.DEFAULT).mkdir()
    assert packaged.location(packaged.DEFAULT).resolve() == tmp_path / packaged.DEFAULT
    assert packaged.location("owner/name") == "owner/name"


@pytest.mark.skipif(not (packaged.FOLDER / packaged.DEFAULT).exists(), reason="this copy of SILO has no packaged model")
def test_the_packaged_model_is_whole_licensed_and_small():
    folder = packaged.FOLDER / packaged.DEFAULT
    verify_checkpoint(folder)
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= 25_000_000
    lm = LanguageModel.load(packaged.DEFAULT)
    assert read_fitted(folder, lm.fingerprint).documents
    assert verify_files(folder).notes["weights"] == "rounded to float16"
