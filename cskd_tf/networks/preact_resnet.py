"""Pre-activation ResNets for small images (He et al., 2016, https://arxiv.org/abs/1603.05027).

As the public CS-KD code builds them: the stem has batch norm and ReLU, every shortcut (the identity too) takes the
activated input, and nothing follows the last block. 18 layers and 100 classes are 11,217,444 parameters.
"""

import keras
from keras import layers

from cskd_tf.networks.layers import Pieces, classifier


def _block(pieces: Pieces, inputs: keras.KerasTensor, filters: int, *, stride: int, name: str) -> keras.KerasTensor:
    activated = pieces.batch_norm_relu(inputs, name=f"{name}_bn1")
    shortcut = activated
    if stride > 1 or inputs.shape[-1] != filters:
        shortcut = pieces.convolution(activated, filters, kernel_size=1, stride=stride, name=f"{name}_shortcut_conv")
    outputs = pieces.convolution(activated, filters, kernel_size=3, stride=stride, name=f"{name}_conv1")
    outputs = pieces.batch_norm_relu(outputs, name=f"{name}_bn2")
    outputs = pieces.convolution(outputs, filters, kernel_size=3, name=f"{name}_conv2")
    return layers.Add(name=f"{name}_add")([outputs, shortcut])


def preact_resnet(
    blocks: tuple[int, ...],
    *,
    num_classes: int,
    input_shape: tuple[int | None, int | None, int],
    width: int = 64,
    synchronized: bool = False,
    name: str,
) -> keras.Model:
    """Functional model, images `[B, H, W, C]` (normalised) to logits `[B, num_classes]`.

    Args:
        blocks: blocks of two convolutions per stage; the stages have 1, 2, 4 and 8 times `width` channels, and each
            but the first halves the image.
        num_classes: of the classifier.
        input_shape: `(H, W, C)`; H and W may be None.
        width: channels of the first stage.
        synchronized: whether batch norm averages over replicas.
        name: of the model.
    """
    pieces = Pieces(synchronized=synchronized)
    images = keras.Input(input_shape, name="image")
    outputs = pieces.stem(images, width, small_images=True)
    for stage, count in enumerate(blocks):
        for block in range(count):
            stride = 2 if stage > 0 and block == 0 else 1
            name_of_block = f"stage{stage + 1}_block{block + 1}"
            outputs = _block(pieces, outputs, width * 2**stage, stride=stride, name=name_of_block)
        outputs = layers.Identity(name=f"stage{stage + 1}")(outputs)
    return keras.Model(images, classifier(outputs, num_classes=num_classes), name=name)
