"""What may be asked: ranges, and whole numbers where real ones are meant."""

import math

import pytest

from silo.errors import BadRequest
from silo.settings import GenerationSettings, KnnSettings, NgramSettings, Shares


def test_a_whole_number_is_kept_as_the_float_that_is_meant():
    knn = KnnSettings(weight=1, temperature=7)
    settings = GenerationSettings(temperature=0, top_p=1, knn=knn)
    for value in (knn.weight, knn.temperature, settings.temperature, settings.top_p):
        assert type(value) is float
    assert settings == GenerationSettings(knn=KnnSettings(weight=1.0, temperature=7.0))


@pytest.mark.parametrize("value", [-1, -1e-9, 2, 1.5, math.nan, math.inf, 10**400])
def test_a_share_lies_from_0_to_1(value):
    with pytest.raises(BadRequest, match="weight must be a number from 0 to 1"):
        KnnSettings(weight=value)


@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf])
def test_the_temperature_of_the_datastore_is_called_by_its_full_name(value):
    with pytest.raises(BadRequest, match="knn temperature must be a number from 1e-06 to 1e"):
        KnnSettings(temperature=value)


@pytest.mark.parametrize(
    ("knn", "ngram", "expected"),
    [
        (None, None, (0.5, 0.25)),
        (0.0, None, (0.0, 0.0)),
        (1.0, None, (1.0, 0.0)),
        (0.9, None, (0.9, 0.05)),
        (None, 0.0, (0.5, 0.0)),
        (None, 1.0, (0.0, 1.0)),
        (0.25, 0.75, (0.25, 0.75)),
    ],
)
def test_a_share_that_was_not_given_follows_from_the_other(knn, ngram, expected):
    shares = Shares.of(knn, ngram)
    assert (shares.knn, shares.ngram) == pytest.approx(expected)


def test_shares_beyond_the_whole_are_refused():
    with pytest.raises(BadRequest, match=r"must not sum to more than 1; got 0.6 and 0.5"):
        GenerationSettings(knn=KnnSettings(weight=0.6), ngram=NgramSettings(weight=0.5))


def test_a_gate_decides_only_where_no_share_was_named():
    assert not GenerationSettings(knn=KnnSettings(k=3)).names_shares
    assert GenerationSettings(knn=KnnSettings(weight=0.5)).names_shares
    assert GenerationSettings(ngram=NgramSettings(weight=0.5)).names_shares


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"weight": 1.5}, "ngram weight must be a number from 0 to 1"),
        ({"lengths": ()}, "must be 1 to 8 numbers; got 0"),
        ({"lengths": tuple(range(9, 0, -1))}, "must be 1 to 8 numbers; got 9"),
        ({"lengths": (2, 4)}, "must decrease"),
        ({"lengths": (4, 4)}, "must decrease"),
        ({"lengths": (4, 0)}, "ngram length must be an integer from 1"),
        ({"min_length": 0}, "ngram min_length must be an integer from 1"),
    ],
)
def test_ngram_settings_out_of_range_are_refused(wrong, message):
    with pytest.raises(BadRequest, match=message):
        NgramSettings(**wrong)
