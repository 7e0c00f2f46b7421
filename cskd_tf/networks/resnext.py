"""ResNeXts (Xie et al., 2017, https://arxiv.org/abs/1611.05431): ResNets whose bottlenecks are split into groups.

For large images as torchvision builds them; ResNeXt-29 for 32 pixels has three stages and starts as in the code that
PS-KD's authors used, with a He-normal classifier and a bias of zero.
"""

import keras

from cskd_tf.networks.layers import he_normal_fan_in
from cskd_tf.networks.resnet import resnet

SMALL_IMAGES = {"small_images": True, "head": {"initializer": he_normal_fan_in, "zero_bias": True}}
STANDARD_WIDTH = 64  # channels of the first stage, for which a group's width is stated


def resnext(blocks: tuple[int, ...], *, cardinality: int, group_width: int, width: int = 64, **options) -> keras.Model:
    """As `resnet`, with bottlenecks of `cardinality` groups.

    Example: 32 groups of width 4 and a first stage of 64 channels have 128, 256, 512 and 1,024 inner channels.

    Args:
        blocks: bottlenecks a stage.
        cardinality: groups.
        group_width: channels of a group in the first stage of a network of width 64.
        width: channels of the first stage, of which each group needs one: at least `64 / group_width`.
        options: of `resnet`.
    """

    def hidden(channels: int) -> int:
        return cardinality * (channels * group_width // STANDARD_WIDTH)

    return resnet(blocks, width=width, hidden=hidden, groups=cardinality, **options)
