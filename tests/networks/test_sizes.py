"""The number of parameters of every network, block by block from the papers, and as it was published."""

import numpy as np
import pytest

from cskd_tf import networks
from tests.networks.deep import deep_ones_later


def batch_norm(channels):
    return 2 * channels


def basic_block(inputs, outputs):
    """Two 3 x 3 convolutions, and a projection where the channels change (only there, or in the stride, it stands)."""
    projection = inputs * outputs + batch_norm(outputs) if inputs != outputs else 0
    return 9 * inputs * outputs + 9 * outputs**2 + 2 * batch_norm(outputs) + projection


def bottleneck_block(inputs, outputs, hidden, groups=1):
    convolutions = inputs * hidden + 9 * hidden * hidden // groups + hidden * outputs
    projection = inputs * outputs + batch_norm(outputs) if inputs != outputs else 0
    return convolutions + 2 * batch_norm(hidden) + batch_norm(outputs) + projection


def preact_block(inputs, outputs):
    projection = inputs * outputs if inputs != outputs else 0
    return batch_norm(inputs) + 9 * inputs * outputs + batch_norm(outputs) + 9 * outputs**2 + projection


def stages(blocks, block, *, width, expansion=1):
    """Parameters of all blocks of `block(inputs, outputs, channels of the stage)`, and the channels at their end."""
    total, inputs = 0, width
    for stage, count in enumerate(blocks):
        for _ in range(count):
            total += block(inputs, expansion * width * 2**stage, width * 2**stage)
            inputs = expansion * width * 2**stage
    return total, inputs


def stem_and_head(kernel, width, features, classes, channels=3):
    return kernel**2 * channels * width + batch_norm(width) + features * classes + classes


def preact_size(blocks, classes, width=64):
    total, features = stages(blocks, lambda inputs, outputs, _: preact_block(inputs, outputs), width=width)
    return total + stem_and_head(3, width, features, classes)


def basic_size(blocks, classes, width=64):
    total, features = stages(blocks, lambda inputs, outputs, _: basic_block(inputs, outputs), width=width)
    return total + stem_and_head(7, width, features, classes)


def bottleneck_size(blocks, classes, kernel=7, width=64, groups=1, hidden_ratio=1):
    def block(inputs, outputs, planes):
        return bottleneck_block(inputs, outputs, hidden_ratio * planes, groups)

    total, features = stages(blocks, block, width=width, expansion=4)
    return total + stem_and_head(kernel, width, features, classes)


def densenet_size(blocks, classes, small, growth=32):
    channels = 2 * growth
    total = 9 * 3 * channels if small else 49 * 3 * channels + batch_norm(channels)
    for number, layers in enumerate(blocks):
        for _ in range(layers):
            total += batch_norm(channels) + channels * 4 * growth + batch_norm(4 * growth) + 9 * 4 * growth * growth
            channels += growth
        if number < len(blocks) - 1:
            total += batch_norm(channels) + channels * (channels // 2)
            channels //= 2
    return total + batch_norm(channels) + channels * classes + classes


def pyramidnet_size(depth, classes, alpha=240, width=16):
    count = (depth - 2) // 9
    total, inputs, size = 9 * 3 * width + batch_norm(width), width, float(width)
    for _ in range(3 * count):
        size += alpha / (3 * count)
        hidden = round(size)
        total += batch_norm(inputs) + inputs * hidden + batch_norm(hidden) + 9 * hidden**2 + batch_norm(hidden)
        total += 4 * hidden**2 + batch_norm(4 * hidden)
        inputs = 4 * hidden
    return total + batch_norm(inputs) + inputs * classes + classes


# By the images that they are for, 32 x 32 of 100 classes or 224 x 224 of 200. ResNeXt's inner channels are groups x
# width of a group, over those of its stage.
SMALL = {
    "preact_resnet10": preact_size((1, 1, 1, 1), 100),
    "preact_resnet18": preact_size((2, 2, 2, 2), 100),
    "preact_resnet34": preact_size((3, 4, 6, 3), 100),
    "resnet101_cifar": bottleneck_size((3, 4, 23, 3), 100, kernel=3),
    "resnext29_8x64d": bottleneck_size((3, 3, 3), 100, kernel=3, groups=8, hidden_ratio=8 * 64 // 64),
    "densenet121_cifar": densenet_size((6, 12, 24, 16), 100, small=True),
    "pyramidnet200": pyramidnet_size(200, 100),
    "pyramidnet200_shakedrop": pyramidnet_size(200, 100),
}
LARGE = {
    "resnet10": basic_size((1, 1, 1, 1), 200),
    "resnet18": basic_size((2, 2, 2, 2), 200),
    "resnet34": basic_size((3, 4, 6, 3), 200),
    "resnet50": bottleneck_size((3, 4, 6, 3), 200),
    "resnet101": bottleneck_size((3, 4, 23, 3), 200),
    "resnet152": bottleneck_size((3, 8, 36, 3), 200),
    "resnext50_32x4d": bottleneck_size((3, 4, 6, 3), 200, groups=32, hidden_ratio=32 * 4 // 64),
    "resnext101_32x4d": bottleneck_size((3, 4, 23, 3), 200, groups=32, hidden_ratio=32 * 4 // 64),
    "densenet121": densenet_size((6, 12, 24, 16), 200, small=False),
}
SIZES = SMALL | LARGE


PUBLISHED = {
    "preact_resnet18": 11_217_444,
    "densenet121_cifar": 7_048_548,
    "resnet18": 11_279_112,
    "densenet121": 7_158_856,
}


def parameters(network):
    return sum(int(np.prod(weight.shape)) for weight in network.trainable_weights)


def test_every_network_has_a_size_here():
    assert sorted(SIZES) == sorted(networks.NETWORKS)


@pytest.mark.parametrize(
    ("name", "classes", "side"), [*deep_ones_later(SMALL, 100, 32), *deep_ones_later(LARGE, 200, 224)]
)
def test_a_network_has_the_size_of_its_architecture(name, classes, side):
    network = networks.build(name, num_classes=classes, input_shape=(side, side, 3))
    assert parameters(network) == SIZES[name]


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_sizes_are_the_published_ones(name):
    assert SIZES[name] == PUBLISHED[name]


def test_preact_resnet18_has_the_published_size_for_tiny_imagenet():
    network = networks.build("preact_resnet18", num_classes=200, input_shape=(None, None, 3))
    assert parameters(network) == 11_268_744


# As torchvision's documentation has them, for ImageNet's 1,000 classes; and the features that a class takes.
TORCHVISION = {
    "resnet18": (11_689_512, 512),
    "resnet34": (21_797_672, 512),
    "resnet50": (25_557_032, 2048),
    "resnet101": (44_549_160, 2048),
    "resnet152": (60_192_808, 2048),
    "resnext50_32x4d": (25_028_904, 2048),
    "densenet121": (7_978_856, 1024),
}


@pytest.mark.parametrize(("name", "size", "features"), [(name, *each) for name, each in TORCHVISION.items()])
def test_a_network_has_the_size_of_torchvisions(name, size, features):
    assert SIZES[name] + (1000 - 200) * (features + 1) == size
