"""A checkpoint made small enough to travel with the package: half precision, and what a datastore needs fitted.

A gate is fitted with the packed model, so whoever wants one in packs twice: the same checkpoint gives the same weights.

Everything that says what trained the model comes along unchanged. `LanguageModel` computes in single precision on CPUs,
from the rounded weights; so a packed checkpoint is a model of its own, with keys of its own.
"""

import dataclasses
import shutil
from collections.abc import Iterable
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from datastore.codecs import Codec, fit_space
from silo.checkpoint import MANIFEST_NAME, Manifest, verify_checkpoint, write_manifest
from silo.documents import Document
from silo.files import file_digest, new_folder
from silo.fitted import Fitted, write_fitted
from silo.fitting import fit
from silo.gate import GATE_NAME, Gate
from silo.lm import LanguageModel

_WEIGHTS = ("config.json", "generation_config.json", "model.safetensors")


def pack(
    checkpoint: Path, out: Path, licensed: Iterable[Document], n_lists: int, codec: Codec, gate: Path | None = None
) -> Manifest:
    """Write ``checkpoint`` to ``out`` with float16 weights, and fit on ``licensed`` what a store needs.

    ``gate``, one that was fitted with the same model packed before, comes along.

    Raises:
        BadCheckpoint: the checkpoint is not as it was written, or high-risk text trained it.
        BadDocument: a document of ``licensed`` is high-risk.
        BadGate, EncoderMismatch: ``gate`` is no gate, or another model's.
        BadArrays: they give fewer keys than there are lists.
    """
    manifest = verify_checkpoint(checkpoint)
    with new_folder(out) as folder:
        for name in manifest.files:
            if name not in _WEIGHTS:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(checkpoint / name, folder / name)
        AutoModelForCausalLM.from_pretrained(checkpoint).to(torch.float16).save_pretrained(folder)
        lm = LanguageModel.load(folder)
        if gate is not None:
            Gate.load(gate).check_encoder(lm.fingerprint)
            shutil.copyfile(gate, folder / GATE_NAME)
        found = fit(lm, licensed, n_lists, codec)
        space = fit_space(found.keys, n_lists, codec)
        write_fitted(folder, Fitted(lm.fingerprint, space, found.knn_temperature, found.documents))
        notes = {"packed_from": file_digest(checkpoint / MANIFEST_NAME), "weights": "rounded to float16"}
        return write_manifest(folder, dataclasses.replace(manifest, notes={**manifest.notes, **notes}))
