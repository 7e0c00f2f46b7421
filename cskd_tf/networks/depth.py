"""How far from its classifier each weight of a network is, in blocks, and the learning rate that it has for that."""

import math
import re
from collections.abc import Sequence

import keras

from cskd_tf.errors import UserError
from cskd_tf.networks.features import find_classifier, shape_of_images

# Of the learning rate, for the first block: with less it would stand still without a word. What is published is above,
# the least of it .75 over ViT-H's 32 blocks and its stem, 7.5e-5 (He et al., 2022, https://arxiv.org/abs/2111.06377).
SMALLEST_RATE = 1e-5
# How networks call the blocks that they repeat: stage1_block2, block2a, conv4_block6, transformer_layer_3, XBlock_0.
_BLOCK = re.compile(r".*(?:(?:block|layer|unit|cell)_?\d+[a-z]?|expanded_conv(?:_\d+)?)", re.IGNORECASE)


def blocks(network: keras.Model, *, classifier: keras.layers.Layer) -> list[list[keras.Variable]]:
    """The trainable weights of a network but its classifier's, in blocks, in the order from images to logits.

    Weights are of one block whose layers' names are the same up to a word such as `block2`, `block_2a`, `layer3`,
    `unit1` or `expanded_conv_4`, the last such word in them. Other layers are blocks by themselves, but for those
    without a matrix, such as normalisation, which belong to the block before them.

    Example:
        >>> network = cskd_tf.networks.build("preact_resnet10", num_classes=4, input_shape=(8, 8, 3), width=4)
        >>> found = blocks(network, classifier=network.get_layer("classifier"))
        >>> [block[0].path.partition("/")[0] for block in found]
        ['stem_conv', 'stage1_block1_bn1', 'stage2_block1_bn1', 'stage3_block1_bn1', 'stage4_block1_bn1']

    Args:
        network: built; its layers' order is Keras'.
        classifier: the layer that is left out.
    """
    left_out = {id(variable) for variable in classifier.variables}
    found: dict[str, list[keras.Variable]] = {}
    layers: dict[str, list[keras.Variable]] = {}
    for variable in network.trainable_variables:
        if id(variable) not in left_out:
            path = variable.path.removeprefix(f"{network.name}/")  # as in a Sequential
            layers.setdefault(path.rpartition("/")[0], []).append(variable)
    name = ""
    for layer, variables in layers.items():
        if named := _BLOCK.match(layer):
            name = named[0]
        elif not found or any(len(variable.shape) > 1 for variable in variables):
            name = layer
        found.setdefault(name, []).extend(variables)
    return list(found.values())


def layer_rates(
    network: keras.Model,
    variables: Sequence[keras.Variable],
    *,
    factor: float,
    embedding_layer: str | None = None,
) -> list[float]:
    """What the learning rate of each variable is multiplied by: 1 in the classifier, and less for what is before it.

    `factor` once for each step towards the images, over the network's `blocks`, as fine-tuning of BEiT has it (Bao et
    al., 2022, https://arxiv.org/abs/2106.08254, appendix) and timm. What is no weight of the network, as an exit of
    BYOT's, has 1. In deep networks a factor that suits shallow ones leaves nothing to the first blocks, .75 of 94 of
    them 2e-12, and is refused.

    Example: the stem of five blocks has .5 to the power of 5:
        >>> network = cskd_tf.networks.build("preact_resnet10", num_classes=4, input_shape=(8, 8, 3), width=4)
        >>> rates = layer_rates(network, network.trainable_variables, factor=0.5)
        >>> rates[0], rates[-1], sorted(set(rates))
        (0.03125, 1.0, [0.03125, 0.0625, 0.125, 0.25, 0.5, 1.0])

    Args:
        network: built.
        variables: in the order of the result.
        factor: above 0, at most 1.
        embedding_layer: as for `NetworkOutputs`.

    Raises:
        UserError: a subclassed network, the classifier was not found, or less than `SMALLEST_RATE` is left for the
            first block.
    """
    classifier = find_classifier(network, input_shape=shape_of_images(network), embedding_layer=embedding_layer)
    found = blocks(network, classifier=classifier)
    if (smallest := factor ** len(found)) < SMALLEST_RATE:
        least = math.ceil(1000 * SMALLEST_RATE ** (1 / len(found))) / 1000
        raise UserError(
            f"Expected a layer_decay of at least {least} for a network of {len(found)} blocks, which leaves its first "
            f"one {SMALLEST_RATE} of the learning rate; frozen layers have none. "
            f"Received: layer_decay={factor}, which leaves {smallest:.0e}"
        )
    distances = {id(variable): len(found) - number for number, block in enumerate(found) for variable in block}
    return [factor ** distances.get(id(variable), 0) for variable in variables]
