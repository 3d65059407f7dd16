"""Admitted documents as one stream of tokens on disk, memory-mapped to train from.

Knows token ids; knows no license, so it is handed admitted documents only. In the stream every
document stands between two boundary tokens: ``B d1 B d2 B``. Training may join documents, because
nothing of it is attributed or removed; the datastore never does.
"""

import io
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Integer
from numpy.lib import format as npy
from transformers import PreTrainedTokenizerBase

from silo.files import file_digest, new_file
from silo.tokenizer import boundary_token, tokenize
from training.errors import BadOutput


@dataclass(frozen=True)
class ShardFacts:
    """What is in a token file."""

    n_documents: int
    n_tokens: int
    """Boundaries included."""
    n_bytes: int
    """Of text, in UTF-8: what bits per byte are counted over."""
    digest: str
    """SHA-256, in hex, of the token file."""


def write_shard(path: Path, texts: Iterable[str], tokenizer: PreTrainedTokenizerBase) -> ShardFacts:
    """Tokenize ``texts`` into ``path`` (``.npy``, uint16 or uint32) and its facts into ``path`` + ``.json``.

    Holds one document in memory at a time. The facts are written last: without them there is no shard.
    """
    dtype = np.dtype(np.uint16 if len(tokenizer) <= 1 << 16 else np.uint32)
    boundary = np.asarray([boundary_token(tokenizer)], dtype=dtype).tobytes()
    n_documents = n_bytes = 0
    n_tokens = 1
    with new_file(path) as stream:
        stream.write(_header(dtype, 0))
        stream.write(boundary)
        for text in texts:
            ids = tokenize(tokenizer, text).ids
            stream.write(ids.astype(dtype).tobytes() + boundary)
            n_documents += 1
            n_tokens += len(ids) + 1
            n_bytes += len(text.encode("utf-8"))
        stream.seek(0)
        stream.write(_header(dtype, n_tokens))
    facts = ShardFacts(n_documents, n_tokens, n_bytes, file_digest(path))
    with new_file(_facts_path(path)) as stream:
        stream.write(json.dumps(asdict(facts)).encode())
    return facts


def open_shard(path: Path) -> tuple[Integer[np.ndarray, " tokens"], ShardFacts]:
    """The tokens of ``path``, memory-mapped, and their facts.

    Raises:
        BadOutput: the file is not the one that ``write_shard`` wrote.
    """
    facts = ShardFacts(**json.loads(_facts_path(path).read_text()))
    if (found := file_digest(path)) != facts.digest:
        raise BadOutput(f"{path} has SHA-256 {found}; expected {facts.digest}. Remove {path.parent} and train again.")
    return np.load(path, mmap_mode="r", allow_pickle=False), facts


def document_lengths(tokens: Integer[np.ndarray, " tokens"], boundary: int) -> list[int]:
    """Tokens of each document between its boundaries, in order."""
    lengths: list[int] = (np.diff(np.flatnonzero(tokens == boundary)) - 1).tolist()
    return lengths


def has_shard(path: Path) -> bool:
    """Whether ``write_shard`` finished here."""
    return path.exists() and _facts_path(path).exists()


def _facts_path(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _header(dtype: np.dtype, n_tokens: int) -> bytes:
    """The ``.npy`` header; numpy leaves room for the length to grow, so both calls give as many bytes."""
    buffer = io.BytesIO()
    npy.write_array_header_1_0(
        buffer, {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": (n_tokens,)}
    )
    return buffer.getvalue()
