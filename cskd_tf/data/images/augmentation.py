"""From a config's settings to the transforms of training and of evaluation."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from cskd_tf.data.images.colours import ColorJitter, Lighting
from cskd_tf.data.images.keras_layers import build_layers, check_layers
from cskd_tf.data.images.transforms import (
    CentreCrop,
    Compose,
    Flip,
    Normalize,
    PadCrop,
    RandomResizedCrop,
    Transform,
)
from cskd_tf.errors import UserError
from cskd_tf.settings import Within, check


@dataclasses.dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How images are made to fit the network, and changed in training; configs/base.py has the defaults and units.

    Example, as the papers' code has it on ImageNet:
        >>> pixels = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
        >>> Augmentation(image_size=224, crop="random_resized_crop", short_side=256, **pixels).flip
        True

    Raises:
        UserError: an unknown crop or layer, or a size out of range.
    """

    image_size: Annotated[int, Within(1, 4096)]
    crop: Literal["none", "pad_crop", "random_resized_crop"] = "pad_crop"
    padding: Annotated[int, Within(0)] = 4
    flip: bool = True
    color_jitter: Annotated[float, Within(0, 1)] = 0.0
    lighting: Annotated[float, Within(0, 10)] = 0.0
    layers: Sequence[Mapping[str, Any]] = ()  # as `keras_layers.check_layers` takes and checks them
    short_side: Annotated[int, Within(0, 8192)] = 0
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self):
        check(self)
        check_layers(self.layers)
        if 0 < self.short_side < self.image_size:
            raise UserError(
                f"Expected short_side to be at least image_size ({self.image_size}). "
                f"Received: short_side={self.short_side}"
            )
        if self.padding > self.image_size:
            raise UserError(
                f"Expected padding of at most image_size ({self.image_size}). Received: padding={self.padding}"
            )
        mean, std = tuple(self.mean), tuple(self.std)
        if len(mean) != len(std) or not mean or not all(value > 0 for value in std):
            raise UserError(f"Expected as many means as stds, the stds above 0. Received: {mean=}, {std=}")
        if not all(abs(value) <= 10 for value in mean) or not all(1e-3 <= value <= 1000 for value in std):
            raise UserError(
                "Expected mean and std of pixels from 0 to 1, means of at most 10 and stds from 0.001 to 1,000. "
                f"Received: {mean=}, {std=}"
            )
        if (self.color_jitter or self.lighting) and len(mean) != 3:
            raise UserError(f"Expected colour images for color_jitter and lighting. Received: {len(mean)} channels")


def build_transforms(augmentation: Augmentation) -> tuple[Transform, Transform]:
    """Two transforms: one for training, one for evaluation and serving.

    Example:
        >>> augmentation = Augmentation(image_size=8, crop="none", flip=False, mean=(0.5,), std=(0.5,))
        >>> training, evaluation = build_transforms(augmentation)
        >>> training.transforms == evaluation.transforms
        True

    Raises:
        UserError: arguments that a Keras layer does not take, or one that changes the size of images.
    """
    size = augmentation.image_size
    centre = CentreCrop(size=size, short_side=augmentation.short_side or size)
    crops = {
        "none": (centre,),
        "pad_crop": (CentreCrop(size=size, short_side=size), PadCrop(augmentation.padding)),
        "random_resized_crop": (RandomResizedCrop(size),),
    }
    wanted: list[Transform] = [Flip()] if augmentation.flip else []
    if augmentation.layers:
        layers = build_layers(augmentation.layers)
        shape = (size, size, len(augmentation.mean))
        if (received := layers.output_shape(shape)) != shape:
            raise UserError(f"Expected Keras layers that keep images of shape {shape}. Received: {received} after them")
        wanted.append(layers)  # before pixels leave the range from 0 to 255
    if augmentation.color_jitter:
        wanted.append(ColorJitter(augmentation.color_jitter))
    if augmentation.lighting:
        wanted.append(Lighting(augmentation.lighting))
    normalize = Normalize(tuple(augmentation.mean), tuple(augmentation.std))
    return Compose((*crops[augmentation.crop], *wanted, normalize)), Compose((centre, normalize))
