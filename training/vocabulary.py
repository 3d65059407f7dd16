"""A byte-level BPE tokenizer trained on admitted text.

Works on texts; knows neither licenses nor models. Every string can be written with the 256 bytes,
so there is no unknown token. One special token, ``<|endoftext|>``, is bos, eos and pad.
Source: Sennrich et al. (2016) for BPE, Radford et al. (2019) for bytes as its alphabet.
"""

from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

BOUNDARY = "<|endoftext|>"
_PIECE_CHARACTERS = 10_000
"""Long texts are handed over in pieces: the trainer holds what it is handed while it counts."""


def train_vocabulary(texts: Iterable[str], size: int, context: int) -> PreTrainedTokenizerBase:
    """A fast tokenizer of at most ``size`` tokens, for an LM that sees ``context`` of them.

    Too little text gives fewer tokens than ``size``. The same texts give the same tokenizer.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[BOUNDARY],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    pieces = (text[i : i + _PIECE_CHARACTERS] for text in texts for i in range(0, len(text), _PIECE_CHARACTERS))
    tokenizer.train_from_iterator(pieces, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOUNDARY,
        eos_token=BOUNDARY,
        pad_token=BOUNDARY,
        model_max_length=context,
        clean_up_tokenization_spaces=False,
    )
