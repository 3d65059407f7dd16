"""SILO as EleutherAI's lm-eval knows models: ``python -m silo.lmeval run --model silo --model_args pretrained=…``.

All of lm-eval's options are as ever; only the model type ``silo`` is added, which is the mixture behind the Hugging
Face adapter (``silo.modeling``). Texts are tokens as they are elsewhere in SILO: the opening token before each, and no
special token read out of a text. What is scored here is what ``Silo.score`` says, to float rounding.

Needs the extra ``lm-eval``; nothing else in SILO imports this.
"""

from collections.abc import Sequence
from typing import Any

import torch

from silo.errors import NotInstalled
from silo.generation import Silo
from silo.modeling import SiloForCausalLM
from silo.settings import KnnSettings, NgramSettings
from silo.tokenizer import tokenize

try:
    from lm_eval.api.registry import register_model
    from lm_eval.models.huggingface import HFLM
except ImportError as error:
    raise NotInstalled("silo.lmeval needs the package lm_eval; pip install 'silo-lm[lm-eval]'") from error


@register_model("silo")
class SiloHarnessLM(HFLM):
    """An LM, alone or mixed with a datastore that it wrote.

    ``pretrained`` is a checkpoint or a hub id, or what ``SiloForCausalLM`` saved, or such a model itself. ``datastore``
    is a folder. ``k``, ``knn_weight`` and ``ngram_weight`` are those of `silo generate`; without shares, the gate that
    lies beside either of them decides.
    """

    def __init__(
        self,
        pretrained: str | SiloForCausalLM,
        datastore: str | None = None,
        k: int = KnnSettings.k,
        knn_weight: float | None = None,
        ngram_weight: float | None = None,
        device: str | None = "cpu",
        batch_size: int | str = 1,
        max_batch_size: int | None = 64,
        **kwargs: Any,
    ) -> None:
        model = pretrained
        if isinstance(model, str):
            silo = Silo.open(model, datastore, device or "cpu")
            model = SiloForCausalLM.of(silo, KnnSettings(k=k, weight=knn_weight), NgramSettings(weight=ngram_weight))
        self._silo = model.silo
        super().__init__(
            pretrained=model,
            backend="causal",
            tokenizer=model.tokenizer,
            batch_size=batch_size,
            max_batch_size=max_batch_size,
            max_length=model.silo.lm.context_length - 1,
            **kwargs,
        )

    @property
    def prefix_token_id(self) -> int:
        """What precedes every text."""
        return self._silo.lm.opening

    def tok_encode(self, string: str, *args: Any, left_truncate_len: int | None = None, **kwargs: Any) -> list[int]:  # noqa: ARG002
        """The tokens of ``string`` alone."""
        ids: list[int] = tokenize(self._silo.lm.tokenizer, string).ids.tolist()
        return ids[-left_truncate_len:] if left_truncate_len else ids

    def tok_batch_encode(
        self,
        strings: Sequence[str],
        padding_side: str = "left",
        left_truncate_len: int | None = None,
        truncation: bool = False,  # noqa: ARG002
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Prompts to be continued, each after the opening token, padded to one length; and which tokens are theirs."""
        room = None if left_truncate_len is None else left_truncate_len - 1
        rows = [[self.prefix_token_id, *self.tok_encode(string, left_truncate_len=room)] for string in strings]
        longest = max(map(len, rows))
        lacking = [longest - len(row) for row in rows]
        before = [n if padding_side == "left" else 0 for n in lacking]
        after = [n - b for n, b in zip(lacking, before, strict=True)]
        pad = self._silo.lm.boundary
        ids = [[pad] * b + row + [pad] * a for row, b, a in zip(rows, before, after, strict=True)]
        mask = [[0] * b + [1] * len(row) + [0] * a for row, b, a in zip(rows, before, after, strict=True)]
        return torch.tensor(ids), torch.tensor(mask)

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        before, after = super()._encode_pair(context, continuation)
        return [self.prefix_token_id, *before], after


def main() -> None:
    """The command line of lm-eval, which knows the model type ``silo`` by now."""
    from lm_eval.__main__ import cli_evaluate

    cli_evaluate()


if __name__ == "__main__":
    main()
