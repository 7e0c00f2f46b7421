"""What the limits are computed from, against numbers by hand."""

import keras
import pytest

from benchmarks import arithmetic
from cskd_tf import networks


def test_operations_are_those_of_convolutions_and_dense_layers():
    layers = [
        keras.Input((8, 8, 3)),
        keras.layers.Conv2D(4, 3, strides=2, padding="same", use_bias=False),
        keras.layers.Flatten(),
        keras.layers.Dense(5, use_bias=False),
    ]
    by_hand = 2 * (4 * 4 * 4) * (3 * 3 * 3) + 2 * (4 * 4 * 4) * 5
    assert arithmetic.forward_flops(keras.Sequential(layers)) == by_hand


def test_a_published_network_has_the_operations_that_its_papers_count():
    # He et al., 2016, count multiplications with additions: 0.56 * 10⁹ at 32 pixels.
    network = networks.build("preact_resnet18", num_classes=100, input_shape=(32, 32, 3))
    assert arithmetic.forward_flops(network) == pytest.approx(2 * 0.5558e9, rel=1e-3)


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_a_share_is_that_of_the_products_rate(precision, monkeypatch):
    monkeypatch.setattr(arithmetic, "SIDE", 8)
    product = arithmetic.MatrixProduct(precision)
    product()
    assert product.flops == 2 * 8**3
    assert product.share(2 * 8**3, [4.0, 2.0, 8.0], [2.0, 1.0, 8.0]) == 0.5
    assert product.gflop_per_second([1e-6]) == pytest.approx(1.0, abs=0.05)
