"""Whatever is wrong with a request is answered as one problem document that says what to do."""

import time

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datastore.errors import WriterBusy
from serving.bodies import MAX_BODY_BYTES
from serving.problems import problem_of

FIELDS = {"type", "title", "status", "detail", "instance", "errors", "error"}

BODIES = {
    "empty": (b"", "EOF"),
    "not JSON": (b"prompt=hello", "must be JSON"),
    "not UTF-8": (b'{"prompt": "\xff"}', "byte 12 is 0xff"),
    "UTF-16": ('{"prompt": "a"}'.encode("utf-16"), "not UTF-8"),
    "cut short": (b'{"prompt": "a"', "EOF"),
    "two documents": (b'{"prompt": "a"} {}', "trailing"),
    "NaN": (b'{"prompt": "a", "temperature": NaN}', "finite numbers"),
    "Infinity": (b'{"prompt": "a", "temperature": Infinity}', "finite numbers"),
    "minus Infinity": (b'{"prompt": "a", "top_p": -Infinity}', "finite numbers"),
    "number beyond floats": (b'{"prompt": "a", "temperature": 1e309}', "temperature: Input should be a finite number"),
    "number of 5000 digits": (b'{"prompt": "a", "seed": ' + b"9" * 5000 + b"}", "must be JSON"),
    "lone surrogate": (b'{"prompt": "\\ud800"}', "must be JSON"),
    "100,000 brackets": (b"[" * 100_000, "200 levels"),
    "100,000 closed brackets": (b'{"prompt": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "200 levels"),
    "100,000 braces": (b'{"a":' * 100_000, "200 levels"),
    "a list": (b'[{"prompt": "a"}]', "must be a JSON object"),
    "a text": (b'"hello"', "must be a JSON object; got 'hello'"),
    "null": (b"null", "must be a JSON object; got None"),
}

FAULTS = {
    "no prompt": ({}, "prompt", "required"),
    "null prompt": ({"prompt": None}, "prompt", "required"),
    "no prompts": ({"prompt": []}, "prompt", "list of 1 to 64"),
    "too many prompts": ({"prompt": ["a"] * 65}, "prompt", "got list of length 65"),
    "mixed prompts": ({"prompt": ["a", 1]}, "prompt", "got ['a', 1]"),
    "empty token list": ({"prompt": [[]]}, "prompt", "list of 1 to 64"),
    "negative token": ({"prompt": [-1]}, "prompt", "integers from 0"),
    "fractional token": ({"prompt": [1.5]}, "prompt", "integers from 0"),
    "boolean token": ({"prompt": [True]}, "prompt", "integers from 0"),
    "object prompt": ({"prompt": {"text": "a"}}, "prompt", "must be a text"),
    "unknown token": ({"prompt": [99]}, None, "token ids must be below 11; got 99"),
    "unknown field": ({"prompt": "a", "max_token": 5}, "max_token", "max_token is not a field of this request"),
    "unknown field of knn": ({"prompt": "a", "knn": {"lambda": 0.5}}, "knn.lambda", "not a field"),
    "text for a number": ({"prompt": "a", "max_tokens": "5"}, "max_tokens", "got '5'"),
    "fraction for a count": ({"prompt": "a", "max_tokens": 5.5}, "max_tokens", "got 5.5"),
    "boolean for a number": ({"prompt": "a", "temperature": True}, "temperature", "got True"),
    "text for a boolean": ({"prompt": "a", "stream": "yes"}, "stream", "got 'yes'"),
    "number for a boolean": ({"prompt": "a", "attributions": 1}, "attributions", "got 1"),
    "number for a stop": ({"prompt": "a", "stop": 5}, "stop", "must be a text or a list of texts"),
    "mixed stops": ({"prompt": "a", "stop": ["a", 5]}, "stop", "must be a text or a list of texts"),
    "empty stop": ({"prompt": "a", "stop": ""}, None, "1 to 1000 characters"),
    "five stops": ({"prompt": "a", "stop": list("abcde")}, None, "at most 4"),
    "negative max_tokens": ({"prompt": "a", "max_tokens": -1}, None, "max_tokens must be an integer from 0"),
    "enormous max_tokens": ({"prompt": "a", "max_tokens": 10**30}, None, "max_tokens must be an integer"),
    "negative temperature": ({"prompt": "a", "temperature": -0.1}, None, "temperature must be a number from 0"),
    "top_p of 0": ({"prompt": "a", "top_p": 0}, None, "top_p must be a number"),
    "enormous seed": ({"prompt": "a", "seed": 1 << 63}, None, "seed must be an integer"),
    "negative logprobs": ({"prompt": "a", "logprobs": -1}, "logprobs", "greater than or equal to 0; got -1"),
    "six logprobs": ({"prompt": "a", "logprobs": 6}, "logprobs", "less than or equal to 5; got 6"),
    "boolean logprobs": ({"prompt": "a", "logprobs": True}, "logprobs", "got True"),
    "weight above 1": ({"prompt": "a", "knn": {"weight": 1.5}}, None, "weight must be a number from 0 to 1"),
    "no neighbors": ({"prompt": "a", "knn": {"k": 0}}, None, "k must be an integer from 1"),
    "knn as a number": ({"prompt": "a", "knn": 3}, "knn", "got 3"),
    "no completions": ({"prompt": "a", "n": 0}, "n", "greater than or equal to 1"),
    "enormous n": ({"prompt": "a", "n": 10**9}, "n", "less than or equal to 16"),
    "fewer made than wanted": ({"prompt": "a", "n": 3, "best_of": 2}, None, "best_of must be at least n, which is 3"),
    "too many for all prompts": ({"prompt": ["a"] * 64, "n": 3}, None, "may make 128 completions; got 64 prompts of 3"),
    "an endless prompt": ({"prompt": "a" * 300_000}, "prompt", "at most 262,144 characters"),
    "text for echo": ({"prompt": "a", "echo": "yes"}, "echo", "got 'yes'"),
    "suffix": ({"prompt": "a", "suffix": "z"}, "suffix", "only continued"),
    "penalty": ({"prompt": "a", "frequency_penalty": 0.5}, "frequency_penalty", "attributions"),
    "bias": ({"prompt": "a", "logit_bias": {"50256": -100}}, "logit_bias", "attributions"),
    "options of no stream": ({"prompt": "a", "stream_options": {"usage": True}}, "stream_options.usage", "not a field"),
    "too long a prompt": ({"prompt": "word " * 65}, None, "must fit 64 tokens; got 65"),
}

OPT_OUT_FAULTS = {
    "no document": {},
    "number": {"document": 5},
    "list": {"document": ["opinion"]},
    "empty id": {"document": ""},
    "endless id": {"document": "o" * 100_000},
    "unknown field": {"document": "opinion", "force": True},
}


def check_problem(response, status: int) -> dict:
    """The problem document of ``response``, which must be one."""
    problem = response.json
    assert response.status_code == problem["status"] == status
    assert response.mimetype == "application/problem+json"
    assert set(problem) == FIELDS
    assert set(problem["error"]) == {"message", "type", "param", "code"}
    assert problem["error"]["message"] == problem["detail"] != ""
    assert problem["type"] == f"urn:silo:problem:{problem['error']['code'].replace('_', '-')}"
    assert problem["instance"].startswith("urn:uuid:")
    assert all(set(fault) == {"param", "detail"} for fault in problem["errors"])
    return problem


@pytest.mark.parametrize(("body", "words"), BODIES.values(), ids=BODIES.keys())
@pytest.mark.parametrize("path", ["/v1/completions", "/v1/optouts"])
def test_a_body_that_is_not_json_is_a_problem(web: FlaskClient, path, body, words):
    if "temperature" in words:
        path = "/v1/completions"
    started = time.perf_counter()
    problem = check_problem(web.post(path, data=body, content_type="application/json"), 400)
    assert words in problem["detail"]
    assert time.perf_counter() - started < 1


@pytest.mark.parametrize(("body", "param", "words"), FAULTS.values(), ids=FAULTS.keys())
@pytest.mark.parametrize("stream", [False, True])
def test_a_request_with_a_fault_is_a_problem(web: FlaskClient, silo, body, param, words, stream):
    problem = check_problem(web.post("/v1/completions", json={"stream": stream} | body), 400)
    assert words in problem["detail"]
    assert problem["error"]["param"] == param
    assert silo.n_running == 0


def test_all_faults_of_a_body_are_told_at_once(web: FlaskClient):
    problem = check_problem(web.post("/v1/completions", json={"max_tokens": "x", "n": 0, "seeds": 1}), 400)
    assert {fault["param"] for fault in problem["errors"]} == {"prompt", "max_tokens", "n", "seeds"}


@pytest.mark.parametrize("body", OPT_OUT_FAULTS.values(), ids=OPT_OUT_FAULTS.keys())
def test_an_opt_out_with_a_fault_removes_nothing(web: FlaskClient, store, body):
    problem = check_problem(web.post("/v1/optouts", json=body), 400)
    assert len(problem["detail"]) < 200
    assert store.removed == set()


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/x-www-form-urlencoded", "application/jsonx"])
def test_only_json_is_read(web: FlaskClient, content_type):
    for path, body in [("/v1/completions", b'{"prompt": "a"}'), ("/v1/optouts", b'{"document": "opinion"}')]:
        problem = check_problem(web.post(path, data=body, content_type=content_type), 415)
        assert "Content-Type: application/json" in problem["detail"]


def test_a_charset_beside_the_content_type_is_fine(web: FlaskClient):
    kind = "application/json; charset=utf-8"
    assert web.post("/v1/completions", data='{"prompt": "ü"}', content_type=kind).status_code == 200


def test_a_body_over_the_limit_is_refused(web: FlaskClient):
    body = b'{"prompt": "' + b"a" * MAX_BODY_BYTES + b'"}'
    problem = check_problem(web.post("/v1/completions", data=body, content_type="application/json"), 413)
    assert str(MAX_BODY_BYTES) in problem["detail"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/v1/completions/", 404),
        ("GET", "/v1//models", 404),
        ("GET", "/v1/documents/", 404),
        ("GET", "/v1/completions", 405),
        ("DELETE", "/v1/documents/opinion", 405),
        ("GET", "/v1/optouts", 405),
        ("POST", "/healthz", 405),
    ],
)
def test_a_wrong_address_or_method_is_a_problem(web: FlaskClient, method, path, status):
    response = web.open(path, method=method)
    problem = check_problem(response, status)
    assert path in problem["detail"]
    if status == 405:
        assert set(response.headers["Allow"].split(", ")) <= {"GET", "HEAD", "OPTIONS", "POST"}


def test_a_fault_of_the_server_is_logged_and_not_shown(web: FlaskClient, silo, caplog):
    def fail():
        raise ArithmeticError("a secret of the inside")

    silo.before_token = fail
    problem = check_problem(web.post("/v1/completions", json={"prompt": "a"}), 500)
    assert "secret" not in str(problem)
    assert problem["instance"] in caplog.text
    assert "a secret of the inside" in caplog.text


def test_a_datastore_that_is_being_written_asks_to_come_back():
    problem = problem_of(WriterBusy("another process is writing"))
    assert (problem.status, problem.headers) == (503, {"Retry-After": "1"})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
names = st.sampled_from(["prompt", "max_tokens", "stop", "logprobs", "knn", "seed", "stream", "n", "logit_bias", "x"])


@given(body=st.dictionaries(names, json_values, max_size=4))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_body_fails_the_server(web: FlaskClient, body):
    body["max_tokens"] = body.get("max_tokens") if not isinstance(body.get("max_tokens"), int) else 1
    response = web.post("/v1/completions", json=body)
    if response.status_code != 200:
        check_problem(response, 400)
