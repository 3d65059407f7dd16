"""Read token by token, in pieces, or beside others, a sequence says what the forward of the model says."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from silo import products
from silo.decoder import BatchDecoder, Decoder, TransformersBody, body_of
from silo.errors import PromptTooLong
from silo.llama import LlamaBody
from silo.lm import LanguageModel

VOCABULARY = 60
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
FUSED = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE)),
    "grouped heads": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE, num_key_value_heads=2, head_dim=16)),
    "biases": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE, attention_bias=True, mlp_bias=True)),
    "llama3 rotation": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE, rope_parameters=LLAMA3)),
    "tied": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE, tie_word_embeddings=True)),
    "mistral": lambda: MistralForCausalLM(MistralConfig(**SHAPE, num_key_value_heads=2, sliding_window=None)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SHAPE, num_key_value_heads=2)),
}
PLAIN = {
    "gpt2": lambda: GPT2LMHeadModel(
        GPT2Config(
            vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=64, bos_token_id=0, eos_token_id=0
        )
    ),
    "a sliding window": lambda: MistralForCausalLM(MistralConfig(**SHAPE, num_key_value_heads=2, sliding_window=6)),
    "dynamic rotation": lambda: LlamaForCausalLM(
        LlamaConfig(**SHAPE, rope_parameters={"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0})
    ),
}
TOKENS = np.random.default_rng(0).integers(0, VOCABULARY, 40).tolist()


@pytest.fixture(params=[True, False], ids=["packed", "plain"])
def is_packed(request, monkeypatch) -> bool:
    if not request.param:
        monkeypatch.setattr(products, "is_packable", lambda weight: False)
    return request.param


def make(factory):
    torch.manual_seed(1)
    model = factory().eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        if name.endswith("bias") or "norm" in name:
            parameter.data += 0.1 * torch.randn_like(parameter)
    return model


def head_of(model):
    return lambda contexts: torch.log_softmax(model.get_output_embeddings()(contexts).float(), dim=-1)


def whole(model, tokens) -> torch.Tensor:
    with torch.inference_mode():
        return torch.log_softmax(model(torch.tensor([tokens]), use_cache=False).logits[0].float(), dim=-1)


@pytest.fixture(scope="module", params=[*FUSED, *PLAIN])
def model(request: pytest.FixtureRequest):
    return make((FUSED | PLAIN)[request.param])


@pytest.fixture(scope="module")
def llama_model():
    return make(FUSED["grouped heads"])


@pytest.mark.parametrize("name", [*FUSED, *PLAIN])
def test_what_is_shaped_like_a_llama_is_run_as_one_and_nothing_else(name):
    model = make((FUSED | PLAIN)[name])
    assert type(body_of(model)) is (LlamaBody if name in FUSED else TransformersBody)


@pytest.mark.parametrize("pieces", [[40], [1] * 40, [7, 1, 1, 5, 1, 25], [1, 39]], ids=str)
def test_a_sequence_read_in_pieces_says_what_the_forward_of_the_model_says(model, pieces, is_packed):
    expected = whole(model, TOKENS)
    decoder, found = Decoder(body_of(model), head_of(model)), []
    for start, n in zip(np.cumsum([0, *pieces]), pieces, strict=False):
        found.append(decoder.read_all(TOKENS[start : start + n])[1])
    assert decoder.length == 40
    torch.testing.assert_close(torch.cat(found), expected, atol=2e-5, rtol=1e-5)


def test_contexts_are_those_that_the_model_gives_its_head(model):
    contexts, logprobs = Decoder(body_of(model), head_of(model)).read_all(TOKENS)
    with torch.inference_mode():
        expected = model.base_model(torch.tensor([TOKENS]), use_cache=False).last_hidden_state[0]
    torch.testing.assert_close(contexts, expected, atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(head_of(model)(contexts), logprobs, atol=0, rtol=0)


def test_the_model_itself_gives_the_same_bits_before_and_after_its_weights_are_joined(is_packed):
    model = make(FUSED["biases"])
    before, state = whole(model, TOKENS), {name: value.clone() for name, value in model.state_dict().items()}
    body_of(model)
    assert torch.equal(whole(model, TOKENS), before)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_a_body_made_of_a_model_again_shares_its_weights_where_they_are_not_packed(monkeypatch):
    monkeypatch.setattr(products, "is_packable", lambda weight: False)
    model = make(FUSED["biases"])
    first, second = body_of(model), body_of(model)
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight.mul_(2.0)
        model.model.layers[1].self_attn.k_proj.bias.add_(1.0)
    expected = whole(model, TOKENS)
    for body in (first, second):
        _, logprobs = Decoder(body, head_of(model)).read_all(TOKENS)
        torch.testing.assert_close(logprobs, expected, atol=2e-5, rtol=1e-5)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_after_rewinding_a_sequence_is_as_if_it_had_not_been_read_further(model, data):
    kept = data.draw(st.integers(0, 20))
    wrong = data.draw(st.lists(st.integers(0, VOCABULARY - 1), max_size=8))
    decoder, never = (Decoder(body_of(model), head_of(model)) for _ in range(2))
    for each in (decoder, never):
        if kept:
            each.read(TOKENS[:kept])
    if wrong:
        decoder.read_all(wrong)
    decoder.rewind(kept)
    assert decoder.length == kept
    context, logprobs = decoder.read(TOKENS[kept : kept + 5])
    again, expected = never.read(TOKENS[kept : kept + 5])
    tolerance = {"atol": 2e-5, "rtol": 1e-5}
    torch.testing.assert_close(logprobs, expected, **tolerance)
    torch.testing.assert_close(context, again, **tolerance)


def test_a_rewound_llama_gives_the_same_bits(llama_model):
    decoder, never = (Decoder(body_of(llama_model), head_of(llama_model)) for _ in range(2))
    for each in (decoder, never):
        each.read(TOKENS[:9])
    decoder.read_all([1, 2, 3])
    decoder.rewind(9)
    assert torch.equal(decoder.read(TOKENS[9:10]).logprobs, never.read(TOKENS[9:10]).logprobs)


def test_a_sequence_cannot_be_rewound_to_what_was_not_read(model):
    decoder = Decoder(body_of(model), head_of(model))
    decoder.read(TOKENS[:5])
    with pytest.raises(ValueError, match="5 tokens can be rewound to 0 to 5 tokens; got 6"):
        decoder.rewind(6)


@pytest.mark.parametrize("is_long", [False, True], ids=["of its own", "of the LM"])
def test_more_tokens_than_there_is_room_for_are_refused(model, is_long):
    decoder = Decoder(body_of(model), head_of(model), 1000 if is_long else 8)
    room = 64 if is_long else 8
    decoder.read((TOKENS * 2)[:room])
    with pytest.raises(PromptTooLong, match=f"room for {room} tokens; {room + 1} are to be read"):
        decoder.read([0])
    assert decoder.length == room


def play(decoder: BatchDecoder, script) -> dict[int, list[torch.Tensor]]:
    """Run events: prompts that join, who leaves, or what each reads next. The log-probabilities that each saw."""
    slots, seen = {}, {}
    for kind, event in script:
        if kind == "leave":
            decoder.leave(slots.pop(event))
        elif kind == "join":
            for who, (slot, reading) in zip(event, decoder.join(list(event.values())), strict=True):
                slots[who], seen[who] = slot, [reading.logprobs]
        elif kind == "step":
            readings = decoder.step({slots[who]: token for who, token in event.items()})
            assert set(readings) == {slots[who] for who in event}
            for who in event:
                seen[who].append(readings[slots[who]].logprobs)
        else:
            for slot, (_, logprobs) in decoder.read_all({slots[who]: run for who, run in event.items()}).items():
                seen[next(who for who in slots if slots[who] == slot)] += list(logprobs)
    return seen


SCRIPT = [
    ("join", {0: [3, 4, 5]}),
    ("step", {0: 7}),
    ("join", {1: [9], 2: [8, 8, 8, 8, 8, 8, 1]}),
    ("step", {2: 5, 0: 8, 1: 2}),
    ("step", {1: 3, 2: 6}),
    ("step", {0: 9}),
    ("leave", 0),
    ("step", {1: 4, 2: 7}),
    ("join", {3: [30, 31]}),
    ("step", {3: 32, 1: 5}),
    ("leave", 1),
    ("read", {2: [8], 3: [33, 34, 35]}),
    ("step", {2: 9}),
]
READ = {0: [3, 4, 5, 7, 8, 9], 1: [9, 2, 3, 4, 5], 2: [8] * 6 + [1, 5, 6, 7, 8, 9], 3: [30, 31, 32, 33, 34, 35]}
N_PROMPT = {0: 3, 1: 1, 2: 7, 3: 2}


@pytest.mark.parametrize("is_deterministic", [False, True])
def test_sequences_that_join_and_leave_say_what_each_says_alone(model, is_deterministic):
    seen = play(BatchDecoder(body_of(model), head_of(model), 3, 40, is_deterministic), SCRIPT)
    for who, tokens in READ.items():
        expected = whole(model, tokens)[N_PROMPT[who] - 1 :]
        torch.testing.assert_close(torch.stack(seen[who]), expected, atol=2e-5, rtol=1e-5)


def test_memory_that_was_never_written_is_not_read(llama_model, monkeypatch):
    empty = torch.Tensor.new_empty
    monkeypatch.setattr(torch.Tensor, "new_empty", lambda self, shape: empty(self, shape).fill_(torch.nan))
    for is_deterministic in (False, True):
        seen = play(BatchDecoder(body_of(llama_model), head_of(llama_model), 3, 40, is_deterministic), SCRIPT)
        assert all(torch.isfinite(logprobs).all() for each in seen.values() for logprobs in each)


def test_where_it_is_deterministic_the_bits_of_a_sequence_do_not_depend_on_the_others(model):
    head = head_of(model)
    seen = play(BatchDecoder(body_of(model), head, 3, 40, deterministic=True), SCRIPT)
    for who, tokens in READ.items():
        decoder = Decoder(body_of(model), head)
        alone = [decoder.read(tokens[: N_PROMPT[who]]).logprobs]
        rest = tokens[N_PROMPT[who] :]
        n_single = 1 if who == 3 else len(rest)
        alone += [decoder.read([token]).logprobs for token in rest[:n_single]]
        alone += list(decoder.read_all(rest[n_single:])[1]) if rest[n_single:] else []
        assert all(torch.equal(a, b) for a, b in zip(seen[who], alone, strict=True))


def test_a_rewound_slot_is_as_if_it_had_not_read_further(model):
    decoder = BatchDecoder(body_of(model), head_of(model), 2, 40)
    (first, _), (second, _) = decoder.join([[3, 4, 5], [6]])
    decoder.read_all({first: [9, 9, 9], second: [7, 8]})
    decoder.rewind(first, 4)
    found = decoder.step({first: 1, second: 2})
    torch.testing.assert_close(found[first].logprobs, whole(model, [3, 4, 5, 9, 1])[-1], atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(found[second].logprobs, whole(model, [6, 7, 8, 2])[-1], atol=2e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="5 tokens can be rewound to 0 to 5 tokens; got 6"):
        decoder.rewind(first, 6)


def test_a_batch_takes_no_more_than_its_slots_and_names_one_that_is_free(llama_model):
    decoder = BatchDecoder(body_of(llama_model), head_of(llama_model), 2, 8)
    (first, _), (second, _) = decoder.join([[1], [2]])
    assert {first, second} == {0, 1}
    with pytest.raises(RuntimeError, match="1 prompts need a slot each; 0 of 2 are free"):
        decoder.join([[3]])
    decoder.leave(first)
    assert decoder.n_free == 1
    for use in (lambda: decoder.leave(first), lambda: decoder.step({first: 1}), lambda: decoder.rewind(first, 0)):
        with pytest.raises(KeyError, match=f"slot {first} is free"):
            use()
    assert decoder.step({}) == {}
    assert decoder.join([[4]])[0][0] == first


@pytest.mark.parametrize("is_deterministic", [False, True])
def test_a_prompt_without_room_takes_no_slot(llama_model, is_deterministic):
    decoder = BatchDecoder(body_of(llama_model), head_of(llama_model), 2, 4, is_deterministic)
    with pytest.raises(PromptTooLong, match="room for 4 tokens"):
        decoder.join([[1, 2], [1] * 5])
    assert decoder.n_free == 2
    ((slot, _),) = decoder.join([[1] * 4])
    with pytest.raises(PromptTooLong, match="room for 4 tokens"):
        decoder.step({slot: 1})


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_the_dtype_of_the_model_is_kept(dtype):
    model = make(FUSED["grouped heads"]).to(dtype)
    contexts, logprobs = Decoder(body_of(model), head_of(model)).read_all(TOKENS)
    assert contexts.dtype == dtype
    assert logprobs.dtype == torch.float32
    exact = whole(model.double(), TOKENS)
    assert (logprobs.exp() - exact.exp()).abs().max() < (0.05 if dtype == torch.bfloat16 else 1e-6)


def test_a_language_model_makes_decoders_of_its_own_size(lm):
    tokens = [lm.opening, 5, 6, 7]
    _, expected = lm.decoder().read(tokens)
    ((slot, reading),) = lm.batch_decoder(2, 10, deterministic=True).join([tokens])
    assert slot == 0
    assert torch.equal(reading.logprobs, expected)
    with pytest.raises(PromptTooLong, match="room for 96 tokens"):
        lm.decoder().read([0] * 97)


def test_a_language_model_made_of_the_same_weights_again_decodes_the_same(llama):
    again = LanguageModel(llama.model, llama.tokenizer, "again")
    tokens = [llama.opening, 9, 8]
    assert torch.equal(again.decoder().read(tokens).logprobs, llama.decoder().read(tokens).logprobs)
