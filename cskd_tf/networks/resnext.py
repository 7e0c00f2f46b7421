"""ResNeXts (Xie et al., 2017, https://arxiv.org/abs/1611.05431): ResNets whose bottlenecks are split into groups.

For large images as torchvision builds them; ResNeXt-29 for 32 pixels has three stages and starts as in the code that
PS-KD's authors used, with a He-normal classifier and a bias of zero.
"""

from typing import Any

import keras

from cskd_tf.networks.layers import he_normal_fan_in
from cskd_tf.networks.resnet import resnet

SMALL_IMAGES = {"small_images": True, "head": {"initializer": he_normal_fan_in, "zero_bias": True}}
STANDARD_WIDTH = 64  # channels of the first stage in a network of the published size, of which `group_width` speaks


def resnext(
    blocks: tuple[int, ...], *, cardinality: int, group_width: int, width: int = 64, **options: Any
) -> keras.Model:
    """As `resnet`, with bottlenecks whose 3 x 3 convolution has `cardinality` groups.

    Example:
        32 groups of 4 channels are 128 inner channels in the first stage, and twice as many in each further one.

        >>> network = resnext((1, 1), cardinality=32, group_width=4, num_classes=2, input_shape=(32, 32, 3), name="two")
        >>> [network.get_layer(f"stage{stage}_block1_conv2").filters for stage in (1, 2)]
        [128, 256]

    Args:
        blocks: bottlenecks per stage.
        cardinality: groups.
        group_width: channels of a group in the first stage of a network of width 64.
        width: channels of the first stage, of which each group needs one: at least `64 / group_width`.
        options: of `resnet`.
    """

    def hidden(channels: int) -> int:
        return cardinality * (channels * group_width // STANDARD_WIDTH)

    return resnet(blocks, width=width, hidden=hidden, groups=cardinality, **options)
