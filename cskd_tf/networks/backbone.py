"""A trained network's stages as the backbone of a detector."""

import keras

from cskd_tf.errors import UserError
from cskd_tf.networks.features import NetworkOutputs

_SIZES = 256, 512  # pixels per side of two images, which every stride divides


@keras.saving.register_keras_serializable("cskd_tf")
class Backbone(keras.Model):
    """A functional model from normalised images `[B, H, W, C]` of any size to `{"P2": [B, H / 4, W / 4, K], ...}`.

    Attributes:
        pyramid_outputs: the symbolic outputs by name, under which KerasHub's detectors look for them.
    """

    @property
    def pyramid_outputs(self) -> dict[str, keras.KerasTensor]:
        return dict(self.output)


def backbone(network: keras.Model) -> Backbone:
    """The stages of a network, for a detector or another model that is fine-tuned on them.

    `Pn` is the last stage whose pixels stand for 2^n x 2^n of the image's: `P2` to `P5` of the networks for 224 pixels,
    `P0` to `P2` or `P3` of those for 32. The layers are the network's own, without its classifier: fine-tuning changes
    both, unless the backbone, or the network, comes from a file.

    Example: of a run's file it is `backbone(keras.models.load_model("workdirs/mine/classifier.keras").network)`.
        >>> network = cskd_tf.networks.build("resnet10", num_classes=4, input_shape=(32, 32, 3), width=8)
        >>> outputs = backbone(network)(np.zeros((1, 64, 96, 3)))
        >>> {name: tuple(values.shape) for name, values in outputs.items()}
        {'P2': (1, 16, 24, 8), 'P3': (1, 8, 12, 16), 'P4': (1, 4, 6, 32), 'P5': (1, 2, 3, 64)}

    Args:
        network: functional or Sequential, with layers named `stage1`, `stage2` and so on, as `build` makes them.

    Raises:
        UserError: a network without such layers, or whose stages are not 2, 4, 8 ... times as small as the image.
    """
    expected = "Expected a functional network with stages, layers that are named stage1, stage2 and so on"
    if len(getattr(network, "inputs", None) or ()) != 1:
        raise UserError(f"{expected}. Received: {network.name!r}, which is not functional")
    parts = NetworkOutputs(network).parts(network.input_shape)
    if not (parts.stages and isinstance(parts.image, keras.KerasTensor)):
        raise UserError(f"{expected}. Received: {network.name!r} without any")
    channels = network.input_shape[-1]
    images = keras.Input((None, None, channels), name="images", dtype=parts.image.dtype)
    staged = keras.Model(parts.image, list(parts.stages))
    resized = keras.models.clone_model(staged, input_tensors=images, clone_function=lambda layer: layer)
    shapes = [resized.compute_output_shape((1, size, size, channels)) for size in _SIZES]
    levels = {}
    for stage, *seen in zip(resized.outputs, *shapes, strict=True):
        stride = _SIZES[0] // seen[0][1]
        sizes = [tuple(shape[1:3]) for shape in seen]
        if sizes != [(size // stride,) * 2 for size in _SIZES] or stride & (stride - 1):
            raise UserError(
                "Expected stages that are 1, 2, 4, 8 ... times as small as the image. "
                f"Received: {network.name!r} with a stage of {sizes} pixels, of images with sides of {_SIZES}"
            )
        levels[f"P{stride.bit_length() - 1}"] = stage  # a later stage of the same size in place of an earlier one
    return Backbone(images, levels, name=f"{network.name}_backbone")
