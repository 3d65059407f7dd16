"""A small LM trained on Python's own library, and text of other packages to store and to ask.

Files of the standard library are the licensed text. The Python files of installed packages are text that
the LM has not seen: every tenth is asked, the others are stored. Nothing is fetched.
"""

import sysconfig
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from silo.documents import Document
from silo.lm import LanguageModel
from silo.tokenizer import tokenize
from training.vocabulary import train_vocabulary

LAYERS = {"5M": (256, 640, 4), "20M": (512, 1280, 5)}
"""Hidden size, intermediate size and layers."""
_CONTEXT = 512
_MAX_CHARACTERS = 60_000


@dataclass(frozen=True)
class Texts:
    """What a benchmark trains and fits on, stores, and asks."""

    licensed: list[Document]
    stored: list[Document]
    asked: list[Document]


def read_texts(n_characters: int) -> Texts:
    """All of the standard library, and packages up to ``n_characters``, whole packages' files in turn."""
    paths = sysconfig.get_paths()
    library, packages = Path(paths["stdlib"]), Path(paths["purelib"])
    licensed = [p for p in sorted(library.rglob("*.py")) if not {"site-packages", "test"} & set(p.parts)]
    by_package: dict[str, list[Path]] = {}
    for path in sorted(packages.rglob("*.py")):
        by_package.setdefault(path.relative_to(packages).parts[0], []).append(path)
    turns = [
        files[i] for i in range(max(map(len, by_package.values()))) for files in by_package.values() if i < len(files)
    ]
    others: list[Document] = []
    seen: set[str] = set()
    filled = 0
    for document in _documents(turns, packages, "LicenseRef-unknown"):
        if filled >= n_characters:
            break
        if document.digest not in seen:
            seen.add(document.digest)
            others.append(document)
            filled += len(document.text)
    stored = [document for i, document in enumerate(others) if i % 10]
    return Texts(list(_documents(licensed, library, "PSF-2.0")), stored, others[::10])


def get_lm(checkpoint: str, texts: Sequence[Document], seconds: float) -> LanguageModel:
    """The LM in the folder ``checkpoint``; where that is empty, one of 5M parameters trained on ``texts``."""
    return LanguageModel.load(checkpoint) if checkpoint else make_lm(texts, seconds=seconds)


def make_lm(texts: Sequence[Document], size: str = "5M", seconds: float = 0.0, seed: int = 0) -> LanguageModel:
    """A LLaMA of about ``size`` parameters, trained on ``texts`` for ``seconds``; 0 leaves random weights."""
    torch.manual_seed(seed)
    tokenizer = train_vocabulary([text.text[:20_000] for text in texts], 8192, _CONTEXT)
    hidden, intermediate, layers = LAYERS[size]
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64,
        max_position_embeddings=_CONTEXT,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config)
    if seconds:
        _train(model, np.concatenate([tokenize(tokenizer, text.text).ids for text in texts]), seconds, seed)
    return LanguageModel(model, tokenizer, f"bench-{size}")


def _train(model: LlamaForCausalLM, tokens: np.ndarray, seconds: float, seed: int) -> None:
    """Plain AdamW on random windows, its rate falling to zero over the time there is."""
    random = np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, betas=(0.9, 0.95))
    started, window = time.monotonic(), 256
    while (spent := time.monotonic() - started) < seconds:
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * min(1.0, 1.5 * (1 - spent / seconds))
        rows = random.integers(0, len(tokens) - window, 8)
        batch = torch.from_numpy(np.stack([tokens[a : a + window] for a in rows]).astype(np.int64))
        model(input_ids=batch, labels=batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()


def _documents(paths: Sequence[Path], root: Path, license: str):  # noqa: A002
    for path in paths:
        text = path.read_text(encoding="utf-8", errors="ignore")[:_MAX_CHARACTERS]
        if len(text) > 200:
            yield Document(str(path.relative_to(root)), text, license)
