"""Several completions for a prompt, and prompts that are echoed and scored."""

import json

import pytest
from flask.testing import FlaskClient

from silo.attribution import GeneratedToken


def _ask(web: FlaskClient, **asked) -> dict:
    return web.post("/v1/completions", json={"prompt": "Once upon", "max_tokens": 2} | asked).json


def _stream(web: FlaskClient, **asked) -> list[dict]:
    body = {"prompt": "Once upon", "max_tokens": 2, "stream": True} | asked
    events = web.post("/v1/completions", json=body).text.strip().split("\n\n")
    assert events[-1] == "data: [DONE]"
    return [json.loads(event.removeprefix("data: "))["choices"][0] for event in events[:-1]]


def test_each_of_n_completions_has_a_seed_of_its_own(web: FlaskClient, silo):
    answer = _ask(web, prompt=["a", "b"], n=3, seed=5)
    assert [choice["index"] for choice in answer["choices"]] == list(range(6))
    assert [(prompt, settings.seed) for prompt, settings in silo.asked] == [(p, s) for p in "ab" for s in (5, 6, 7)]


def test_a_prompt_is_counted_once_for_all_its_completions(web: FlaskClient):
    assert _ask(web, n=3)["usage"] == {"prompt_tokens": 2, "completion_tokens": 6, "total_tokens": 8}


def test_the_best_of_several_are_the_likeliest_by_token(web: FlaskClient, silo, monkeypatch):
    make = silo.generate

    def generate(prompt, settings):
        made = make(prompt, settings)
        made.__class__ = type("Better", (made.__class__,), {"__iter__": lambda self: _told(self, settings.seed)})
        return made

    def _told(self, seed):
        self.tokens = (GeneratedToken(seed, f"seed {seed}", 0, -abs(seed - 7.0), (), 1.0, ()),)
        self.text, self.finish_reason = f"seed {seed}", "length"
        yield from self.tokens

    monkeypatch.setattr(silo, "generate", generate)
    answer = _ask(web, n=2, best_of=4, seed=5, max_tokens=1)
    assert [choice["text"] for choice in answer["choices"]] == ["seed 7", "seed 6"]
    assert answer["usage"]["completion_tokens"] == 4


def test_a_stream_of_several_completions_tells_each_in_order(web: FlaskClient):
    choices = _stream(web, n=4, prompt=["a", "b"])
    for index in range(8):
        own = [choice for choice in choices if choice["index"] == index]
        assert "".join(choice["text"] for choice in own) == "The court"
        assert [choice["finish_reason"] for choice in own] == [None, None, "length"]


def test_an_echoed_prompt_begins_its_choice(web: FlaskClient):
    assert _ask(web, echo=True)["choices"][0]["text"] == "Once uponThe court"
    assert _ask(web, echo=True)["choices"][0]["logprobs"] is None
    assert "".join(choice["text"] for choice in _stream(web, echo=True)) == "Once uponThe court"


def test_an_echoed_prompt_is_scored_without_a_continuation(web: FlaskClient):
    (choice,) = _ask(web, echo=True, max_tokens=0, logprobs=1)["choices"]
    assert (choice["text"], choice["finish_reason"]) == ("Once upon", "length")
    assert choice["logprobs"] == {
        "tokens": ["The", " court"],
        "token_logprobs": [None, -1.0],
        "top_logprobs": [None, {"The": -0.5, " court": -1.0}],
        "text_offset": [0, 4],
    }


def test_what_lm_eval_sends_is_answered_with_a_score_for_each_token(web: FlaskClient):
    asked = {
        "prompt": [[1, 2, 3], [4, 5]],
        "max_tokens": 1,
        "logprobs": 1,
        "echo": True,
        "seed": 1234,
        "temperature": 0,
    }
    choices = _ask(web, **asked)["choices"]
    assert [choice["text"] for choice in choices] == [" court ruled.The", " It wasThe"]
    for choice, n in zip(choices, (4, 3), strict=True):
        columns = choice["logprobs"]
        assert {len(column) for column in columns.values()} == {n}
        assert columns["token_logprobs"][0] is None
        assert columns["text_offset"] == sorted(columns["text_offset"])
        assert choice["text"][columns["text_offset"][-1] :] == "The"


def test_streamed_echoes_add_up_to_the_whole_one(web: FlaskClient):
    whole = _ask(web, echo=True, logprobs=2)["choices"][0]
    chunks = _stream(web, echo=True, logprobs=2)
    assert "".join(chunk["text"] for chunk in chunks) == whole["text"]
    for column, told in whole["logprobs"].items():
        assert [item for chunk in chunks for item in chunk["logprobs"][column]] == told


def test_annotations_of_an_echo_count_from_its_beginning(web: FlaskClient):
    (choice,) = _ask(web, echo=True, max_tokens=4, attributions=True)["choices"]
    (note,) = choice["annotations"]
    assert choice["text"][note["start_index"] : note["end_index"]] == "The court ruled."
    told = [note for chunk in _stream(web, echo=True, max_tokens=4, attributions=True) for note in chunk["annotations"]]
    assert told == [note]


@pytest.mark.parametrize("seed", [(1 << 63) - 1, -(1 << 63)])
def test_seeds_go_round_at_the_end_of_their_range(web: FlaskClient, silo, seed):
    assert "choices" in _ask(web, n=2, seed=seed)
    assert all(-(1 << 63) <= settings.seed < 1 << 63 for _, settings in silo.asked)
