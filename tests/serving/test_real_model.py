"""The official client against a real server, LM and datastore: what an opt-out changes, and from which token on."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import openai
import pytest
from typer.testing import CliRunner

from datastore.optout import opt_out
from datastore.receipts import receipt_from_json
from datastore.store import Datastore
from datastore.verification import verify
from serving import create_app
from serving.engine import Engine
from serving.rendering import MAX_SHOWN_SOURCES
from serving.runners import Runners
from silo.cli import build_app
from silo.decoder import Decoder
from silo.generation import Generation, Silo
from silo.settings import GenerationSettings, KnnSettings
from tests.serving.conftest import serving

PAGES = range(50, 56)
PROMPT = "The objects in this"
KNN = {"k": 12, "weight": 0.9, "n_probe": 8}
GREEDY = {"prompt": PROMPT, "max_tokens": 40, "temperature": 0}
SAMPLED = {"prompt": PROMPT, "max_tokens": 40, "temperature": 1, "top_p": 0.9, "seed": 5}
N_BEFORE = 12
"""Tokens of a stream that are made before something happens to the datastore."""


class RecordingSilo(Silo):
    """Keeps what it generates, so that a test can see the sources of each token."""

    def __init__(self, lm, datastore) -> None:
        super().__init__(lm, datastore)
        self.made: list[Generation] = []

    def generate(self, prompt, settings) -> Generation:
        self.made.append(super().generate(prompt, settings))
        return self.made[-1]


@dataclass
class Served:
    """A running server and what is behind it."""

    silo: RecordingSilo
    client: openai.OpenAI

    def ask(self, asked: dict, **more):
        extra = {"attributions": True, "knn": KNN}
        return self.client.completions.create(model=self.silo.lm.name, **asked, **more, extra_body=extra)


@pytest.fixture
def serve() -> Iterator[Callable[..., Served]]:
    with ExitStack() as stack:

        def start(lm, datastore: Datastore) -> Served:
            silo = RecordingSilo(lm, datastore)
            url = stack.enter_context(serving(create_app(Engine(silo, makers=Runners(silo, slots=1)))))
            client = stack.enter_context(openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0))
            return Served(silo, client)

        yield start


@pytest.fixture
def served(serve, llama, build, manual) -> Served:
    return serve(llama, build(llama, manual(PAGES.start, PAGES.stop, "LicenseRef-Proprietary")))


def _annotations(chunks) -> list[dict]:
    return [annotation for chunk in chunks for annotation in chunk.choices[0].annotations]


def _named(annotation: dict) -> set[str]:
    return {source["document_id"] for source in annotation["sources"]}


def _answer(completion) -> dict:
    """What a completion says; not which server said it, when, and how many changes its datastore had seen."""
    choices = completion.to_dict()["choices"]
    for annotation in (annotation for choice in choices for annotation in choice["annotations"]):
        del annotation["datastore_version"]
    return {"choices": choices, "usage": completion.usage.to_dict()}


@pytest.mark.parametrize("asked", [GREEDY, SAMPLED])
def test_the_server_answers_what_silo_generates(served: Served, asked):
    choice = served.ask(asked, logprobs=3).choices[0]
    settings = {name: value for name, value in asked.items() if name != "prompt"}
    generation = served.silo.generate(PROMPT, GenerationSettings(**settings, top_logprobs=3, knn=KnnSettings(**KNN)))
    tokens = list(generation)
    assert choice.text == generation.text
    assert choice.logprobs.token_logprobs == [token.logprob for token in tokens]
    assert choice.logprobs.text_offset == [token.start for token in tokens]
    assert choice.finish_reason == generation.finish_reason
    assert [(a["start_index"], a["end_index"]) for a in choice.annotations] == [
        (sentence.start, sentence.end) for sentence in generation.sentences()
    ]


@pytest.mark.parametrize("asked", [GREEDY, SAMPLED])
def test_a_stream_adds_up_to_the_whole_answer(served: Served, asked):
    whole = served.ask(asked, logprobs=2).choices[0]
    chunks = list(served.ask(asked, logprobs=2, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.text
    assert _annotations(chunks) == whole.annotations
    streamed = [logprob for chunk in chunks for logprob in chunk.choices[0].logprobs.token_logprobs]
    assert streamed == whole.logprobs.token_logprobs


def test_every_annotation_sums_to_one_and_shows_real_sentences(served: Served):
    annotations = _annotations(served.ask(SAMPLED, stream=True))
    assert annotations
    for annotation in annotations:
        sources = annotation["sources"]
        assert annotation["parametric_mass"] + sum(source["mass"] for source in sources) == pytest.approx(1)
        assert [source["mass"] for source in sources] == sorted((s["mass"] for s in sources), reverse=True)
        for source in sources[:MAX_SHOWN_SOURCES]:
            text = served.silo.datastore.sentence_text(source["document_id"], source["sentence"])
            assert source["text"] == text.strip()[:300]
            assert source["owner"] == f"author of {source['title']}"


def _by_handle(served: Served, document: str, now) -> None:
    opt_out(Datastore.open(served.silo.datastore.path), document, now=now)


def _by_endpoint(served: Served, document: str, now) -> None:
    served.client.post("/optouts", body={"document": document}, cast_to=dict[str, object])


def _by_process(served: Served, document: str, now) -> None:
    command = [sys.executable, "-m", "silo", "optout", document, "--store", str(served.silo.datastore.path)]
    subprocess.run(command, check=True, capture_output=True)


def _stream_with(served: Served, monkeypatch, event: Callable[[], None]) -> tuple[list, list[Generation]]:
    """A stream of two completions, with ``event`` after ``N_BEFORE`` tokens: its annotations by completion, and what
    was generated."""
    may_read = threading.Semaphore(N_BEFORE)
    read = Decoder.advance_all

    def wait_and_read(self, tokens):
        assert may_read.acquire(timeout=20)
        return read(self, tokens)

    annotations = [[], []]
    with monkeypatch.context() as patch:
        patch.setattr(Decoder, "advance_all", wait_and_read)
        for n, chunk in enumerate(served.ask(SAMPLED | {"prompt": [PROMPT, PROMPT]}, stream=True), start=1):
            annotations[chunk.choices[0].index] += chunk.choices[0].annotations
            if n == N_BEFORE:
                event()
                may_read.release(1000)
    return annotations, served.silo.made[-2:]


@pytest.mark.parametrize("leave", [_by_handle, _by_endpoint, _by_process])
def test_an_opt_out_is_in_force_for_the_next_token_of_a_running_stream(served: Served, monkeypatch, leave, now):
    _, (unbroken, _) = _stream_with(served, monkeypatch, lambda: None)
    document = next(source.document for token in unbroken.tokens[N_BEFORE:] for source in token.sources)

    annotations, (running, following) = _stream_with(served, monkeypatch, lambda: leave(served, document, now))
    assert running.tokens[:N_BEFORE] == unbroken.tokens[:N_BEFORE]
    later = running.tokens[N_BEFORE:]
    for tokens in (later, following.tokens):
        named = {source.document for token in tokens for source in token.sources}
        assert named
        assert document not in named

    assert annotations[1]
    begun_later = [annotation for annotation in annotations[0] if annotation["start_index"] >= later[0].start]
    assert document not in set().union(*map(_named, annotations[1] + begun_later))
    for annotation in annotations[0] + annotations[1]:
        total = annotation["parametric_mass"] + sum(source["mass"] for source in annotation["sources"])
        assert total == pytest.approx(1)
        for source in annotation["sources"]:
            assert source["document_id"] != document or set(source) <= {"document_id", "mass", "removed"}


def test_after_opt_outs_the_server_answers_as_one_that_never_had_the_documents(
    served: Served, serve, build, llama, manual, now
):
    before = served.ask(GREEDY, logprobs=5)
    named = [source["document_id"] for a in before.choices[0].annotations for source in a["sources"]]
    first, second, *_ = dict.fromkeys(named)
    _by_handle(served, first, now)
    _by_endpoint(served, second, now)
    pages = manual(PAGES.start, PAGES.stop, "LicenseRef-Proprietary")
    never = serve(llama, build(llama, [page for page in pages if page.id not in (first, second)]))
    for asked in (GREEDY, SAMPLED, GREEDY | {"prompt": "import the"}):
        assert _answer(served.ask(asked, logprobs=5)) == _answer(never.ask(asked, logprobs=5))
    assert _answer(served.ask(GREEDY, logprobs=5)) != _answer(before)


def test_the_receipt_that_the_endpoint_answers_verifies(served: Served, tmp_path: Path):
    (document, *_) = served.silo.datastore.documents()
    body = {"document": document.facts.id}
    answered = served.client.post("/optouts", body=body, cast_to=dict[str, object])
    store = Datastore.open(served.silo.datastore.path)
    assert any("none of its" in line for line in verify(store, receipt_from_json(answered)))

    (tmp_path / "receipt.json").write_text(json.dumps(answered))
    command = ["datastore", "verify", str(tmp_path / "receipt.json"), "--store", str(store.path)]
    ran = CliRunner().invoke(build_app(), command)
    assert ran.exit_code == 0, ran.output
    assert "the receipt's signature and commitment are valid" in ran.output


AT_THE_EDGE = [
    {"prompt": ""},
    {"prompt": "🜛 \u0000 ünï"},
    {"prompt": [399]},
    {"prompt": "a", "stop": ["e", " the"], "max_tokens": 50},
    {"prompt": "a", "knn": {"k": 4096, "n_probe": 1 << 20}},
    {"prompt": "a", "knn": {"weight": 1, "temperature": 1e-6}},
    {"prompt": "a", "knn": {"weight": 1, "temperature": 1e9}, "temperature": 100},
    {"prompt": "a", "knn": {"weight": 0}, "temperature": 1e-9},
    {"prompt": "a", "temperature": 5e-324},
    {"prompt": "a", "top_p": 1e-6, "logprobs": 5},
    {"prompt": "a", "seed": -(1 << 63)},
    {"prompt": "a", "max_tokens": 0},
]
BEYOND_IT = [
    ({"prompt": [400]}, "invalid_request"),
    ({"prompt": "a", "max_tokens": 96}, "context_length_exceeded"),
    ({"prompt": "word " * 200}, "context_length_exceeded"),
]


def test_what_is_allowed_at_the_edge_is_answered_and_what_is_beyond_is_a_problem_of_the_request(served: Served):
    web = create_app(Engine(served.silo)).test_client()
    for body in AT_THE_EDGE:
        answer = web.post("/v1/completions", json=body | {"attributions": True})
        assert answer.status_code == 200, (body, answer.text)
    for body, code in BEYOND_IT:
        answer = web.post("/v1/completions", json=body)
        assert (answer.status_code, answer.json["error"]["code"]) == (400, code), body
