"""Token ids to text while they arrive, and stop texts. Knows strings and a tokenizer; no model."""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

_REPLACEMENT = "\ufffd"
_MAX_PENDING = 8
"""Tokens that may wait for the rest of a character: none in UTF-8 has more than four bytes."""


class TextStream:
    """Decodes a growing sequence; a character is given out once all its bytes are there."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, prompt: Sequence[int]) -> None:
        """``prompt`` comes before the stream: some tokenizers decode a token differently at the start of a text."""
        self._tokenizer = tokenizer
        self._ids = list(prompt[-_MAX_PENDING:])
        self._anchor = 0
        self._done = len(self._ids)

    def push(self, token: int) -> str:
        """The characters that ``token`` completes; often its own, sometimes none yet."""
        self._ids.append(token)
        return self._take(is_last=len(self._ids) - self._done > _MAX_PENDING)

    def flush(self) -> str:
        """What is left at the end; bytes that make no character become U+FFFD."""
        return self._take(is_last=True) if self._done < len(self._ids) else ""

    def _take(self, *, is_last: bool) -> str:
        before = self._decode(self._ids[self._anchor : self._done])
        text = self._decode(self._ids[self._anchor :])
        if text.endswith(_REPLACEMENT) and not is_last:
            return ""
        self._anchor, self._done = self._done, len(self._ids)
        return text[len(before) :]

    def _decode(self, ids: list[int]) -> str:
        text: str = self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text


def find_stop(text: str, stops: Sequence[str]) -> int | None:
    """Where the first stop text begins in ``text``."""
    found = [index for index in (text.find(stop) for stop in stops) if index >= 0]
    return min(found) if found else None


def n_held_back(text: str, stops: Sequence[str]) -> int:
    """How many characters at the end of ``text`` may yet turn out to begin a stop text."""
    return max(
        (n for stop in stops for n in range(1, min(len(stop), len(text) + 1)) if text.endswith(stop[:n])), default=0
    )
