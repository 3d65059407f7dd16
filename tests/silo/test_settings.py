"""What may be asked: ranges, and whole numbers where real ones are meant."""

import math

import pytest

from silo.errors import BadRequest
from silo.settings import GenerationSettings, KnnSettings


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
