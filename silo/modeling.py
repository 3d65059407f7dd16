"""SILO as ``transformers`` knows models: the mixture is the output head of a causal LM.

``generate`` in all its ways, pipelines and evaluation harnesses run on it unchanged; what they get as logits are the
log-probabilities of the mixture. ``Silo.generate`` gives the same tokens faster, with their sources.

Every forward searches the datastore as it is at that moment, so a document that has left takes no part in any later
forward. What is made of a forward afterwards is out of sight from here: an opt-out does not wait for it, as it does
for a step of ``Silo.generate``.

A saved model names its LM and its datastore; the datastore is never copied, since opt-outs must reach the one there is.
"""

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, GenerationMixin, PreTrainedConfig
from transformers.cache_utils import Cache
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.modeling_utils import PreTrainedModel

from datastore.errors import ReaderFenced
from silo.errors import BadCheckpoint
from silo.generation import Silo
from silo.prediction import Predictor
from silo.settings import GenerationSettings, KnnSettings, NgramSettings

LM_FOLDER = "lm"
_ROWS = 256
"""Positions that are asked for together, and whose distributions are in memory in float64."""


class SiloConfig(PreTrainedConfig):
    """What ``config.json`` says of a SILO model."""

    model_type = "silo"

    def __init__(
        self,
        language_model: str = LM_FOLDER,
        datastore: str | None = None,
        knn: dict[str, Any] | None = None,
        ngram: dict[str, Any] | None = None,
        lm_config: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self.language_model = language_model
        """A checkpoint: a folder, seen from the one in which this file is, or a hub id."""
        self.datastore = datastore
        """Its folder; None for the LM alone."""
        self.knn = knn or {}
        self.ngram = ngram or {}
        """The fields of ``settings.KnnSettings`` and ``NgramSettings`` that are not as by default."""
        self.lm_config = lm_config or {}
        for name in ("vocab_size", "hidden_size", "num_hidden_layers", "max_position_embeddings"):
            setattr(self, name, self.lm_config.get(name))
        super().__init__(**kwargs)

    def get_text_config(self, decoder: bool | None = None, encoder: bool | None = None) -> PreTrainedConfig:  # noqa: ARG002
        """The LM's configuration, by which caches are laid out."""
        return AutoConfig.for_model(**self.lm_config) if self.lm_config else self


class SiloForCausalLM(PreTrainedModel, GenerationMixin):
    """A causal LM whose next-token distribution is the mixture of an LM with a datastore.

    Raises:
        EncoderMismatch: another LM wrote the datastore.
        BadRequest: the settings are out of range.
    """

    config_class = SiloConfig
    base_model_prefix = "language_model"
    main_input_name = "input_ids"
    _supports_sdpa = True

    def __init__(self, config: SiloConfig, silo: Silo | None = None) -> None:
        silo = silo or Silo.open(config.language_model, config.datastore)
        config.lm_config = silo.lm.model.config.to_dict()
        super().__init__(SiloConfig(**config.to_dict()))
        self.silo = silo
        ngram: dict[str, Any] = {
            name: tuple(value) if name == "lengths" else value for name, value in config.ngram.items()
        }
        self.settings = GenerationSettings(knn=KnnSettings(**config.knn), ngram=NgramSettings(**ngram))
        """Of these, how the datastore is asked; how tokens are chosen is told to ``generate``."""
        predictor = None if silo.datastore is None else Predictor(silo.datastore, self.settings, silo.gate)
        self._predictor = None if predictor is None or predictor.is_silent else predictor
        self.language_model = silo.lm.model
        self.tokenizer = silo.lm.tokenizer
        self.generation_config = GenerationConfig(
            bos_token_id=silo.lm.opening, eos_token_id=silo.lm.boundary, pad_token_id=silo.lm.boundary
        )

    @classmethod
    def of(cls, silo: Silo, knn: KnnSettings | None = None, ngram: NgramSettings | None = None) -> "SiloForCausalLM":
        """The model that ``silo`` is."""
        store = silo.datastore
        return cls(
            SiloConfig(
                datastore=None if store is None else str(store.path.resolve()),
                knn=_named(knn or KnnSettings()),
                ngram=_named(ngram or NgramSettings()),
            ),
            silo,
        )

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *args: Any,  # noqa: ARG003
        config: SiloConfig | None = None,
        dtype: Any = None,
        device_map: Any = None,
        **kwargs: Any,  # noqa: ARG003
    ) -> "SiloForCausalLM":
        """Load what ``save_pretrained`` wrote.

        Raises:
            BadCheckpoint: the LM cannot be loaded; or a dtype or a map of devices is asked for, and the keys of a
                datastore belong to an LM as it is.
        """
        folder = Path(pretrained_model_name_or_path)
        if dtype not in (None, "auto") or isinstance(device_map, dict):
            raise BadCheckpoint(
                f"a SILO model keeps its LM's dtype and lies on one device; got dtype={dtype!r}, "
                f"device_map={device_map!r}. Convert the LM, and build a datastore with it."
            )
        if config is None:
            config = SiloConfig.from_pretrained(folder)
        inside = folder / config.language_model
        checkpoint = inside if inside.exists() else Path(config.language_model)
        return cls(
            config, Silo.open(checkpoint, config.datastore, "cpu" if device_map in (None, "auto") else device_map)
        )

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> None:
        """Write ``config.json``, the tokenizer, and the LM in a folder beside them; the datastore is only named."""
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        self.language_model.save_pretrained(folder / LM_FOLDER, **kwargs)
        for place in (folder, folder / LM_FOLDER):
            self.tokenizer.save_pretrained(place)
        config = SiloConfig(**self.config.to_dict() | {"language_model": LM_FOLDER})
        config.architectures = [type(self).__name__]
        config.save_pretrained(folder)
        self.generation_config.save_pretrained(folder)

    def get_input_embeddings(self) -> torch.nn.Module:
        """The LM's."""
        embeddings: torch.nn.Module = self.language_model.get_input_embeddings()
        return embeddings

    def get_output_embeddings(self) -> torch.nn.Module:
        """The LM's, to which the datastore's part is added afterwards."""
        embeddings: torch.nn.Module = self.language_model.get_output_embeddings()
        return embeddings

    def prepare_inputs_for_generation(self, input_ids: Tensor, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """As ever, and the whole sequences with it, of which a cache leaves the last tokens only.

        They come anew with every step, in the order that a beam search has put them in.
        """
        inputs: dict[str, Any] = super().prepare_inputs_for_generation(input_ids, *args, **kwargs)
        return inputs | {"prefix_ids": input_ids}

    @torch.no_grad()
    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        return_dict: bool | None = None,
        prefix_ids: Tensor | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast | tuple[Any, ...]:
        """Log-probabilities of the mixture, as ``logits``, after each token that ``logits_to_keep`` asks for.

        Padding, as ``attention_mask`` tells it, is not asked of the datastore. There are no gradients. With a cache,
        ``prefix_ids`` are all tokens, those of ``input_ids`` the last of them; ``generate`` sees to that.

        Raises:
            ValueError: a cache holds earlier tokens, and ``prefix_ids`` do not.
        """
        n_past = 0 if past_key_values is None else past_key_values.get_seq_length()
        prefixes = input_ids if prefix_ids is None else prefix_ids
        if self._predictor is not None and prefixes.shape[1] < n_past + input_ids.shape[1]:
            raise ValueError(
                f"the cache holds {n_past} tokens that input_ids do not, and the datastore is asked about them too. "
                "Pass the whole sequences as prefix_ids, or use generate."
            )
        out = self.language_model.base_model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            use_cache=use_cache,
            **kwargs,
        )
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        states = out.last_hidden_state[:, kept]
        logits = torch.log_softmax(self.get_output_embeddings()(states).float(), dim=-1)
        if self._predictor is not None:
            is_text = torch.ones_like(prefixes, dtype=torch.bool)
            if attention_mask is not None and attention_mask.dim() == 2:
                is_text[:, -attention_mask.shape[1] :] = attention_mask.bool()
            positions = torch.arange(prefixes.shape[1])[-input_ids.shape[1] :][kept].tolist()
            asked = [(row, i, at) for row in range(len(prefixes)) for i, at in enumerate(positions) if is_text[row, at]]
            histories = [prefixes[row, : at + 1][is_text[row, : at + 1]].tolist() for row, _, at in asked]
            rows, columns = [row for row, _, _ in asked], [i for _, i, _ in asked]
            if asked:
                logits[rows, columns] = self._mixed(states[rows, columns], logits[rows, columns], histories)
        loss = None
        if labels is not None:
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=logits.shape[-1])
        found = CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=out.past_key_values,
            hidden_states=out.hidden_states,
            attentions=out.attentions,
        )
        return found.to_tuple() if return_dict is False else found

    def _mixed(
        self,
        contexts: Float[Tensor, "n dimension"],
        lm_logprobs: Float[Tensor, "n vocabulary"],
        histories: list[list[int]],
    ) -> Float[Tensor, "n vocabulary"]:
        """The mixture at each of ``n`` positions, asked for together."""
        predictor, store = self._predictor, self.silo.datastore
        assert predictor is not None and store is not None
        mixed = torch.empty_like(lm_logprobs)
        for start in range(0, len(mixed), _ROWS):
            rows = slice(start, start + _ROWS)
            queries, alone = contexts[rows].float().cpu().numpy(), lm_logprobs[rows].cpu().numpy()
            while True:
                with suppress(ReaderFenced), store.step():
                    answers = predictor.ask(queries, histories[rows])
                    break
            made = predictor.predict(answers, alone, histories[rows])
            mixed[rows] = torch.from_numpy(np.stack([one.logprobs for one in made])).to(mixed)
        return mixed


def _named(settings: KnnSettings | NgramSettings) -> dict[str, Any]:
    """The fields that are not as by default."""
    return {name: value for name, value in vars(settings).items() if value != getattr(type(settings), name)}


AutoConfig.register("silo", SiloConfig, exist_ok=True)
AutoModelForCausalLM.register(SiloConfig, SiloForCausalLM, exist_ok=True)
