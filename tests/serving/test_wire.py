"""What crosses between the front and the engine arrives as it was sent, to the last bit."""

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datastore.errors import WriterBusy
from serving import wire
from serving.errors import Busy, EngineFault, EngineLost, OverLimit
from serving.jobs import Ended, Job, Made, Read
from silo.attribution import ContextSource, GeneratedToken, TokenSource
from silo.documents import Document
from silo.errors import BadRequest, PromptTooLong
from silo.ingested import Ingested
from silo.scored import ScoredText, ScoredToken
from silo.settings import GenerationSettings, KnnSettings, NgramSettings, RetrievalSettings

SETTINGS = GenerationSettings(
    max_tokens=7,
    temperature=0.7,
    top_p=1,
    stop=("\n", "ß"),
    seed=-(1 << 63),
    top_logprobs=3,
    knn=KnnSettings(k=3, weight=0.25, temperature=1e-6),
    ngram=NgramSettings(0.1, (9, 3), 2),
    retrieval=RetrievalSettings(2, "fused", join="boundary"),
    max_verbatim=None,
    logprobs=False,
    draft=True,
)
MESSAGES = [
    wire.Start((Job("ä\0", SETTINGS, True, 0, True), Job((0, 399), GenerationSettings()))),
    wire.Taken(32),
    wire.Left(),
    wire.Add((Document("d", "text", metadata={"submitter_key": "00", "n": [1, {"a": None}]}),)),
    wire.Stop(),
    wire.Ready("tiny", 96, None, "the counter is torn"),
    wire.Begun(),
    wire.Waiting(3),
    Read(1, ScoredText("ab", (ScoredToken(1, "a", 0, -0.1, ((2, -math.inf),)),))),
    Made(0, GeneratedToken(5, "x", 3, -1.5, ((5, -1.5),), 0.1, (TokenSource("d", 2, 0.9),), 0.0), 4),
    Ended(2, "stop", 9, None, (ContextSource("d", (0, 2), (0, 7)),)),
    wire.Over(),
    Ingested(2, 30, (("d", "reserved"),)),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_arrives_as_it_was_sent(message):
    assert wire.unpacked(wire.packed(12, message)) == (12, message)


def test_each_kind_of_message_is_tried():
    assert {type(message) for message in MESSAGES} | {wire.Failed} == set(wire._KINDS)


@given(st.floats(), st.floats(0, 1))
def test_floats_keep_their_bits(logprob, mass):
    token = GeneratedToken(0, "", 0, logprob, ((1, logprob),), mass, (TokenSource("d", 0, mass),))
    _, made = wire.unpacked(wire.packed(1, Made(0, token, None)))
    if math.isnan(logprob):
        assert math.isnan(made.token.logprob)
    else:
        assert struct.pack("<d", made.token.logprob) == struct.pack("<d", logprob)
    assert (made.token.parametric_mass, made.token.sources[0].mass) == (mass, mass)


@pytest.mark.parametrize("kind", [Busy, PromptTooLong, BadRequest, WriterBusy, EngineLost])
def test_an_error_for_people_arrives_as_itself(kind):
    _, failed = wire.unpacked(wire.packed(1, wire.Failed.of(kind("expected this; got that"))))
    error = failed.to_error()
    assert type(error) is kind
    assert str(error) == "expected this; got that"


@pytest.mark.parametrize("error", [ValueError("a secret"), KeyError("a secret"), OverLimit("a secret", 3)])
def test_what_any_other_error_says_stays_in_the_engine(error):
    told = wire.Failed.of(error)
    assert isinstance(told.to_error(), EngineFault)
    assert "secret" not in str(told)


def test_a_document_that_was_sent_cannot_name_a_class_to_be_made():
    assert isinstance(wire.Failed("os.system", "true").to_error(), EngineFault)


@pytest.mark.parametrize(
    "line", [b"", b"\x80\x04.", b"{} 0 {}", b"Popen 0 {}", b"Taken x {}", b'Taken 0 {"n":"x"}', b"Taken 0 ["]
)
def test_what_is_no_message_is_refused(line):
    with pytest.raises(ValueError):
        wire.unpacked(line)


def test_a_message_is_text_that_can_be_read():
    assert wire.packed(3, wire.Taken(32)) == b'Taken 3 {"n":32}'
