"""Pre-activation ResNets for small images (He et al., 2016, https://arxiv.org/abs/1603.05027).

As the public CS-KD code builds them: the stem has batch norm and ReLU, every shortcut (the identity too) takes the
activated input, and nothing follows the last block. 18 layers and 100 classes are 11,217,444 parameters.
"""

import keras
from keras import layers

from cskd_tf.networks.layers import batch_norm_relu, classifier, convolution


def _block(inputs, filters: int, *, stride: int, name: str, synchronized: bool):
    activated = batch_norm_relu(inputs, name=f"{name}_1", synchronized=synchronized)
    shortcut = activated
    if stride > 1 or inputs.shape[-1] != filters:
        shortcut = convolution(activated, filters, kernel_size=1, stride=stride, name=f"{name}_shortcut")
    outputs = convolution(activated, filters, kernel_size=3, stride=stride, name=f"{name}_1_conv")
    outputs = batch_norm_relu(outputs, name=f"{name}_2", synchronized=synchronized)
    outputs = convolution(outputs, filters, kernel_size=3, name=f"{name}_2_conv")
    return layers.Add(name=f"{name}_add")([outputs, shortcut])


def preact_resnet(
    blocks: tuple[int, ...],
    *,
    num_classes: int,
    input_shape: tuple[int, int, int],
    width: int = 64,
    synchronized: bool = False,
    name: str,
) -> keras.Model:
    """Functional model, images `[B, H, W, C]` (normalised) to logits `[B, num_classes]`.

    Args:
        blocks: two-convolution blocks a stage; the stages have 1, 2, 4 and 8 times `width` channels and halve the
            image from the second on.
        num_classes: of the classifier.
        input_shape: `(H, W, C)`; H and W may be None.
        width: channels of the first stage.
        synchronized: whether batch norm averages over replicas.
        name: of the model.
    """
    images = keras.Input(input_shape, name="image")
    outputs = convolution(images, width, kernel_size=3, name="stem_conv")
    outputs = batch_norm_relu(outputs, name="stem", synchronized=synchronized)
    for stage, count in enumerate(blocks):
        for block in range(count):
            outputs = _block(
                outputs,
                width * 2**stage,
                stride=2 if stage > 0 and block == 0 else 1,
                name=f"stage{stage + 1}_block{block + 1}",
                synchronized=synchronized,
            )
        outputs = layers.Identity(name=f"stage{stage + 1}")(outputs)
    return keras.Model(images, classifier(outputs, num_classes=num_classes), name=name)
