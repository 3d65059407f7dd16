"""Which parts of the mixture a request asks for, and what the server lets it have."""

import math
from dataclasses import replace

import pytest
from flask.testing import FlaskClient

from serving import create_app
from serving.engine import Engine
from serving.runners import Runners
from serving.schemas import ChatRequest, CompletionRequest
from silo.generation import Silo
from silo.settings import KnnSettings, NgramSettings, RetrievalSettings


def _settings(**body):
    return CompletionRequest.model_validate({"prompt": "a"} | body).settings(seed=1)


def test_a_request_that_names_nothing_asks_for_what_the_library_does():
    settings = _settings()
    assert (settings.knn, settings.ngram, settings.retrieval) == (KnnSettings(), NgramSettings(), None)
    assert not settings.names_shares, "so that a gate may decide"
    assert settings.max_verbatim is None, "so that the server decides"
    assert not settings.draft


def test_every_part_can_be_set():
    settings = _settings(
        ngram={"weight": 0.25, "lengths": [9, 3], "min_length": 3},
        retrieval={"n_passages": 3, "query_tokens": 8, "stride": 4, "join": "boundary", "ensemble": "score"},
        max_verbatim=7,
        draft=True,
    )
    assert settings.ngram == NgramSettings(0.25, (9, 3), 3)
    assert settings.retrieval == RetrievalSettings(3, "bm25", 8, 4, "boundary", "score")
    assert (settings.max_verbatim, settings.draft) == (7, True)


def test_passages_are_read_where_anything_is_said_of_them_unless_none_are_wanted():
    assert _settings(retrieval={"stride": 8}).retrieval == RetrievalSettings(stride=8)
    assert _settings(retrieval={"n_passages": 0, "stride": 8}).retrieval is None


def test_without_the_gate_the_shares_are_those_that_hold_where_there_is_none():
    free, fixed = _settings(), _settings(gate=False)
    assert fixed.names_shares
    assert fixed.shares == free.shares
    assert _settings(gate=False, knn={"weight": 0.8}).shares == _settings(knn={"weight": 0.8}).shares


@pytest.mark.parametrize(
    ("body", "is_scored"),
    [
        ({}, False),
        ({"logprobs": 0}, True),
        ({"attributions": True}, True),
        ({"n": 1, "best_of": 3}, True),
        ({"n": 3, "best_of": 3}, False),
        ({"top_p": 0.5}, False),
    ],
)
def test_log_probabilities_are_worked_out_only_where_something_depends_on_them(body, is_scored):
    settings = _settings(**body)
    assert settings.logprobs == is_scored
    assert settings.can_branch == (not is_scored and "top_p" not in body)


def test_a_conversation_has_the_same_parts():
    turn = {"messages": [{"role": "user", "content": "a"}]}
    asked = ChatRequest.model_validate(turn | {"ngram": {"weight": 0.1}, "gate": False})
    settings = asked.sampling(1, 8, (), None)
    assert (settings.ngram.weight, settings.logprobs) == (0.1, False)


REFUSED = [
    {"ngram": {"weight": 1.5}},
    {"ngram": {"lengths": [2, 4]}},
    {"ngram": {"lengths": []}},
    {"ngram": {"lengths": [4096, 4097]}},
    {"ngram": {"weight": 0.6}, "knn": {"weight": 0.6}},
    {"retrieval": {"n_passages": 9}},
    {"retrieval": {"scorer": "bm42"}},
    {"retrieval": {"stride": 0}},
    {"retrieval": {"k": 2}},
    {"gate": 1},
    {"gate": True, "ngram": {"weight": 0.1}},
    {"gate": True},
    {"max_verbatim": 0},
    {"max_verbatim": 51},
    {"draft": "yes"},
    {"echo": True, "logprobs": 1, "retrieval": {"n_passages": 1}},
]


@pytest.mark.parametrize("body", REFUSED)
def test_what_a_part_cannot_be_is_a_problem_of_the_request(web: FlaskClient, silo, body):
    silo.max_verbatim = 50
    answer = web.post("/v1/completions", json={"prompt": "a"} | body)
    assert (answer.status_code, answer.json["error"]["code"]) == (400, "invalid_request"), answer.text
    assert silo.n_running == 0


def test_a_request_may_be_stricter_than_the_server(web: FlaskClient, silo):
    silo.max_verbatim = 50
    for limit in (None, 1, 50):
        assert web.post("/v1/completions", json={"prompt": "a", "max_verbatim": limit}).status_code == 200
    assert [settings.max_verbatim for _, settings in silo.asked] == [None, 1, 50]
    silo.max_verbatim = None
    assert web.post("/v1/completions", json={"prompt": "a", "max_verbatim": 1000}).status_code == 200


@pytest.fixture
def joined(llama, build, manual) -> Silo:
    return Silo(llama, build(llama, manual(50, 54, "LicenseRef-Proprietary")), max_verbatim=4)


@pytest.fixture
def real_web(joined: Silo) -> FlaskClient:
    return create_app(Engine(joined, makers=Runners(joined, slots=1))).test_client()


ASKED = {"prompt": "The objects in this", "max_tokens": 12, "temperature": 0, "attributions": True}


def _choice(web: FlaskClient, **more) -> dict:
    answer = web.post("/v1/completions", json=ASKED | more)
    assert answer.status_code == 200, answer.text
    return answer.json["choices"][0]


def test_passages_that_were_read_are_named_with_their_place_and_an_excerpt(real_web: FlaskClient, joined: Silo):
    sources = _choice(real_web, retrieval={"n_passages": 1})["context_sources"]
    assert sources
    for source in sources:
        assert 0 <= source["start_index"] < source["end_index"]
        whole = joined.datastore.sentence_text(source["document_id"], source["sentences"][0]).strip()
        assert whole.startswith(source["text"].removesuffix("…"))
        assert len(joined.lm.tokenizer.encode(source["text"].removesuffix("…"), add_special_tokens=False)) <= 4


def test_the_servers_limit_on_copying_holds_for_a_request_that_names_none(real_web: FlaskClient, joined: Silo, manual):
    def copies(**more) -> list[str]:
        asked = {"knn": {"weight": 1, "k": 1}, "max_tokens": 30} | more
        return [_choice(real_web, prompt=page.text[:60], **asked)["text"] for page in manual(50, 54, "")]

    held = copies()
    joined.max_verbatim = None
    assert copies() != held
    assert copies(max_verbatim=4) == held


def test_vectors_of_passages_that_the_datastore_has_not_are_refused_before_a_stream_begins(real_web: FlaskClient):
    answer = real_web.post("/v1/completions", json=ASKED | {"retrieval": {"scorer": "dense"}, "stream": True})
    assert answer.status_code == 400
    assert "keeps none" in answer.json["detail"]


def test_a_token_that_was_drawn_from_a_part_says_no_number_that_is_none(real_web: FlaskClient):
    body = {"prompt": "The", "max_tokens": 20, "temperature": 1, "seed": 3}
    answer = real_web.post("/v1/completions", json=body | {"n": 2})
    assert answer.status_code == 200
    assert "NaN" not in answer.text
    ranked = real_web.post("/v1/completions", json=body | {"best_of": 4})
    assert ranked.json["choices"][0]["text"]


def test_a_share_of_zero_for_both_leaves_the_lm_alone(real_web: FlaskClient, joined: Silo):
    alone = Silo(joined.lm)
    settings = replace(_settings(temperature=0, max_tokens=12, attributions=True), max_verbatim=None)
    generation = alone.generate(ASKED["prompt"], settings)
    assert all(math.isfinite(token.logprob) for token in generation)
    choice = _choice(real_web, knn={"weight": 0}, ngram={"weight": 0})
    assert choice["text"] == generation.text
    assert set(choice["datastore_mass"]) == {0}
