"""The mixture as an output head: what transformers does with it is what our own loop does."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline

from datastore.optout import opt_out
from silo.errors import BadCheckpoint, EncoderMismatch
from silo.generation import Silo
from silo.lm import LanguageModel
from silo.modeling import SiloForCausalLM
from silo.settings import GenerationSettings, KnnSettings, NgramSettings

KNN, NGRAM = KnnSettings(k=8, weight=0.5), NgramSettings(weight=0.3, lengths=(16, 4, 2))
N = 14


@pytest.fixture
def pages(manual):
    return manual(50, 56, "LicenseRef-all-rights-reserved")


@pytest.fixture
def silo(lm, build, pages) -> Silo:
    return Silo(lm, build(lm, pages))


def ids_of(silo: Silo, text: str) -> list[int]:
    return silo.lm.tokenizer(text, add_special_tokens=False).input_ids


def ours(silo: Silo, prompt: list[int]) -> list[tuple[int, float]]:
    settings = GenerationSettings(max_tokens=N, knn=KNN, ngram=NGRAM)
    return [(token.id, token.logprob) for token in silo.generate(prompt, settings)]


def generate(model: SiloForCausalLM, prompts: list[list[int]], **kwargs):
    """Prompts of different lengths, padded on the left as transformers wants them."""
    longest = max(map(len, prompts)) + 1
    opening = model.silo.lm.opening
    rows = [[opening] * (longest - len(prompt)) + prompt for prompt in prompts]
    masks = [[0] * (longest - len(prompt) - 1) + [1] * (len(prompt) + 1) for prompt in prompts]
    return model.generate(
        torch.tensor(rows), attention_mask=torch.tensor(masks), max_new_tokens=N, return_dict_in_generate=True, **kwargs
    ), longest


def test_greedy_tokens_and_logprobs_are_those_of_our_own_loop(silo, pages):
    model = SiloForCausalLM.of(silo, KNN, NGRAM)
    prompts = [ids_of(silo, page.text[30:n]) for page, n in zip(pages, (60, 75, 42, 90), strict=False)]
    out, start = generate(model, prompts, do_sample=False, output_logits=True)
    for row, prompt in enumerate(prompts):
        expected = ours(silo, prompt)
        found = out.sequences[row, start:].tolist()[: len(expected)]
        assert found == [token for token, _ in expected]
        logprobs = [out.logits[i][row, token].item() for i, token in enumerate(found)]
        assert logprobs == pytest.approx([logprob for _, logprob in expected], abs=2e-5)
    alone, _ = generate(SiloForCausalLM.of(Silo(silo.lm)), prompts, do_sample=False)
    assert not torch.equal(alone.sequences, out.sequences), "the control: the datastore must show"


def test_every_position_has_the_distribution_that_stepping_gives(silo, pages):
    model, ids = (
        SiloForCausalLM.of(silo, KNN, NGRAM),
        torch.tensor([[silo.lm.opening, *ids_of(silo, pages[0].text[:60])]]),
    )
    whole = model(ids).logits
    torch.testing.assert_close(whole.exp().sum(-1), torch.ones(whole.shape[:2]), atol=1e-5, rtol=0)
    past, steps = None, []
    for i, token in enumerate(ids.T):
        out = model(token[None], past_key_values=past, use_cache=True, prefix_ids=ids[:, : i + 1])
        past = out.past_key_values
        steps.append(out.logits)
    with pytest.raises(ValueError, match="Pass the whole sequences as prefix_ids"):
        model(ids[:, :1], past_key_values=past)
    torch.testing.assert_close(torch.cat(steps, dim=1), whole, atol=2e-4, rtol=0)
    torch.testing.assert_close(model(ids, logits_to_keep=3).logits, whole[:, -3:], atol=2e-5, rtol=0)
    torch.testing.assert_close(
        model(ids, logits_to_keep=torch.tensor([1, 4])).logits, whole[:, [1, 4]], atol=2e-5, rtol=0
    )


def test_the_loss_is_the_mean_of_the_mixtures_negative_logprobs(silo, pages):
    model, ids = (
        SiloForCausalLM.of(silo, KNN, NGRAM),
        torch.tensor([[silo.lm.opening, *ids_of(silo, pages[0].text[:60])]]),
    )
    out = model(ids, labels=ids)
    assert out.loss.item() == pytest.approx(-out.logits[0, :-1].gather(1, ids[0, 1:, None]).mean().item(), abs=1e-5)
    assert model(ids, labels=ids, return_dict=False)[0].item() == pytest.approx(out.loss.item(), abs=1e-6)


def test_beam_search_finds_a_likelier_sequence_and_scores_it_as_the_mixture_does(silo, pages):
    model, prompt = SiloForCausalLM.of(silo, KNN, NGRAM), ids_of(silo, pages[1].text[20:50])

    def logprob(tokens: list[int]) -> float:
        ids = torch.tensor([[silo.lm.opening, *prompt, *tokens]])
        return model(ids).logits[0, len(prompt) : -1].gather(1, torch.tensor(tokens)[:, None]).sum().item()

    def best(n: int) -> list[int]:
        out, start = generate(model, [prompt], do_sample=False, num_beams=n, min_new_tokens=N)
        return out.sequences[0, start:].tolist()

    out, start = generate(
        model, [prompt], do_sample=False, num_beams=4, min_new_tokens=N, length_penalty=0.0, output_scores=True
    )
    assert out.sequences_scores[0].item() == pytest.approx(logprob(out.sequences[0, start:].tolist()), abs=1e-3)
    assert logprob(best(4)) >= logprob(best(1)) - 1e-4


def test_samples_come_from_the_mixture(silo, pages):
    model, prompt = SiloForCausalLM.of(silo, KNN, NGRAM), ids_of(silo, pages[1].text[20:50])
    ids = torch.tensor([[silo.lm.opening, *prompt]])
    expected = model(ids, logits_to_keep=1).logits[0, 0].exp().numpy()
    torch.manual_seed(0)
    out = model.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=True, top_k=0, max_new_tokens=1, num_return_sequences=4000
    )
    found = np.bincount(out[:, -1].numpy(), minlength=len(expected)) / 4000
    assert np.abs(found - expected).max() < 4.5 * np.sqrt(0.25 / 4000)


def test_a_saved_model_is_loaded_by_the_auto_classes_and_does_the_same(silo, pages, tmp_path):
    model, prompt = SiloForCausalLM.of(silo, KNN, NGRAM), ids_of(silo, pages[2].text[:40])
    model.save_pretrained(tmp_path / "saved")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "saved")
    assert type(loaded) is SiloForCausalLM
    assert (loaded.settings.knn, loaded.settings.ngram) == (KNN, NGRAM)
    assert loaded.silo.datastore.id == silo.datastore.id
    ids = torch.tensor([prompt])
    assert torch.equal(loaded(ids).logits, model(ids).logits)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "saved")
    write = pipeline("text-generation", model=loaded, tokenizer=tokenizer)
    text = write(pages[2].text[:40], max_new_tokens=5, do_sample=False, return_full_text=False)[0]["generated_text"]
    assert text
    assert not (tmp_path / "saved" / "segments").exists()


def test_what_has_left_the_datastore_takes_no_part_in_the_next_forward(silo, lm, build, pages, now):
    model, ids = SiloForCausalLM.of(silo, KNN, NGRAM), torch.tensor([ids_of(silo, pages[3].text[:60])])
    before = model(ids).logits
    opt_out(silo.datastore, pages[3].id, now=now)
    after = model(ids).logits
    never = SiloForCausalLM.of(Silo(lm, build(lm, [*pages[:3], *pages[4:]])), KNN, NGRAM)
    assert not torch.equal(before, after)
    assert torch.equal(after, never(ids).logits)


def test_a_model_is_refused_where_its_keys_would_mean_nothing(silo, tmp_path, llama, pages, build):
    model = SiloForCausalLM.of(silo, KNN, NGRAM)
    model.save_pretrained(tmp_path / "saved")
    with pytest.raises(BadCheckpoint, match="keeps its LM's dtype"):
        SiloForCausalLM.from_pretrained(tmp_path / "saved", dtype=torch.bfloat16)
    with torch.no_grad():
        weight = model.language_model.get_input_embeddings().weight
        kept = weight[3, 3].item()
        weight[3, 3] = kept + 1
        try:
            model.language_model.save_pretrained(tmp_path / "saved" / "lm")
        finally:
            weight[3, 3] = kept
    with pytest.raises(EncoderMismatch):
        SiloForCausalLM.from_pretrained(tmp_path / "saved")
    assert LanguageModel.load(tmp_path / "saved" / "lm").fingerprint != silo.lm.fingerprint
