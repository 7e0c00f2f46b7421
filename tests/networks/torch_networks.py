"""The papers' networks from PyTorch's own layers, under the names that the public code's checkpoints use."""

from collections import OrderedDict

import torch
from torch import nn
from torch.nn import functional

activate = functional.relu


class Activation(nn.Module):
    def forward(self, x):
        return activate(x)


def conv(inputs, outputs, size, stride=1, groups=1):
    return nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)


def pooled(features):
    return features.mean((2, 3))


class PreActBlock(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(inputs), conv(inputs, outputs, 3, stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(outputs), conv(outputs, outputs, 3)
        projection = [conv(inputs, outputs, 1, stride)] if stride > 1 or inputs != outputs else []
        self.shortcut = nn.Sequential(*projection)

    def forward(self, x):
        x = activate(self.bn1(x))
        return self.conv2(activate(self.bn2(self.conv1(x)))) + self.shortcut(x)


class Block(nn.Module):
    """Basic (no `hidden`) or bottleneck; `shortcut` is the module's name: `shortcut` or torchvision's `downsample`."""

    def __init__(self, inputs, outputs, stride, hidden=None, groups=1, shortcut="downsample"):
        super().__init__()
        if hidden is None:
            parts = [conv(inputs, outputs, 3, stride), conv(outputs, outputs, 3)]
        else:
            parts = [conv(inputs, hidden, 1), conv(hidden, hidden, 3, stride, groups), conv(hidden, outputs, 1)]
        for number, part in enumerate(parts, start=1):
            setattr(self, f"conv{number}", part)
            setattr(self, f"bn{number}", nn.BatchNorm2d(part.out_channels))
        self.depth, self.shortcut_name = len(parts), shortcut
        if stride > 1 or inputs != outputs:
            setattr(self, shortcut, nn.Sequential(conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs)))

    def forward(self, x):
        y = x
        for number in range(1, self.depth + 1):
            y = getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(y))
            y = activate(y) if number < self.depth else y
        return activate(y + getattr(self, self.shortcut_name, nn.Identity())(x))


class ResNet(nn.Module):
    """`layerN.M`; `fc` behind a 7 x 7 stem as in torchvision, `linear` behind a 3 x 3 stem as in the CS-KD code."""

    def __init__(self, make_block, blocks, classes, channels=3, width=64, expansion=1, small=False):
        super().__init__()
        self.conv1 = conv(channels, width, 3) if small else conv(channels, width, 7, 2)
        self.bn1 = nn.BatchNorm2d(width)
        self.pool = nn.Identity() if small else nn.MaxPool2d(3, 2, 1)
        inputs = width
        for stage, count in enumerate(blocks):
            planes = width * 2**stage
            made = []
            for block in range(count):
                made.append(make_block(inputs, expansion * planes, 2 if stage and not block else 1, planes))
                inputs = expansion * planes
            setattr(self, f"layer{stage + 1}", nn.Sequential(*made))
        self.stages, self.head = len(blocks), "linear" if small else "fc"
        setattr(self, self.head, nn.Linear(inputs, classes))

    def forward(self, x):
        x = self.pool(activate(self.bn1(self.conv1(x))))
        for stage in range(1, self.stages + 1):
            x = getattr(self, f"layer{stage}")(x)
        return getattr(self, self.head)(pooled(x))


def preact_resnet(blocks, **kwargs):
    return ResNet(lambda i, o, stride, _: PreActBlock(i, o, stride), blocks, small=True, **kwargs)


def basic_resnet(blocks, **kwargs):
    return ResNet(lambda i, o, stride, _: Block(i, o, stride), blocks, **kwargs)


def bottleneck_resnet(blocks, *, small=False, cardinality=1, group_width=64, **kwargs):
    name = "shortcut" if small else "downsample"

    def make(inputs, outputs, stride, planes):
        hidden = planes * group_width // 64 * cardinality
        return Block(inputs, outputs, stride, hidden, cardinality, name)

    return ResNet(make, blocks, expansion=4, small=small, **kwargs)


class ResNeXtBlock(nn.Module):
    def __init__(self, inputs, outputs, stride, cardinality):
        super().__init__()
        inner = cardinality * outputs // 4
        self.conv_reduce, self.bn_reduce = conv(inputs, inner, 1), nn.BatchNorm2d(inner)
        self.conv_conv, self.bn = conv(inner, inner, 3, stride, cardinality), nn.BatchNorm2d(inner)
        self.conv_expand, self.bn_expand = conv(inner, outputs, 1), nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if inputs != outputs:
            self.shortcut.add_module("shortcut_conv", conv(inputs, outputs, 1, stride))
            self.shortcut.add_module("shortcut_bn", nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = activate(self.bn_reduce(self.conv_reduce(x)))
        y = activate(self.bn(self.conv_conv(y)))
        return activate(self.bn_expand(self.conv_expand(y)) + self.shortcut(x))


class ResNeXt29(nn.Module):
    def __init__(self, classes, channels=3, width=64, cardinality=8):
        super().__init__()
        self.conv_1_3x3, self.bn_1 = conv(channels, width, 3), nn.BatchNorm2d(width)
        inputs = width
        for stage in (1, 2, 3):
            part, outputs = nn.Sequential(), 4 * width * 2 ** (stage - 1)
            for block in range(3):
                stride = 2 if stage > 1 and block == 0 else 1
                part.add_module(f"stage_{stage}_bottleneck_{block}", ResNeXtBlock(inputs, outputs, stride, cardinality))
                inputs = outputs
            setattr(self, f"stage_{stage}", part)
        self.classifier = nn.Linear(inputs, classes)

    def forward(self, x):
        x = activate(self.bn_1(self.conv_1_3x3(x)))
        return self.classifier(pooled(self.stage_3(self.stage_2(self.stage_1(x)))))


class DenseLayer(nn.Module):
    def __init__(self, inputs, growth, norm, newest_first):
        super().__init__()
        setattr(self, f"{norm}1", nn.BatchNorm2d(inputs))
        self.conv1 = conv(inputs, 4 * growth, 1)
        setattr(self, f"{norm}2", nn.BatchNorm2d(4 * growth))
        self.conv2 = conv(4 * growth, growth, 3)
        self.norm_name, self.newest_first = norm, newest_first

    def forward(self, x):
        y = self.conv1(activate(getattr(self, f"{self.norm_name}1")(x)))
        y = self.conv2(activate(getattr(self, f"{self.norm_name}2")(y)))
        return torch.cat([y, x] if self.newest_first else [x, y], 1)


class Transition(nn.Module):
    def __init__(self, inputs, norm):
        super().__init__()
        setattr(self, norm, nn.BatchNorm2d(inputs))
        self.conv, self.norm_name = conv(inputs, inputs // 2, 1), norm

    def forward(self, x):
        return functional.avg_pool2d(self.conv(activate(getattr(self, self.norm_name)(x))), 2)


class SmallDenseNet(nn.Module):
    """As the CS-KD code names it."""

    def __init__(self, blocks, classes, channels=3, width=64):
        super().__init__()
        self.conv1 = conv(channels, width, 3)
        self.blocks, count = len(blocks), width
        for number, layers in enumerate(blocks, start=1):
            made = [DenseLayer(count + k * width // 2, width // 2, "bn", True) for k in range(layers)]
            setattr(self, f"dense{number}", nn.Sequential(*made))
            count += layers * width // 2
            if number < len(blocks):
                setattr(self, f"trans{number}", Transition(count, "bn"))
                count //= 2
        self.bn, self.linear = nn.BatchNorm2d(count), nn.Linear(count, classes)

    def forward(self, x):
        x = self.conv1(x)
        for number in range(1, self.blocks + 1):
            x = getattr(self, f"dense{number}")(x)
            x = getattr(self, f"trans{number}")(x) if number < self.blocks else x
        return self.linear(pooled(activate(self.bn(x))))


class DenseNet(nn.Module):
    """As torchvision names it."""

    def __init__(self, blocks, classes, channels=3, width=64):
        super().__init__()
        parts = [
            ("conv0", conv(channels, width, 7, 2)),
            ("norm0", nn.BatchNorm2d(width)),
            ("relu0", Activation()),
            ("pool0", nn.MaxPool2d(3, 2, 1)),
        ]
        count = width
        for number, layers in enumerate(blocks, start=1):
            made = [DenseLayer(count + k * width // 2, width // 2, "norm", False) for k in range(layers)]
            named = OrderedDict((f"denselayer{k}", layer) for k, layer in enumerate(made, start=1))
            parts.append((f"denseblock{number}", nn.Sequential(named)))
            count += layers * width // 2
            if number < len(blocks):
                parts.append((f"transition{number}", Transition(count, "norm")))
                count //= 2
        parts.append(("norm5", nn.BatchNorm2d(count)))
        self.features, self.classifier = nn.Sequential(OrderedDict(parts)), nn.Linear(count, classes)

    def forward(self, x):
        return self.classifier(pooled(activate(self.features(x))))


class PyramidBlock(nn.Module):
    def __init__(self, inputs, hidden, stride):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(inputs), conv(inputs, hidden, 1)
        self.bn2, self.conv2 = nn.BatchNorm2d(hidden), conv(hidden, hidden, 3, stride)
        self.bn3, self.conv3 = nn.BatchNorm2d(hidden), conv(hidden, 4 * hidden, 1)
        self.bn4 = nn.BatchNorm2d(4 * hidden)
        self.pool = nn.AvgPool2d(2, 2, ceil_mode=True) if stride > 1 else nn.Identity()

    def forward(self, x):
        y = self.conv2(activate(self.bn2(self.conv1(self.bn1(x)))))
        y = self.bn4(self.conv3(activate(self.bn3(y))))
        x = self.pool(x)
        y[:, : x.shape[1]] += x
        return y


class PyramidNet(nn.Module):
    def __init__(self, classes, depth=200, channels=3, width=16, alpha=240):
        super().__init__()
        count = (depth - 2) // 9
        self.conv1, self.bn1 = conv(channels, width, 3), nn.BatchNorm2d(width)
        inputs, size = width, width
        for stage in (1, 2, 3):
            made = []
            for block in range(count):
                size = size + alpha / (3 * count)
                made.append(PyramidBlock(inputs, round(size), 2 if stage > 1 and block == 0 else 1))
                inputs = 4 * round(size)
            setattr(self, f"layer{stage}", nn.Sequential(*made))
        self.bn_final, self.fc = nn.BatchNorm2d(inputs), nn.Linear(inputs, classes)

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(self.bn1(self.conv1(x)))))
        return self.fc(pooled(activate(self.bn_final(x))))


# The network of each name, from classes, channels and width.
NETWORKS = {
    "preact_resnet10": lambda **size: preact_resnet([1, 1, 1, 1], **size),
    "preact_resnet18": lambda **size: preact_resnet([2, 2, 2, 2], **size),
    "preact_resnet34": lambda **size: preact_resnet([3, 4, 6, 3], **size),
    "resnet101_cifar": lambda **size: bottleneck_resnet([3, 4, 23, 3], small=True, **size),
    "resnext29_8x64d": ResNeXt29,
    "densenet121_cifar": lambda **size: SmallDenseNet([6, 12, 24, 16], **size),
    "pyramidnet200": lambda width=16, **size: PyramidNet(width=width, alpha=15 * width, **size),
    "resnet10": lambda **size: basic_resnet([1, 1, 1, 1], **size),
    "resnet18": lambda **size: basic_resnet([2, 2, 2, 2], **size),
    "resnet34": lambda **size: basic_resnet([3, 4, 6, 3], **size),
    "resnet50": lambda **size: bottleneck_resnet([3, 4, 6, 3], **size),
    "resnet101": lambda **size: bottleneck_resnet([3, 4, 23, 3], **size),
    "resnet152": lambda **size: bottleneck_resnet([3, 8, 36, 3], **size),
    "resnext50_32x4d": lambda **size: bottleneck_resnet([3, 4, 6, 3], cardinality=32, group_width=4, **size),
    "resnext101_32x4d": lambda **size: bottleneck_resnet([3, 4, 23, 3], cardinality=32, group_width=4, **size),
    "densenet121": lambda **size: DenseNet([6, 12, 24, 16], **size),
}
