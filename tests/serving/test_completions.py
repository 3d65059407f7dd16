"""The completions endpoint, asked by the official client over a socket and by Flask's without one."""

import json
import math

import openai
import pytest
from flask.testing import FlaskClient

from silo.settings import KnnSettings

TWO_SENTENCES = "The court ruled. It was late."


def test_the_official_client_completes_a_prompt(client):
    completion = client.completions.create(model="scripted", prompt="Once upon", max_tokens=4)
    assert completion.id.startswith("cmpl-")
    assert (completion.object, completion.model) == ("text_completion", "scripted")
    assert completion.choices[0].text == "The court ruled."
    assert completion.choices[0].finish_reason == "length"
    assert completion.choices[0].logprobs is None
    usage = completion.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (2, 4, 6)
    assert completion.system_fingerprint.startswith("silo_")


def test_the_official_client_streams_what_it_gets_at_once(client):
    def ask(**more):
        return client.completions.create(model="scripted", prompt="Once", max_tokens=8, stop=[" late"], **more)

    chunks = list(ask(stream=True))
    whole = ask()
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text == "The court ruled. It was"
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * 6 + ["stop"]
    assert len({chunk.id for chunk in chunks}) == 1
    assert all(chunk.usage is None for chunk in chunks)


def test_a_token_reaches_the_client_before_the_next_one_is_made(client, silo):
    made = []
    silo.before_token = lambda: made.append(None)
    stream = client.completions.create(model="scripted", prompt="Once", max_tokens=100_000, stream=True)
    first = next(iter(stream))
    stream.close()
    assert first.choices[0].text == "The"
    assert len(made) < 100_000


def test_usage_comes_last_in_a_stream_that_asked_for_it(client):
    options = {"include_usage": True}
    asked = {"model": "scripted", "prompt": "a b c", "max_tokens": 2, "stream": True, "stream_options": options}
    *chunks, last = client.completions.create(**asked)
    assert all(chunk.usage is None and chunk.choices for chunk in chunks)
    assert last.choices == []
    assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (3, 2)


def test_logprobs_have_the_openai_shape(client):
    completion = client.completions.create(model="scripted", prompt="Once", max_tokens=3, logprobs=2)
    logprobs = completion.choices[0].logprobs
    assert logprobs.tokens == ["The", " court", " ruled"]
    assert logprobs.token_logprobs == [-0.1] * 3
    assert logprobs.text_offset == [0, 3, 9]
    assert logprobs.top_logprobs[0] == {"The": -0.1, " court": -9999.0}


def test_zero_logprobs_tell_of_the_chosen_tokens_alone(client):
    completion = client.completions.create(model="scripted", prompt="Once", max_tokens=1, logprobs=0)
    assert completion.choices[0].logprobs.top_logprobs == [{"The": -0.1}]


def test_streamed_logprobs_add_up_to_the_whole_ones(client):
    def ask(**more):
        return client.completions.create(model="scripted", prompt="Once", max_tokens=5, logprobs=2, **more)

    chunks = [chunk.choices[0].logprobs for chunk in ask(stream=True)]
    whole = ask().choices[0].logprobs
    for column in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
        assert [item for chunk in chunks for item in getattr(chunk, column)] == getattr(whole, column)


def test_the_official_client_shows_what_was_wrong(client):
    with pytest.raises(openai.BadRequestError, match="top_p must be a number") as caught:
        client.completions.create(model="scripted", prompt="Once", top_p=7)
    assert (caught.value.code, caught.value.type) == ("invalid_request", "invalid_request_error")
    with pytest.raises(openai.BadRequestError, match="text is only continued") as caught:
        client.completions.create(model="scripted", prompt="Once", suffix="The end")
    assert caught.value.param == "suffix"
    with pytest.raises(openai.NotFoundError, match="model must be 'scripted'"):
        client.completions.create(model="gpt-3.5-turbo-instruct", prompt="Once")


def test_a_request_that_is_wrong_fails_before_its_stream_begins(client):
    with pytest.raises(openai.BadRequestError, match="must fit 64 tokens; got 65"):
        client.completions.create(model="scripted", prompt="word " * 65, stream=True)


def test_a_failure_in_a_stream_is_its_last_event(client, silo, caplog):
    def fail_at_the_third():
        made.append(None)
        if len(made) == 3:
            raise ArithmeticError("a secret of the inside")

    made, received = [], []
    silo.before_token = fail_at_the_third
    with pytest.raises(openai.APIError, match="the server failed at this request"):
        for chunk in client.completions.create(model="scripted", prompt="Once", stream=True, max_tokens=1000):
            received.append(chunk.choices[0].text)
    assert received == ["The", " court"]
    assert "a secret of the inside" in caplog.text
    assert silo.n_running == 0


def test_the_official_client_lists_the_model(client):
    (model,) = client.models.list().data
    assert (model.id, model.object, model.owned_by) == ("scripted", "model", "silo")
    assert client.models.retrieve("scripted") == model
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("another/model")


@pytest.mark.parametrize(
    ("prompt", "asked"),
    [
        ("one text", ["one text"]),
        (["two", "texts"], ["two", "texts"]),
        ([1, 2, 3], [(1, 2, 3)]),
        ([[1], [2, 3]], [(1,), (2, 3)]),
    ],
)
def test_every_shape_of_prompt_gets_a_choice_each(web: FlaskClient, silo, prompt, asked):
    answer = web.post("/v1/completions", json={"prompt": prompt, "max_tokens": 2}).json
    assert [prompt for prompt, _ in silo.asked] == asked
    assert [choice["index"] for choice in answer["choices"]] == list(range(len(asked)))
    assert answer["usage"]["completion_tokens"] == 2 * len(asked)


def test_several_prompts_stream_one_after_the_other(web: FlaskClient):
    asked = {"prompt": ["a", "b"], "max_tokens": 2, "stream": True}
    response = web.post("/v1/completions", json=asked)
    assert response.mimetype == "text/event-stream"
    events = response.text.strip().split("\n\n")
    assert events[-1] == "data: [DONE]"
    choices = [json.loads(event.removeprefix("data: "))["choices"][0] for event in events[:-1]]
    assert [choice["index"] for choice in choices] == [0, 0, 0, 1, 1, 1]


def test_what_is_left_out_or_null_has_the_openai_defaults(web: FlaskClient, silo):
    nothing = dict.fromkeys(["max_tokens", "temperature", "seed", "logprobs", "stop", "suffix", "knn", "user"])
    assert web.post("/v1/completions", json={"prompt": "a"} | nothing).status_code == 200
    settings = silo.asked[0][1]
    assert (settings.max_tokens, settings.temperature, settings.top_p, settings.stop) == (16, 1.0, 1.0, ())
    assert settings.knn == KnnSettings()


def test_every_setting_reaches_the_model(web: FlaskClient, silo):
    knn = {"k": 3, "weight": 0.9, "temperature": 2, "n_probe": 5}
    asked = {"max_tokens": 5, "temperature": 0, "top_p": 0.5, "stop": "z", "seed": 11, "logprobs": 4, "knn": knn}
    unused = {"n": 1, "best_of": 1, "echo": False, "suffix": "", "presence_penalty": 0, "logit_bias": {}, "user": "u"}
    assert web.post("/v1/completions", json={"prompt": "a"} | asked | unused).status_code == 200
    settings = silo.asked[0][1]
    assert (settings.max_tokens, settings.temperature, settings.top_p) == (5, 0, 0.5)
    assert (settings.stop, settings.seed, settings.top_logprobs) == (("z",), 11, 4)
    assert settings.knn == KnnSettings(k=3, weight=0.9, temperature=2.0, n_probe=5)


def test_a_request_without_a_seed_draws_one(web: FlaskClient, silo):
    for _ in range(2):
        web.post("/v1/completions", json={"prompt": "a"})
    first, second = (settings.seed for _, settings in silo.asked)
    assert first != second


def test_an_answer_says_which_version_of_the_datastore_it_is_of(web: FlaskClient, store):
    before = web.post("/v1/completions", json={"prompt": "a"}).json
    web.post("/v1/optouts", json={"document": "opinion"})
    after = web.post("/v1/completions", json={"prompt": "a"}).json
    assert (before["datastore_version"], after["datastore_version"]) == (7, 8)
    assert before["system_fingerprint"] != after["system_fingerprint"]
    assert before["id"] != after["id"]


def test_a_completion_of_no_tokens_is_empty(web: FlaskClient):
    answer = web.post("/v1/completions", json={"prompt": "a", "max_tokens": 0, "attributions": True}).json
    (choice,) = answer["choices"]
    assert (choice["text"], choice["annotations"], choice["finish_reason"]) == ("", [], "length")


def test_nothing_may_be_cached(web: FlaskClient):
    for response in (web.get("/v1/models"), web.get("/nowhere"), web.post("/v1/completions", json={"prompt": "a"})):
        assert response.headers["Cache-Control"] == "no-store"


def test_masses_are_finite_json(web: FlaskClient):
    text = web.post("/v1/completions", json={"prompt": "a", "logprobs": 5, "attributions": True}).text
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert math.isfinite(json.loads(text)["choices"][0]["logprobs"]["top_logprobs"][0][" court"])
