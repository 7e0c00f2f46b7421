"""ResNets (He et al., 2016, https://arxiv.org/abs/1512.03385), activated after each addition.

For large images as torchvision builds them (18 layers and 200 classes are 11,279,112 parameters), for 32 pixels with a
3 x 3 stem and PyTorch's default initialisation, as the public PS-KD code does. The stride of a bottleneck is in its
3 x 3 convolution.
"""

from collections.abc import Callable
from typing import Any

import keras
from keras import layers

from cskd_tf.networks.layers import Pieces, classifier, he_normal_fan_out, torch_default


def _block(
    pieces: Pieces,
    inputs: keras.KerasTensor,
    filters: int,
    *,
    hidden: int | None,
    groups: int,
    stride: int,
    name: str,
) -> keras.KerasTensor:
    """Two 3 x 3 convolutions; or, with `hidden` inner channels, a bottleneck: 1 x 1, grouped 3 x 3 and 1 x 1."""
    strided = {"kernel_size": 3, "stride": stride}
    plan = [(filters, strided), (filters, {"kernel_size": 3})]
    if hidden is not None:
        plan = [(hidden, {"kernel_size": 1}), (hidden, {**strided, "groups": groups}), (filters, {"kernel_size": 1})]
    outputs = inputs
    for number, (channels, options) in enumerate(plan, start=1):
        outputs = pieces.convolution(outputs, channels, **options, name=f"{name}_conv{number}")
        normalize = pieces.batch_norm_relu if number < len(plan) else pieces.batch_norm
        outputs = normalize(outputs, name=f"{name}_bn{number}")
    shortcut = inputs
    if stride > 1 or inputs.shape[-1] != filters:
        shortcut = pieces.convolution(inputs, filters, kernel_size=1, stride=stride, name=f"{name}_shortcut_conv")
        shortcut = pieces.batch_norm(shortcut, name=f"{name}_shortcut_bn")
    return layers.ReLU(name=f"{name}_relu")(layers.Add(name=f"{name}_add")([outputs, shortcut]))


def bottleneck(channels: int) -> int:
    """Inner channels of a ResNet's bottleneck block: as many as its stage has."""
    return channels


def resnet(
    blocks: tuple[int, ...],
    *,
    num_classes: int,
    input_shape: tuple[int | None, int | None, int],
    width: int = 64,
    synchronized: bool = False,
    hidden: Callable[[int], int] | None = None,
    groups: int = 1,
    small_images: bool = False,
    initializer: Callable[[], keras.initializers.Initializer] = he_normal_fan_out,
    head: dict[str, Any] | None = None,
    name: str,
) -> keras.Model:
    """Functional model, images `[B, H, W, C]` (normalised) to logits `[B, num_classes]`.

    Args:
        blocks: blocks per stage; the stages have 1, 2, 4 and 8 times `width` channels (bottlenecks end in four times
            as many), and each but the first halves the image.
        num_classes: of the classifier.
        input_shape: `(H, W, C)`; H and W may be None.
        width: channels of the stem and of the first stage.
        synchronized: whether batch norm averages over replicas.
        hidden: from a stage's channels to the inner channels of its bottlenecks; None: blocks without bottleneck.
        groups: of the bottlenecks' 3 x 3 convolution.
        small_images: whether the stem is a 3 x 3 convolution without stride or pooling.
        initializer: makes a new initialiser for each convolution.
        head: options of `layers.classifier`, which say how the classifier starts.
        name: of the model.
    """
    pieces = Pieces(initializer=initializer, synchronized=synchronized)
    images = keras.Input(input_shape, name="image")
    outputs = pieces.stem(images, width, small_images=small_images)
    for stage, count in enumerate(blocks):
        channels = width * 2**stage
        for block in range(count):
            outputs = _block(
                pieces,
                outputs,
                4 * channels if hidden else channels,
                hidden=hidden(channels) if hidden else None,
                groups=groups,
                stride=2 if stage > 0 and block == 0 else 1,
                name=f"stage{stage + 1}_block{block + 1}",
            )
        outputs = layers.Identity(name=f"stage{stage + 1}")(outputs)
    return keras.Model(images, classifier(outputs, num_classes=num_classes, **(head or {})), name=name)


def resnet_cifar(blocks: tuple[int, ...], **options: Any) -> keras.Model:
    """A bottleneck ResNet for small images, which starts as PyTorch's layers do; options as of `resnet`."""
    return resnet(blocks, hidden=bottleneck, small_images=True, initializer=torch_default, **options)
