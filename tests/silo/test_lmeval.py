"""EleutherAI's lm-eval on our Hugging Face adapter, end to end, on exercises of our own."""

import json
import sys

import pytest

from silo.evaluation.choices import accuracy, continuation, judge
from silo.evaluation.items import exercise_items
from silo.generation import Silo
from silo.modeling import SiloForCausalLM
from silo.settings import GenerationSettings, KnnSettings, NgramSettings
from tests.lm_eval_task import task_of

pytest.importorskip("lm_eval.models.huggingface", reason="no lm_eval; pip install 'silo-lm[lm-eval]'")

KNN, NGRAM = KnnSettings(k=8, weight=0.4), NgramSettings(weight=0.3)
MIXED = GenerationSettings(max_tokens=0, knn=KNN, ngram=NGRAM)


@pytest.fixture(scope="module")
def items():
    return list(exercise_items(8, seed=2))


@pytest.fixture
def silo(llama, build, manual) -> Silo:
    return Silo(llama, build(llama, manual(50, 54, "LicenseRef-all-rights-reserved")))


@pytest.fixture
def task(items, tmp_path):
    return task_of(items, tmp_path) | {"metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}]}


def harness(pretrained, **options):
    from lm_eval.api.registry import get_model

    from silo.lmeval import SiloHarnessLM

    assert get_model("silo") is SiloHarnessLM
    return SiloHarnessLM(pretrained, **options)


def test_a_local_task_scores_what_our_own_evaluation_scores(silo, items, task):
    import lm_eval

    judged = list(judge(silo, items, MIXED))
    alone = list(judge(Silo(silo.lm), items, GenerationSettings(max_tokens=0)))
    for model, ours in ((SiloForCausalLM.of(silo, KNN, NGRAM), judged), (SiloForCausalLM.of(Silo(silo.lm)), alone)):
        for batch_size in (1, 5):
            found = lm_eval.simple_evaluate(
                harness(model, batch_size=batch_size), tasks=[task], log_samples=True, bootstrap_iters=0
            )
            samples = sorted(found["samples"]["silo_exercises"], key=lambda sample: sample["doc_id"])
            for sample, one in zip(samples, ours, strict=True):
                logprobs = [logprob for logprob, _ in sample["filtered_resps"]]
                assert logprobs == pytest.approx([logprob for (logprob,) in one.given], abs=1e-3)
            expected = accuracy(ours, "probability").accuracy
            assert found["results"]["silo_exercises"]["acc,none"] == pytest.approx(expected)
    gaps = [abs(a.given[0][0] - b.given[0][0]) for a, b in zip(judged, alone, strict=True)]
    assert max(gaps) > 0.01, "the control: the datastore must show"


def test_a_request_tells_whether_greedy_decoding_would_say_the_same(silo, manual):
    from lm_eval.api.instance import Instance

    page = manual(50, 51, "")[0].text
    model = harness(SiloForCausalLM.of(silo, KNN, NGRAM))
    made = silo.generate(page[:40], GenerationSettings(max_tokens=6, knn=KNN, ngram=NGRAM, max_verbatim=None))
    said = "".join(token.text for token in made)
    asked = [Instance("loglikelihood", {}, (page[:40], text), i) for i, text in enumerate((said, " zebra", said + "Q"))]
    (first, is_greedy), (_, is_other), _ = model.loglikelihood(asked)
    before, after = continuation(silo, page[:40], said)
    scored = silo.score(before + after, MIXED, 0).tokens[len(before) :]
    assert first == pytest.approx(sum(token.logprob for token in scored), abs=1e-3)
    assert is_greedy and not is_other
    (empty,) = model.loglikelihood([Instance("loglikelihood", {}, ("", "The court"), 0)])
    assert empty[0] == pytest.approx(sum(t.logprob for t in silo.score("The court", MIXED, 0).tokens), abs=1e-3)


def test_a_text_is_scored_whole_and_continued_as_we_do(silo, manual):
    from lm_eval.api.instance import Instance

    page = manual(50, 51, "")[0].text
    model = harness(SiloForCausalLM.of(silo, KNN, NGRAM), batch_size=2)
    (rolled,) = model.loglikelihood_rolling([Instance("loglikelihood_rolling", {}, (page[:80],), 0)])
    assert rolled == pytest.approx(sum(t.logprob for t in silo.score(page[:80], MIXED, 0).tokens), abs=1e-3)
    prompts = [page[:40], page[100:180]]
    options = {"until": ["\n\n\n"], "max_gen_toks": 8}
    found = model.generate_until(
        [Instance("generate_until", {}, (prompt, options), i) for i, prompt in enumerate(prompts)]
    )
    for prompt, text in zip(prompts, found, strict=True):
        made = silo.generate(prompt, GenerationSettings(max_tokens=8, knn=KNN, ngram=NGRAM, max_verbatim=None))
        assert text.strip() == "".join(token.text for token in made).strip()


def test_the_command_line_of_the_harness_knows_the_model(silo, task, tmp_path, monkeypatch, capsys):
    import yaml

    from silo.lmeval import main

    folder, tasks = tmp_path / "model", tmp_path / "tasks"
    SiloForCausalLM.of(silo).language_model.save_pretrained(folder)
    silo.lm.tokenizer.save_pretrained(folder)
    tasks.mkdir()
    (tasks / "silo_exercises.yaml").write_text(yaml.safe_dump(task))
    arguments = f"pretrained={folder},datastore={silo.datastore.path},knn_weight=0.4,ngram_weight=0.3,k=8"
    out = tmp_path / "out"
    monkeypatch.setattr(
        sys, "argv",
        ["lm_eval", "run", "--model", "silo", "--model_args", arguments, "--tasks", "silo_exercises",
         "--include_path", str(tasks), "--device", "cpu", "--output_path", str(out), "--limit", "2"],
    )  # fmt: skip
    main()
    assert "silo_exercises" in capsys.readouterr().out
    (recorded,) = out.rglob("results_*.json")
    assert json.loads(recorded.read_text())["n-samples"]["silo_exercises"]["effective"] == 2
