"""A causal LM of transformers as SILO uses it: context vectors, next-token log-probabilities, decoding.

Knows tokens and tensors; knows no datastore. The context vector of a token is what the output matrix
multiplies: the last hidden state after the final norm (``hidden_states[-1]`` in transformers), which Min et al.
(2023), section 4.2, take as the key of their kNN-LM.
"""

import functools
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import AutoModelForCausalLM, DynamicCache, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from silo.checkpoint import refuse_baseline
from silo.errors import BadCheckpoint
from silo.tokenizer import boundary_token, load_tokenizer, opening_token

MAX_WINDOW = 1024
"""Tokens per window when a document is encoded; shorter where the LM's context is."""
_BATCH_TOKENS = 4096


class LanguageModel:
    """A causal LM with its tokenizer, on one device, in evaluation mode.

    Raises:
        BadCheckpoint: the model does more to its context vectors than multiply them by its output matrix, so that
            keys and log-probabilities would not belong together; or its tokenizer has a larger vocabulary.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str, device: str = "cpu"
    ) -> None:
        self.model = model.to(device).eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.name = name
        self.device = torch.device(device)
        self.opening = opening_token(tokenizer)
        """Precedes every text."""
        self.boundary = boundary_token(tokenizer)
        """Ends every document."""
        self._body = model.base_model
        self._head = model.get_output_embeddings()
        self.vocab_size: int = model.config.vocab_size
        self.context_length: int = model.config.max_position_embeddings
        self.dimension: int = self._head.in_features
        self._check()

    @classmethod
    def load(cls, model: str | Path, device: str = "cpu", *, to_measure: bool = False) -> "LanguageModel":
        """Load a checkpoint from a folder, or a model from a hub by its id; no code of its own is run.

        Raises:
            BadCheckpoint: it cannot be loaded, or the device is not to be had; or it is a baseline that was trained
                on high-risk text, and the caller does not say that it is there ``to_measure`` alone.
        """
        _check_device(device)
        if not to_measure:
            refuse_baseline(Path(model))
        if not Path(model).exists() and str(model).count("/") != 1:
            raise BadCheckpoint(f"{model} is neither a checkpoint folder nor a hub id of the form owner/name.")
        transformers_logging.disable_progress_bar()
        tokenizer = load_tokenizer(model)
        try:
            loaded = AutoModelForCausalLM.from_pretrained(str(model), trust_remote_code=False)
        except (OSError, ValueError, KeyError) as error:
            raise BadCheckpoint(f"no causal LM can be loaded from {model}: {error}") from error
        return cls(loaded, tokenizer, Path(model).name, device)

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256, hex, of all weights and of the tokenizer: equal for those that make equal keys."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        digest.update(self.tokenizer.backend_tokenizer.to_str().encode("utf-8"))
        digest.update(f"{self.opening} {self.boundary}".encode())
        return digest.hexdigest()

    def contexts(self, windows: Int[Tensor, "batch length"]) -> Float[Tensor, "batch length dimension"]:
        """The context vector after each token."""
        with torch.inference_mode():
            states: Tensor = self._body(input_ids=windows.to(self.device), use_cache=False).last_hidden_state
            return states

    def logprobs(self, contexts: Float[Tensor, "*batch dimension"]) -> Float[Tensor, "*batch vocabulary"]:
        """Natural log of the next token's probability, from context vectors."""
        with torch.inference_mode():
            return torch.log_softmax(self._head(contexts).float(), dim=-1)

    def encode(self, tokens: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n dimension"]:
        """Context vectors, in float16, after each token of one document.

        Windows overlap by half and each token is read from the first that holds it, so every token but those of
        the first window has at least half a window of context. The document is read alone, and how it is batched
        depends on its length only, since kernels round differently with the shape of a batch: so its
        bits depend on nothing else.
        """
        keys = np.empty((len(tokens) + 1, self.dimension), dtype=np.float16)
        filled = 0
        for starts, windows in self.windows(tokens):
            states = self.contexts(windows).to(torch.float16).cpu().numpy()
            for start, vectors in zip(starts, states, strict=True):
                keys[filled : start + len(vectors)] = vectors[filled - start :]
                filled = start + len(vectors)
        return keys[1:]

    def windows(self, tokens: Int[np.ndarray, " n"]) -> Iterator[tuple[Sequence[int], Int[Tensor, "batch length"]]]:
        """The batches of windows in which ``tokens`` are read, each with the first position of each window."""
        sequence = torch.from_numpy(np.concatenate([[self.opening], tokens]).astype(np.int64))
        window = min(MAX_WINDOW, self.context_length, len(sequence))
        for starts in _batched(_window_starts(len(sequence), window), max(1, _BATCH_TOKENS // window)):
            yield starts, torch.stack([sequence[start : start + window] for start in starts])

    def decoder(self) -> "Decoder":
        """A new sequence to be read and continued."""
        return Decoder(self)

    def _check(self) -> None:
        if len(self.tokenizer) > self.vocab_size:
            raise BadCheckpoint(
                f"the tokenizer of {self.name!r} has {len(self.tokenizer):,} tokens, its LM only {self.vocab_size:,}"
            )
        probe = torch.tensor([[self.opening, self.vocab_size // 3, self.vocab_size // 2]], device=self.device)
        with torch.inference_mode():
            logits = self.model(input_ids=probe, use_cache=False).logits
            agrees = torch.allclose(self._head(self.contexts(probe)), logits, atol=1e-7, rtol=1e-5)
        if not agrees:
            raise BadCheckpoint(
                f"{type(self.model).__name__} does more to its last hidden state than multiply it by its output matrix "
                "(a scale or a soft cap), so its keys would not belong to its probabilities. Use another architecture."
            )


class Decoder:
    """One sequence, read token by token with a cache; batch 1."""

    def __init__(self, lm: LanguageModel) -> None:
        self._lm = lm
        self._cache = DynamicCache(config=lm.model.config)

    def read(self, tokens: Sequence[int]) -> tuple[Float[Tensor, " dimension"], Float[Tensor, " vocabulary"]]:
        """Read ``tokens``; the context vector after the last and the log-probabilities of what follows."""
        context = self.advance(tokens)
        return context, self._lm.logprobs(context)

    def advance(self, tokens: Sequence[int]) -> Float[Tensor, " dimension"]:
        """Read ``tokens``; the context vector after the last alone, which costs no output matrix."""
        lm = self._lm
        with torch.inference_mode():
            ids = torch.tensor([list(tokens)], device=lm.device)
            out = lm._body(input_ids=ids, past_key_values=self._cache, use_cache=True)
            context: Tensor = out.last_hidden_state[0, -1]
            return context


def _check_device(device: str) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise BadCheckpoint(f"torch cannot use the device {device!r}: {error}. Try --device cpu.") from None


def _window_starts(length: int, window: int) -> list[int]:
    """Starts of windows that cover ``length`` tokens, half a window apart; the last one ends with the text."""
    step = max(1, window // 2)
    starts = list(range(0, length - window + 1, step))
    return starts if starts[-1] + window == length else [*starts, length - window]


def _batched(starts: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for i in range(0, len(starts), size):
        yield starts[i : i + size]
