"""Clients that others wrote, unchanged, against a real server: skipped where they are not installed.

Wanted: the extra ``clients`` for LangChain and lm-eval. For the official client of JavaScript `node` on the path and
npm's package ``openai``, its folder named by ``OPENAI_JS=/path/to/node_modules``.
"""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving import create_app
from serving.engine import Engine
from serving.runners import Runners
from silo.evaluation.choices import accuracy, judge
from silo.evaluation.items import exercise_items
from silo.generation import Silo
from silo.scoring import score
from silo.settings import GenerationSettings
from tests.lm_eval_task import task_of
from tests.serving.conftest import serving

SCRIPT = Path(__file__).parent / "openai_client.mjs"
NO_EXTRA = "no {}; pip install 'silo-lm[clients]'"


@pytest.fixture
def node_modules() -> Path:
    """The folder that has npm's package ``openai``."""
    folder = os.environ.get("OPENAI_JS")
    if shutil.which("node") is None:
        pytest.skip("no `node` on the path; install Node.js 20 or later")
    if not folder or not (Path(folder) / "openai" / "package.json").is_file():
        pytest.skip("no client of JavaScript; `npm install openai` and set OPENAI_JS to that folder's node_modules")
    return Path(folder)


def test_the_official_client_of_javascript_completes_streams_converses_and_is_refused(node_modules, url, silo):
    done = subprocess.run(
        ["node", SCRIPT, node_modules, url, "scripted"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["models"] == ["scripted"]
    (choice,) = told["completion"]["choices"]
    assert (choice["text"], choice["finish_reason"]) == ("The court ruled.", "length")
    assert choice["logprobs"]["token_logprobs"] == [-0.1] * 4
    assert told["completion"]["usage"]["completion_tokens"] == 4
    (scored,) = told["echo"]["choices"]
    assert (scored["text"], scored["logprobs"]["token_logprobs"]) == ("The court", [None, -1])
    *chunks, last = told["chunks"]
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == "The court ruled."
    assert last["choices"] == [] and last["usage"]["completion_tokens"] == 4
    (said,) = told["chat"]["choices"]
    assert (said["message"]["role"], said["message"]["content"]) == ("assistant", "The court ruled.")
    *deltas, last = told["deltas"]
    assert "".join(delta["choices"][0]["delta"].get("content") or "" for delta in deltas) == "The court ruled."
    assert last["usage"]["completion_tokens"] == 4
    assert told["final"] == "The court ruled."
    assert (told["refusal"]["name"], told["refusal"]["param"]) == ("BadRequestError", "logit_bias")
    assert told["refusal"]["status"] == 400 and "logit_bias" in told["refusal"]["message"]
    assert told["first"] == "The"
    for _ in range(500):
        if not silo.n_running:
            break
        time.sleep(0.01)
    assert silo.n_running == 0, "who hangs up leaves the engine"


@pytest.fixture
def langchain():
    return pytest.importorskip("langchain_openai", reason=NO_EXTRA.format("langchain-openai"))


def test_langchains_llm_completes_streams_and_asks_for_several(langchain, url, silo):
    llm = langchain.OpenAI(base_url=f"{url}/v1", api_key="none", model="scripted", max_tokens=4, max_retries=0)
    assert llm.invoke("Once") == "The court ruled."
    assert "".join(llm.stream("Once")) == "The court ruled."
    assert llm.invoke("Once", stop=[" ruled"]) == "The court"
    found = llm.generate(["Once", "Twice upon"])
    assert [one.text for (one,) in found.generations] == ["The court ruled."] * 2
    assert found.llm_output["token_usage"]["completion_tokens"] == 8
    assert [prompt for prompt, _ in silo.asked[-2:]] == ["Once", "Twice upon"]


def test_langchains_chat_model_converses_and_streams(langchain, url, silo):
    chat = langchain.ChatOpenAI(base_url=f"{url}/v1", api_key="none", model="scripted", max_tokens=4, max_retries=0)
    answer = chat.invoke([("system", "Be brief."), ("human", "Hello?")])
    assert answer.content == "The court ruled."
    assert answer.usage_metadata["output_tokens"] == 4
    assert silo.asked[0][0] == "Be brief.\n\nUser: Hello?\n\nAssistant:"
    chunks = list(chat.stream("Hello?", stream_usage=True))
    assert "".join(chunk.content for chunk in chunks) == "The court ruled."
    assert sum(chunk.usage_metadata["output_tokens"] for chunk in chunks if chunk.usage_metadata) == 4


@pytest.fixture
def joined(llama, build, manual) -> Silo:
    pytest.importorskip("lm_eval.models.api_models", reason=NO_EXTRA.format("lm-eval"))
    return Silo(llama, build(llama, manual(50, 53, "LicenseRef-Proprietary")))


@pytest.fixture
def harness(joined, tmp_path) -> Iterator:
    """The model `local-completions` of lm-eval, pointed at a server of the LM and a datastore."""
    from lm_eval.models.openai_completions import LocalCompletionsAPI

    joined.lm.tokenizer.save_pretrained(tmp_path / "tokenizer")
    with serving(create_app(Engine(joined, makers=Runners(joined, slots=2)))) as address:
        yield LocalCompletionsAPI(
            base_url=f"{address}/v1/completions",
            model=joined.lm.name,
            tokenizer=str(tmp_path / "tokenizer"),
            tokenizer_backend="huggingface",
            batch_size=3,
            max_length=joined.lm.context_length - 1,
            max_retries=1,
        )


def test_lm_eval_scores_a_task_over_http_as_we_do(harness, joined, tmp_path):
    import lm_eval

    items = list(exercise_items(4, seed=2))
    found = lm_eval.simple_evaluate(harness, tasks=[task_of(items, tmp_path)], log_samples=True, bootstrap_iters=0)
    ours = list(judge(joined, items, GenerationSettings(max_tokens=0)))
    samples = sorted(found["samples"]["silo_exercises"], key=lambda sample: sample["doc_id"])
    for sample, one in zip(samples, ours, strict=True):
        logprobs = [logprob for logprob, _ in sample["filtered_resps"]]
        assert logprobs == pytest.approx([logprob for (logprob,) in one.given], abs=1e-3)
    expected = accuracy(ours, "probability").accuracy
    assert found["results"]["silo_exercises"]["acc,none"] == pytest.approx(expected)


def test_lm_eval_tells_greedy_text_from_other_and_continues_prompts(harness, joined, manual):
    from lm_eval.api.instance import Instance

    prompt = manual(50, 51, "")[0].text[:40]
    made = joined.generate(prompt, GenerationSettings(max_tokens=5))
    said = "".join(token.text for token in made)
    asked = [Instance("loglikelihood", {}, (prompt, text), i) for i, text in enumerate((said, " zebra"))]
    (_, is_greedy), (_, is_other) = harness.loglikelihood(asked)
    assert is_greedy and not is_other
    options = {"until": ["\n\n\n"], "max_gen_toks": 5}
    assert harness.generate_until([Instance("generate_until", {}, (prompt, options), 0)]) == [said]


def test_lm_eval_scores_a_text_without_a_context_as_the_beginning_of_a_document(harness, joined, manual):
    """Clients have nothing to condition on but the token that ends a text, which is where every text begins with us."""
    from lm_eval.api.instance import Instance

    settings = GenerationSettings(max_tokens=0)
    texts = [page.text[:n] for page, n in zip(manual(50, 53, ""), (40, 90, 15), strict=True)]
    ours = [score(joined.lm, joined.datastore, text, settings, joined.gate, 0).tokens for text in texts]
    expected = [sum(token.logprob for token in tokens) for tokens in ours]
    asked = [Instance("loglikelihood", {}, ("", text), i) for i, text in enumerate(texts)]
    assert [logprob for logprob, _ in harness.loglikelihood(asked)] == pytest.approx(expected, abs=1e-3)
    given = harness.loglikelihood([Instance("loglikelihood", {}, (texts[0][:20], texts[0][20:]), 0)])
    assert given[0][0] > expected[0] + 1, "the control: with a context, less is left to say"
    rolling = [Instance("loglikelihood_rolling", {}, (text,), i) for i, text in enumerate(texts)]
    assert harness.loglikelihood_rolling(rolling) == pytest.approx(expected, abs=1e-3)
