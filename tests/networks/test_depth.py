"""How far weights are from the classifier, in networks whose blocks are counted by hand."""

import keras
import numpy as np
import pytest

from cskd_tf.errors import UserError
from cskd_tf.networks.depth import layer_rates

LAYERS = keras.layers


def rates_by_layer(network, factor, **options):
    """The rate of each layer with trainable weights, by its name."""
    variables = network.trainable_variables
    rates = layer_rates(network, variables, factor=factor, **options)
    by_layer = {}
    for variable, rate in zip(variables, rates, strict=True):
        by_layer.setdefault(variable.path.split("/")[-2], set()).add(rate)
    assert all(len(found) == 1 for found in by_layer.values())
    return {name: found.pop() for name, found in by_layer.items()}


def test_layers_without_names_are_blocks_and_normalisation_belongs_to_the_one_before():
    network = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            LAYERS.BatchNormalization(name="first_norm"),
            LAYERS.Conv2D(4, 3, name="one"),
            LAYERS.BatchNormalization(name="one_norm"),
            LAYERS.Conv2D(4, 3, name="two"),
            LAYERS.GlobalAveragePooling2D(),
            LAYERS.LayerNormalization(name="last_norm"),
            LAYERS.Dense(3, name="head"),
        ]
    )
    expected = {"first_norm": 0.125, "one": 0.25, "one_norm": 0.25, "two": 0.5, "last_norm": 0.5, "head": 1.0}
    assert rates_by_layer(network, 0.5) == expected


@pytest.mark.parametrize(
    ("names", "steps"),
    [
        (["conv1", "conv2_block1_1_conv", "conv2_block1_2_conv", "conv2_block2_1_conv"], [3, 2, 2, 1]),  # ResNet
        (
            ["stem_conv", "block1a_dwconv", "block2a_expand", "block2b_expand", "top_conv"],
            [5, 4, 3, 2, 1],
        ),  # EfficientNet
        (["Conv1", "expanded_conv_depthwise", "block_1_expand", "block_1_project", "Conv_1"], [4, 3, 2, 2, 1]),
        (["conv", "expanded_conv_project", "expanded_conv_1_expand", "expanded_conv_1_project"], [3, 2, 1, 1]),
        (["patch", "encoder_layer_0_mlp", "encoder_layer_1_mlp", "encoder_layer_10_mlp"], [4, 3, 2, 1]),
        (["x_Stage_0_XBlock_0_conv", "x_Stage_0_XBlock_1_conv", "x_Stage_1_XBlock_0_conv"], [3, 2, 1]),  # RegNet
    ],
)
def test_blocks_are_told_by_the_names_that_networks_give_them(names, steps):
    convolutions = [LAYERS.Conv2D(2, 1, name=name) for name in names]
    layers = [keras.Input((2, 2, 1)), *convolutions, LAYERS.GlobalAveragePooling2D(), LAYERS.Dense(2, name="head")]
    rates = rates_by_layer(keras.Sequential(layers), 0.5)
    assert rates == {**{name: 0.5**step for name, step in zip(names, steps, strict=True)}, "head": 1.0}


def test_blocks_inside_a_layer_are_told_by_the_paths_of_their_weights():
    class Encoder(keras.layers.Layer):
        def __init__(self):
            super().__init__(name="encoder")
            self.inner = [
                keras.Sequential([LAYERS.Dense(3)], name=f"transformer_block_{number}") for number in range(2)
            ]

        def build(self, shape):
            for block in self.inner:
                with keras.name_scope(block.name):
                    block.build(shape)

        def call(self, inputs):
            for block in self.inner:
                inputs = block(inputs)
            return inputs

    tokens = keras.Input((5, 3))
    pooled = LAYERS.GlobalAveragePooling1D()(Encoder()(LAYERS.Dense(3, name="patches")(tokens)))
    network = keras.Model(tokens, LAYERS.Dense(2, name="head")(pooled))
    rates = layer_rates(network, network.trainable_variables, factor=0.5)
    assert rates == [0.125, 0.125, 0.25, 0.25, 0.5, 0.5, 1.0, 1.0]


def test_what_is_no_weight_of_the_network_has_the_whole_rate_and_a_classifier_may_be_named():
    network = keras.Sequential([keras.Input((4,)), LAYERS.Dense(3, name="head"), LAYERS.Dense(2, name="after")])
    other = keras.Variable(np.zeros(2))
    rates = layer_rates(network, [other, *network.trainable_variables], factor=0.1, embedding_layer="after")
    assert rates == [1.0, 0.1, 0.1, 1.0, 1.0]
    pooled = keras.Sequential([keras.Input((4, 4, 1)), LAYERS.Conv2D(2, 3), LAYERS.GlobalAveragePooling2D()])
    with pytest.raises(UserError, match="whose classifier is found, or embedding_layer"):
        layer_rates(pooled, pooled.trainable_variables, factor=0.1)


def test_a_factor_that_leaves_nothing_to_the_first_block_is_refused():
    """Of 94 blocks, as EfficientNetV2L has them."""
    layers = [LAYERS.Dense(1, use_bias=False, name=f"block{number}") for number in range(94)]
    network = keras.Sequential([keras.Input((1,)), *layers, LAYERS.Dense(2, name="head")])
    message = r"at least 0.885 for a network of 94 blocks.*Received: layer_decay=0.75, which leaves 2e-12"
    with pytest.raises(UserError, match=message):
        layer_rates(network, network.trainable_variables, factor=0.75)
    assert rates_by_layer(network, 0.885)["block0"] == pytest.approx(1.03e-5, rel=0.01)


def test_a_subclassed_network_is_refused_by_name():
    class Mine(keras.Model):
        def call(self, images):
            return images

    with pytest.raises(UserError, match="knows the shape of its images, .*Received: 'mine', of class Mine"):
        layer_rates(Mine(name="mine"), [], factor=0.5)
