"""Packed or not, a product is the one that the layers themselves make."""

import pytest
import torch

from silo import products
from silo.products import Product

SHAPES = [(16, (8,)), (64, (64, 16, 16)), (33, (7, 90))]


@pytest.fixture(params=[True, False], ids=["packed", "plain"], autouse=True)
def is_packed(request, monkeypatch) -> bool:
    if not request.param:
        monkeypatch.setattr(products, "is_packable", lambda weight: False)
    return request.param


def make(width, heights, bias=True, seed=0):
    torch.manual_seed(seed)
    return [torch.nn.Linear(width, height, bias=bias).requires_grad_(False) for height in heights]


@pytest.mark.parametrize(("width", "heights"), SHAPES)
@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("rows", [(1,), (5,), (32,), (2, 3), ()], ids=str)
@torch.inference_mode()
def test_a_product_is_that_of_the_layers_side_by_side(width, heights, has_bias, rows):
    layers = make(width, heights, has_bias)
    x = torch.randn(*rows, width)
    expected = torch.cat([layer(x) for layer in layers], dim=-1)
    product = Product(*layers)
    torch.testing.assert_close(product(x), expected, atol=1e-5, rtol=1e-5)
    if len(rows) == 1:
        residual = torch.randn_like(expected)
        torch.testing.assert_close(product.plus(x, residual), expected + residual, atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_the_arguments_are_left_as_they_are(is_packed):
    (layer,) = make(16, (8,))
    x, residual = torch.randn(3, 16), torch.randn(3, 8)
    before = x.clone(), residual.clone(), layer.weight.clone()
    Product(layer).plus(x, residual)
    assert all(torch.equal(a, b) for a, b in zip((x, residual, layer.weight), before, strict=True))


@pytest.mark.parametrize(("width", "heights"), SHAPES)
@torch.inference_mode()
def test_a_row_of_a_packed_product_has_the_same_bits_in_every_batch(width, heights, is_packed):
    layers = make(width, heights)
    if not (is_packed and products.is_packable(layers[0].weight)):
        pytest.skip("only packed products promise it")
    product, x = Product(*layers), torch.randn(40, width)
    whole, residual = product(x), torch.randn(40, sum(heights))
    added = product.plus(x, residual)
    for n in (1, 2, 5, 16, 17, 32):
        assert torch.equal(product(x[:n].contiguous()), whole[:n])
        assert torch.equal(product.plus(x[:n].contiguous(), residual[:n].contiguous()), added[:n])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes_are_not_packed(dtype):
    assert not products.is_packable(torch.zeros(4, 4, dtype=dtype))
