"""A Hugging Face fast tokenizer as the rest of SILO sees it: ids and character offsets.

Knows text and token ids; knows neither documents nor models. No special token is ever added to
a text or recognized in one: a document that contains the characters ``<|endoftext|>`` has just
those characters, and cannot forge the boundary between documents.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Integer
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from silo.errors import BadCheckpoint


@dataclass(frozen=True)
class Tokens:
    """The tokens of one text, in order."""

    ids: Integer[np.ndarray, " n"]
    starts: Integer[np.ndarray, " n"]
    """Offset of the first character of the text that the token covers, in code points."""
    ends: Integer[np.ndarray, " n"]
    """One past the last. Tokens that are bytes of one character share its offsets."""

    def __len__(self) -> int:
        return len(self.ids)


def load_tokenizer(folder: str | Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a checkpoint, a local folder or a hub id; no code of its own is run.

    Raises:
        BadCheckpoint: there is none, or it is not a fast one.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise BadCheckpoint(f"no tokenizer can be loaded from {folder}: {error}") from error
    _check_fast(tokenizer)
    return tokenizer


def tokenize(tokenizer: PreTrainedTokenizerBase, text: str) -> Tokens:
    """Token ids of ``text`` and the characters that each covers, without special tokens.

    Raises:
        BadCheckpoint: the tokenizer is a slow one, which gives no offsets.
    """
    _check_fast(tokenizer)
    encoding = tokenizer(
        text,
        add_special_tokens=False,
        split_special_tokens=True,
        truncation=False,
        padding=False,
        return_offsets_mapping=True,
        return_attention_mask=False,
        verbose=False,
    )
    offsets = np.asarray(encoding["offset_mapping"], dtype=np.int64).reshape(-1, 2)
    return Tokens(np.asarray(encoding["input_ids"], dtype=np.int64), offsets[:, 0].copy(), offsets[:, 1].copy())


def boundary_token(tokenizer: PreTrainedTokenizerBase) -> int:
    """Id of the token that ends a document.

    Raises:
        BadCheckpoint: the tokenizer names no end-of-text token.
    """
    if tokenizer.eos_token_id is None:
        raise BadCheckpoint(
            f"the tokenizer {tokenizer.name_or_path!r} names no eos_token, which marks the end of a document. "
            "Set it in tokenizer_config.json."
        )
    return int(tokenizer.eos_token_id)


def opening_token(tokenizer: PreTrainedTokenizerBase) -> int:
    """Id of the token before a document: the tokenizer's bos, or the boundary where it has none."""
    return boundary_token(tokenizer) if tokenizer.bos_token_id is None else int(tokenizer.bos_token_id)


def _check_fast(tokenizer: PreTrainedTokenizerBase) -> None:
    if not tokenizer.is_fast:
        raise BadCheckpoint(
            f"{type(tokenizer).__name__} gives no character offsets, so no token could be traced to its sentence. "
            "Convert it to a fast tokenizer (tokenizer.json) and load that."
        )
