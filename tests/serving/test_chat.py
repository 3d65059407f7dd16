"""Conversations, by the official client and without one."""

import pytest
from flask.testing import FlaskClient

from serving.chat import END_OF_TURN

ASKED = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": [{"type": "text", "text": "Hello?"}]}]
FAULTS = {
    "no messages": ({"messages": []}, "messages"),
    "no role": ({"messages": [{"content": "a"}]}, "messages.0.role"),
    "strange role": ({"messages": [{"role": "tool", "content": "a"}]}, "messages.0.role"),
    "an image": ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, None),
    "a tool": ({"tools": [{"type": "function"}]}, "tools"),
    "a format": ({"response_format": {"type": "json_object"}}, "response_format.type"),
    "a bias": ({"logit_bias": {"1": 5}}, "logit_bias"),
    "too many stops": ({"stop": list("abcd")}, None),
    "two limits": ({"max_tokens": 3, "max_completion_tokens": 4}, None),
    "likeliest without logprobs": ({"top_logprobs": 3}, None),
    "unknown field": ({"prompt": "a"}, "prompt"),
}


def test_the_official_client_holds_a_conversation(client, silo):
    answer = client.chat.completions.create(model="scripted", messages=ASKED, max_completion_tokens=5)
    assert (answer.object, answer.choices[0].finish_reason) == ("chat.completion", "length")
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].message.content == "The court ruled. It"
    assert answer.usage.completion_tokens == 5
    prompt, settings = silo.asked[0]
    assert prompt == "Be brief.\n\nUser: Hello?\n\nAssistant:"
    assert settings.stop == (END_OF_TURN,)


def test_the_official_client_streams_a_conversation(client):
    asked = {"model": "scripted", "messages": ASKED, "max_tokens": 3, "n": 2}
    chunks = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    *chunks, last = chunks
    assert (last.choices, last.usage.completion_tokens) == ([], 6)
    for index in range(2):
        own = [chunk.choices[0] for chunk in chunks if chunk.choices[0].index == index]
        assert own[0].delta.role == "assistant"
        assert "".join(choice.delta.content or "" for choice in own) == "The court ruled"
        assert [choice.finish_reason for choice in own] == [None] * (len(own) - 1) + ["length"]


def test_logprobs_of_a_conversation_have_the_openai_shape(client):
    asked = {"model": "scripted", "messages": ASKED, "max_tokens": 2, "logprobs": True, "top_logprobs": 2}
    first = client.chat.completions.create(**asked).choices[0].logprobs.content[0]
    assert (first.token, first.logprob, bytes(first.bytes)) == ("The", -0.1, b"The")
    assert [(top.token, top.logprob) for top in first.top_logprobs] == [("The", -0.1), (" court", -9999.0)]


def test_sources_of_a_conversation_are_told_whole_and_in_a_stream(client):
    asked = {"model": "scripted", "messages": ASKED, "max_tokens": 8, "extra_body": {"attributions": True}}
    message = client.chat.completions.create(**asked).choices[0].message
    first = message.annotations[0].to_dict()
    assert message.content[first["start_index"] : first["end_index"]].strip() == "The court ruled."
    chunks = client.chat.completions.create(**asked, stream=True)
    told = [note for chunk in chunks for note in getattr(chunk.choices[0].delta, "annotations", None) or []]
    assert told == [note.to_dict() for note in message.annotations]


def test_white_space_before_an_answer_is_left_out(web: FlaskClient, monkeypatch):
    monkeypatch.setattr("tests.serving.conftest.WORDS", (" ", "\n", " The", " court", " ruled."))
    asked = {"messages": ASKED, "max_tokens": 5, "attributions": True}
    message = web.post("/v1/chat/completions", json=asked).json["choices"][0]["message"]
    assert message["content"] == "The court ruled."
    assert message["annotations"][-1]["end_index"] == len("The court ruled.")


@pytest.mark.parametrize(("fault", "param"), FAULTS.values(), ids=FAULTS.keys())
def test_a_conversation_with_a_fault_is_a_problem(web: FlaskClient, silo, fault, param):
    response = web.post("/v1/chat/completions", json={"messages": ASKED} | fault)
    assert response.status_code == 400
    if param is not None:
        assert response.json["error"]["param"] == param
    assert silo.asked == []
