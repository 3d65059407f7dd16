"""What can be loaded as an LM, and what is said of what cannot."""

import pytest
import torch

from silo.errors import BadCheckpoint
from silo.lm import LanguageModel


@pytest.mark.parametrize("name", ["/nowhere/at/all", "nowhere", "./nowhere/x/y"])
def test_a_folder_that_is_not_there_is_named(name):
    with pytest.raises(BadCheckpoint, match="neither a checkpoint folder nor a hub id"):
        LanguageModel.load(name)


def test_a_folder_without_a_checkpoint_is_named(tmp_path):
    with pytest.raises(BadCheckpoint, match=str(tmp_path)):
        LanguageModel.load(tmp_path)


def test_a_device_that_is_not_there_is_refused_in_words(tmp_path):
    with pytest.raises(BadCheckpoint, match=r"cannot use the device 'cuda:97'.*--device cpu"):
        LanguageModel.load(tmp_path, device="cuda:97")


def test_a_saved_checkpoint_loads_with_the_same_fingerprint(lm, tmp_path):
    lm.model.save_pretrained(tmp_path)
    lm.tokenizer.save_pretrained(tmp_path)
    assert LanguageModel.load(tmp_path).fingerprint == lm.fingerprint


def test_the_fingerprint_knows_every_weight_and_the_tokenizer(llama):
    changed = LanguageModel(llama.model, llama.tokenizer, "again")
    assert changed.fingerprint == llama.fingerprint
    state = {name: tensor.clone() for name, tensor in llama.model.state_dict().items()}
    with torch.no_grad():
        llama.model.model.norm.weight[0] += 1e-6
        other = LanguageModel(llama.model, llama.tokenizer, "other").fingerprint
        llama.model.load_state_dict(state)
    assert other != llama.fingerprint


def test_a_model_that_caps_its_logits_is_refused(llama):
    from transformers import Gemma2Config, Gemma2ForCausalLM

    config = Gemma2Config(
        vocab_size=400,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=16,
        final_logit_softcapping=0.05,
    )
    with pytest.raises(BadCheckpoint, match="does more to its last hidden state"):
        LanguageModel(Gemma2ForCausalLM(config), llama.tokenizer, "capped")
