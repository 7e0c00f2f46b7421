"""DenseNets with bottlenecks and compression (Huang et al., 2017, https://arxiv.org/abs/1608.06993).

For large images as torchvision builds them (121 layers and 200 classes are 7,158,856 parameters), for 32 pixels with a
3 x 3 stem without batch norm and PyTorch's default initialisation, as the public CS-KD and PS-KD code does (100 classes
are 7,048,548 parameters).
"""

import keras
from keras import layers

from cskd_tf.networks.layers import Pieces, classifier, he_normal_fan_in, torch_default


def _dense_layer(
    pieces: Pieces, inputs: keras.KerasTensor, *, growth: int, newest_first: bool, name: str
) -> keras.KerasTensor:
    """Adds `growth` channels to those that it reads, by a bottleneck of 4 times as many."""
    outputs = pieces.batch_norm_relu(inputs, name=f"{name}_bn1")
    outputs = pieces.convolution(outputs, 4 * growth, kernel_size=1, name=f"{name}_conv1")
    outputs = pieces.batch_norm_relu(outputs, name=f"{name}_bn2")
    outputs = pieces.convolution(outputs, growth, kernel_size=3, name=f"{name}_conv2")
    in_order = [outputs, inputs] if newest_first else [inputs, outputs]
    return layers.Concatenate(name=f"{name}_concatenate")(in_order)


def _transition(pieces: Pieces, inputs: keras.KerasTensor, *, name: str) -> keras.KerasTensor:
    """Halves the channels, and then the image, whose last row or column is dropped where their number is odd."""
    outputs = pieces.batch_norm_relu(inputs, name=f"{name}_bn")
    outputs = pieces.convolution(outputs, inputs.shape[-1] // 2, kernel_size=1, name=f"{name}_conv")
    return layers.AveragePooling2D(2, data_format="channels_last", name=f"{name}_pool")(outputs)


def densenet(
    blocks: tuple[int, ...],
    *,
    num_classes: int,
    input_shape: tuple[int | None, int | None, int],
    width: int = 64,
    synchronized: bool = False,
    small_images: bool = False,
    name: str,
) -> keras.Model:
    """Functional model, images `[B, H, W, C]` (normalised) to logits `[B, num_classes]`.

    The stages are the outputs of the dense blocks, the last one behind the final batch norm and ReLU.

    Args:
        blocks: dense layers per block.
        num_classes: of the classifier.
        input_shape: `(H, W, C)`; H and W may be None.
        width: channels of the stem, twice what a dense layer adds; at least 2.
        synchronized: whether batch norm averages over replicas.
        small_images: whether to build the public code's network for 32 pixels, in which each dense layer also puts its
            channels before those that it has read.
        name: of the model.
    """
    growth = width // 2
    pieces = Pieces(initializer=torch_default if small_images else he_normal_fan_in, synchronized=synchronized)
    images = keras.Input(input_shape, name="image")
    if small_images:
        outputs = pieces.convolution(images, width, kernel_size=3, name="stem_conv")
    else:
        outputs = pieces.stem(images, width, small_images=False)
    for stage, count in enumerate(blocks, start=1):
        for block in range(1, count + 1):
            name_of_layer = f"stage{stage}_block{block}"
            outputs = _dense_layer(pieces, outputs, growth=growth, newest_first=small_images, name=name_of_layer)
        if stage < len(blocks):
            outputs = layers.Identity(name=f"stage{stage}")(outputs)
            outputs = _transition(pieces, outputs, name=f"transition{stage}")
    outputs = pieces.batch_norm_relu(outputs, name="final_bn")
    outputs = layers.Identity(name=f"stage{len(blocks)}")(outputs)
    logits = classifier(outputs, num_classes=num_classes, zero_bias=not small_images)
    return keras.Model(images, logits, name=name)
