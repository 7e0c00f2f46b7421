"""What the limits are computed from, against numbers by hand."""

import keras
import pytest
import tensorflow as tf

from benchmarks import arithmetic
from cskd_tf import networks


def test_operations_are_those_of_convolutions_and_dense_layers():
    layers = [
        keras.Input((8, 8, 3)),
        keras.layers.Conv2D(4, 3, strides=2, padding="same", use_bias=False),
        keras.layers.Flatten(),
        keras.layers.Dense(5, use_bias=False),
    ]
    # 3 taps at 0, 2, 4 and 6 of 8 pixels, the last of which is beyond: 11 of 12 in each direction.
    by_hand = 2 * 4 * 3 * 11 * 11 + 2 * (4 * 4 * 4) * 5
    assert arithmetic.forward_flops(keras.Sequential(layers)) == by_hand


def test_a_published_network_has_the_operations_that_its_papers_count():
    # He et al., 2016, count multiplications with additions, 0.56 * 10⁹ at 32 pixels, and those by zeros: of 3 taps over
    # a side of 32, 16, 8 and 4 pixels one lies beyond at either end. Strides and the first layer are the rest.
    network = networks.build("preact_resnet18", num_classes=100, input_shape=(32, 32, 3))
    within = sum((1 - 2 / (3 * side)) ** 2 for side in (32, 16, 8, 4)) / 4
    assert arithmetic.forward_flops(network) == pytest.approx(within * 2 * 0.5558e9, rel=0.03)


def test_convolutions_are_counted_as_their_loops_run():
    images = tf.random.normal((1, 7, 9, 2))
    layers = [
        keras.layers.Conv2D(3, (3, 5), strides=2, padding="same", use_bias=False),
        keras.layers.DepthwiseConv2D(3, padding="same", use_bias=False),
        keras.layers.Conv2D(3, 3, padding="valid", use_bias=False),
    ]
    for layer in layers:
        layer.build(images.shape)
        layer.kernel.assign(tf.ones_like(layer.kernel))
        # An image and a kernel of ones: each output is the number of its multiplications.
        by_hand = 2 * int(tf.reduce_sum(layer(tf.ones_like(images))))
        network = keras.Sequential([keras.Input((7, 9, 2)), layer])
        assert arithmetic.forward_flops(network) == by_hand, layer


def test_the_fastest_product_is_the_measure(monkeypatch):
    monkeypatch.setattr(arithmetic, "SHAPES", ((1, 1, 1), (256, 256, 256)))
    assert arithmetic.MatrixProduct("float32").flops == 2 * 256**3


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_a_share_is_that_of_the_products_rate(precision, monkeypatch):
    monkeypatch.setattr(arithmetic, "SHAPES", ((8, 8, 8),))
    product = arithmetic.MatrixProduct(precision)
    product()
    assert product.flops == 2 * 8**3
    assert product.share(2 * 8**3, [4.0, 2.0, 8.0], [2.0, 1.0, 8.0]) == 0.5
    assert product.gflop_per_second([1e-6]) == pytest.approx(1.0, abs=0.05)
