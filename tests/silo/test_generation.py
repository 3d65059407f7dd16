"""The join: generation with a datastore, its attribution, and the same laws through the whole path."""

import contextlib
import copy
import itertools

import numpy as np
import pytest
import torch

from datastore.compaction import compact
from datastore.optout import opt_out
from silo import prediction
from silo.attribution import gather
from silo.context_passages import MAX_WAITING
from silo.decoder import Decoder
from silo.errors import BadDocument, BadRequest, EncoderMismatch, PromptTooLong
from silo.fitting import fit
from silo.generation import Silo
from silo.lm import LanguageModel
from silo.settings import GenerationSettings, KnnSettings, NgramSettings, RetrievalSettings

PAGES = range(50, 58)
SAMPLED = GenerationSettings(max_tokens=24, temperature=0.9, top_p=0.95, seed=5, top_logprobs=3)
GREEDY = GenerationSettings(max_tokens=24, top_logprobs=3)


@pytest.fixture
def pages(manual):
    return manual(PAGES.start, PAGES.stop, "LicenseRef-all-rights-reserved")


def answer(silo: Silo, prompt: str, settings: GenerationSettings) -> tuple:
    """Everything that a caller can see, to the bit."""
    generation = silo.generate(prompt, settings)
    tokens = tuple(generation)
    return generation.text, tokens, generation.sentences(), generation.finish_reason


@pytest.mark.parametrize("settings", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_text_and_logprobs_after_a_removal_are_those_of_a_store_that_never_had_the_document(
    lm, build, pages, now, settings
):
    silo = Silo(lm, build(lm, pages))
    prompts = [page.text[40:80] for page in pages]
    with_all = [answer(silo, prompt, settings) for prompt in prompts]
    for gone in (pages[0], pages[4], pages[7]):
        opt_out(silo.datastore, gone.id, now=now)
    never = Silo(lm, build(lm, [*pages[1:4], *pages[5:7]]))
    expected = [answer(never, prompt, settings) for prompt in prompts]
    assert [answer(silo, prompt, settings) for prompt in prompts] == expected
    compact(silo.datastore)
    assert [answer(silo, prompt, settings) for prompt in prompts] == expected
    assert sum(a != b for a, b in zip(with_all, expected, strict=True)) >= 3, "the control: removal must show"


def test_a_removal_in_the_middle_of_a_generation_is_in_force_for_its_next_token(llama, build, pages, now):
    silo = Silo(llama, build(llama, pages))
    settings = GenerationSettings(max_tokens=30, knn=KnnSettings(weight=0.9))
    prompt = pages[2].text[:60]
    undisturbed = tuple(silo.generate(prompt, settings))
    assert any(s.document == pages[2].id for token in undisturbed[10:] for s in token.sources)
    tokens = iter(silo.generate(prompt, settings))
    before = list(itertools.islice(tokens, 10))
    assert any(s.document == pages[2].id for token in before for s in token.sources)
    opt_out(silo.datastore, pages[2].id, now=now)
    after = list(tokens)
    assert after
    assert not [s for token in after for s in token.sources if s.document == pages[2].id]


@pytest.mark.parametrize("has_steps", [True, False], ids=["in a step", "the control: without"])
def test_a_token_that_was_chosen_while_its_source_left_and_could_not_be_waited_for_is_chosen_again(
    llama, build, pages, now, monkeypatch, has_steps
):
    silo = Silo(llama, build(llama, pages))
    settings = GenerationSettings(max_tokens=1, knn=KnnSettings(weight=0.9))
    prompt, removed = pages[2].text[:60], []

    def leaves_after_it_is_traced(sources):
        found = gather(sources)
        if not removed:
            removed.append(found[0].document)
            opt_out(silo.datastore, removed[0], now=now, patience=0)
        return found

    monkeypatch.setattr(prediction, "gather", leaves_after_it_is_traced)
    if not has_steps:
        monkeypatch.setattr(silo.datastore, "step", contextlib.nullcontext)
    (token,) = silo.generate(prompt, settings)
    assert (removed[0] in {source.document for source in token.sources}) != has_steps
    monkeypatch.undo()
    assert ((token,) == tuple(silo.generate(prompt, settings))) == has_steps


def test_masses_of_every_token_and_sentence_sum_to_one(lm, build, pages):
    silo = Silo(lm, build(lm, pages))
    generation = silo.generate(pages[1].text[:50], SAMPLED)
    tokens = list(generation)
    assert any(token.sources for token in tokens)
    for part in [*tokens, *generation.sentences()]:
        named = sum(source.mass for source in part.sources)
        assert part.parametric_mass + part.unnamed_mass + named == pytest.approx(1)
    assert generation.sentences()[0].start == 0
    assert generation.sentences()[-1].end == len(generation.text)


def test_a_source_is_the_sentence_whose_token_was_taken(llama, build, pages):
    """With all the weight on one neighbor, every generated token stands in the sentence that is named."""
    silo = Silo(llama, build(llama, pages))
    settings = GenerationSettings(max_tokens=20, knn=KnnSettings(k=1, weight=1.0, n_probe=8))
    for token in silo.generate(pages[3].text[:60], settings):
        assert token.parametric_mass == 0
        (source,) = token.sources
        sentence = silo.datastore.sentence_text(source.document, source.sentence)
        assert token.text.strip() == "" or token.text.strip() in sentence


def test_without_a_datastore_greedy_is_what_transformers_generates(lm):
    silo = Silo(lm)
    ids = lm.tokenizer("The import statement", add_special_tokens=False).input_ids
    mine = [token.id for token in silo.generate(ids, GenerationSettings(max_tokens=20))]
    theirs = lm.model.generate(
        torch.tensor([[lm.opening, *ids]]),
        max_new_tokens=20,
        do_sample=False,
        eos_token_id=lm.boundary,
        pad_token_id=lm.boundary,
        attention_mask=torch.ones(1, len(ids) + 1, dtype=torch.long),
    )[0, len(ids) + 1 :].tolist()
    assert mine == [token for token in theirs if token != lm.boundary]
    assert len(mine) >= 5


def test_share_0_is_the_lm_alone(lm, build, pages):
    settings = GenerationSettings(max_tokens=16, knn=KnnSettings(weight=0.0))
    with_store = tuple(Silo(lm, build(lm, pages)).generate("for x in", settings))
    assert with_store == tuple(Silo(lm).generate("for x in", settings))


def test_the_seed_decides_a_sample(lm, build, pages):
    silo = Silo(lm, build(lm, pages))

    def sample(seed: int) -> str:
        settings = GenerationSettings(max_tokens=24, temperature=1.0, seed=seed)
        return "".join(token.text for token in silo.generate("The ", settings))

    assert sample(1) == sample(1)
    assert len({sample(seed) for seed in range(4)}) > 1


def test_a_stop_text_ends_the_completion_and_is_no_part_of_it(lm, build, pages):
    silo = Silo(lm, build(lm, pages))
    whole = "".join(token.text for token in silo.generate("def", GREEDY))
    stop = whole[7:10]
    generation = silo.generate("def", GenerationSettings(max_tokens=24, stop=(stop, "\x00never")))
    streamed = ""
    for token in generation:
        streamed += token.text
        assert streamed == generation.text
        assert stop not in streamed
    assert generation.text == whole[: whole.index(stop)]
    assert generation.finish_reason == "stop"


def test_streamed_text_is_the_decoded_whole(lm):
    generation = Silo(lm).generate("naïve – 漢", GenerationSettings(max_tokens=40, temperature=1.5, seed=3))
    ids = [token.id for token in generation]
    assert generation.text == lm.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def test_an_emptied_store_leaves_the_lm_alone(llama, build, pages, now):
    silo = Silo(llama, build(llama, pages))
    for page in pages:
        opt_out(silo.datastore, page.id, now=now)
    texts = [t.text for t in silo.generate("import", GREEDY)]
    assert texts == [t.text for t in Silo(llama).generate("import", GREEDY)]
    compact(silo.datastore)
    assert texts == [t.text for t in silo.generate("import", GREEDY)]


@pytest.mark.parametrize(
    ("prompt", "settings", "error", "message"),
    [
        ("x" * 4000, GenerationSettings(), PromptTooLong, "must not exceed 95"),
        ("x", GenerationSettings(max_tokens=5000), PromptTooLong, "max_tokens is 5000"),
        ([1, 2, 400], GenerationSettings(max_tokens=1), BadRequest, "from 0 to 399; got 400"),
        ([-1], GenerationSettings(max_tokens=1), BadRequest, "got -1"),
    ],
)
def test_a_prompt_that_cannot_be_read_is_refused_before_the_first_token(llama, prompt, settings, error, message):
    with pytest.raises(error, match=message):
        Silo(llama).generate(prompt, settings)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GenerationSettings(temperature=float("nan")), "temperature must be a number from 0 to 100; got nan"),
        (lambda: GenerationSettings(temperature=-0.1), "temperature"),
        (lambda: GenerationSettings(temperature=float("inf")), "temperature"),
        (lambda: GenerationSettings(top_p=0.0), "top_p"),
        (lambda: GenerationSettings(max_tokens=-1), "max_tokens must be an integer from 0"),
        (lambda: GenerationSettings(stop=("",)), "stop must be at most 4 texts"),
        (lambda: GenerationSettings(stop=("a",) * 5), "stop must be at most 4 texts"),
        (lambda: KnnSettings(weight=1.5), "weight must be a number from 0 to 1"),
        (lambda: KnnSettings(k=0), "k must be an integer from 1"),
        (lambda: KnnSettings(temperature=0.0), "knn temperature"),
        (lambda: GenerationSettings(max_verbatim=0), "max_verbatim must be an integer from 1"),
        (lambda: RetrievalSettings(n_passages=0), "n_passages must be an integer from 1"),
        (lambda: RetrievalSettings(stride=0), "stride must be an integer from 1"),
        (lambda: RetrievalSettings(scorer="tfidf"), "scorer must be one of bm25, dense, fused; got 'tfidf'"),
        (lambda: RetrievalSettings(join="tab"), "join must be one of newline, boundary"),
    ],
)
def test_settings_out_of_range_are_refused(make, message):
    with pytest.raises(BadRequest, match=message):
        make()


def test_a_store_of_another_encoder_is_refused(llama, build, pages):
    store = build(llama, pages)
    changed = copy.deepcopy(llama.model)
    with torch.no_grad():
        changed.lm_head.weight[7, 7] += 1e-3
    other = LanguageModel(changed, llama.tokenizer, "nearly the same")
    with pytest.raises(EncoderMismatch, match=r"written by encoder 'tiny-llama' .* the loaded LM is 'nearly the same'"):
        Silo(other, store)


def test_fitting_refuses_high_risk_text(llama, manual):
    with pytest.raises(BadDocument, match="high-risk: copyleft"):
        fit(llama, manual(0, 3, "GPL-3.0-only"), n_lists=2)


def test_what_is_fitted_does_not_know_the_stored_text(llama, build, pages):
    one, other = build(llama, pages), build(llama, pages[:2])
    assert np.array_equal(one.space.centroids, other.space.centroids)
    assert one.manifest.knn_temperature == other.manifest.knn_temperature


def test_without_logprobs_a_sample_names_the_one_source_that_it_was_drawn_from(llama, build, pages):
    silo = Silo(llama, build(llama, pages))
    settings = GenerationSettings(max_tokens=30, temperature=1, seed=3, logprobs=False)
    tokens = list(silo.generate(pages[1].text[:50], settings))
    assert {len(token.sources) for token in tokens} == {0, 1}
    for token in tokens:
        assert np.isnan(token.logprob)
        assert token.parametric_mass + token.unnamed_mass + sum(source.mass for source in token.sources) == 1
        for source in token.sources:
            sentence = silo.datastore.sentence_text(source.document, source.sentence)
            assert silo.lm.tokenizer.decode([token.id]).strip() in sentence


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_the_lm_reads_no_token_until_it_is_asked_or_many_wait(llama, build, pages, monkeypatch, weight):
    silo, runs = Silo(llama, build(llama, pages)), []
    read = Decoder.advance_all
    monkeypatch.setattr(Decoder, "advance_all", lambda self, tokens: [runs.append(len(tokens)), read(self, tokens)][1])
    ngram = NgramSettings(weight=weight)
    settings = GenerationSettings(max_tokens=20, temperature=1, seed=3, logprobs=False, ngram=ngram)
    n = len(list(silo.generate(pages[1].text[:50], settings)))
    assert n == 20
    waited = runs[1:]
    assert waited == ([1] * 19 if weight == 0 else [MAX_WAITING] * 2)


def test_ngrams_alone_continue_a_text_of_the_store_and_name_it(llama, build, pages):
    silo = Silo(llama, build(llama, pages))
    settings = GenerationSettings(max_tokens=10, ngram=NgramSettings(weight=1.0), max_verbatim=None)
    prompt, page = pages[3].text[:100], pages[3]
    generation = silo.generate(prompt, settings)
    tokens = list(generation)
    assert page.text[len(prompt) :].startswith(generation.text)
    assert all(token.parametric_mass == 0 and token.sources[0].document == page.id for token in tokens)
