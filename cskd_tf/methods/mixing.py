"""Methods that change images and targets in the pipeline, and what they share; there is no Keras in them."""

import abc
import dataclasses
from typing import Any, ClassVar

import tensorflow as tf

from cskd_tf.data.batches.views import is_view
from cskd_tf.methods.ability import Ability


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mixing(Ability, abc.ABC):
    """Base of the methods that mix or cut images: dataclasses whose fields are their settings.

    Attributes:
        mixes_labels: whether `mix` leaves images with more than one label.
        mixes_all: whether `mix` leaves no image as it is.
    """

    mixes_labels: ClassVar[bool] = False

    @property
    def mixes_all(self) -> bool:
        return False

    @abc.abstractmethod
    def others(self, count: int | tf.Tensor, *, seed: tf.Tensor) -> tf.Tensor:
        """int32 `[count]`: for each row of a batch the row that `mix` takes in beside it; itself where none is.

        `seed` is that of `mix`. By it a worker knows which images it has to load beside its own.
        """

    @abc.abstractmethod
    def mix(self, batch: dict[str, Any], targets: tf.Tensor, *, seed: tf.Tensor) -> tuple[dict[str, Any], tf.Tensor]:
        """In the pipeline, on the global batch: images and soft targets `[B, C]` in, the mixed ones out.

        Where images have weights, a row of the targets comes in times its image's weight, so that the weight is mixed
        as the target is: what comes out has to be linear in the targets.
        `seed` is an int32 `[2]`, a function of (seed, epoch, step). Which images it has changed stands under `"mixed"`.
        """

    def get_config(self) -> dict[str, Any]:
        """The settings, as Keras saves a model's parts."""
        return dataclasses.asdict(self)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Mixing":
        """From what `get_config` returned; further keys, of files from when methods were all Keras layers, are left."""
        return cls(**{field.name: config[field.name] for field in dataclasses.fields(cls) if field.name in config})


def mixed_images(batch: dict[str, Any]) -> dict[str, tf.Tensor]:
    """The views in a batch, `[B, H, W, C]` each: the image, its partners, other augmentations."""
    return {name: values for name, values in batch.items() if is_view(name)}


def marked(batch: dict[str, Any], chosen: tf.Tensor) -> dict[str, tf.Tensor]:
    """The key `"mixed"`, float32 `[B]`: 1 for the images that are `chosen`, or that an earlier method had chosen."""
    chosen = tf.cast(chosen, tf.float32)
    return {"mixed": tf.maximum(batch["mixed"], chosen) if "mixed" in batch else chosen}


def permutation(count: tf.Tensor, *, seed: tf.Tensor) -> tf.Tensor:
    """int32 `[count]`, 0 to `count - 1` shuffled; of two that draw the same of 2^23 numbers the first stays first."""
    return tf.argsort(tf.random.stateless_uniform([count], seed))


def beta(alpha: float, *, seed: tf.Tensor) -> tf.Tensor:
    """One number from Beta(alpha, alpha): `a / (a + b)` of two from Gamma(alpha)."""
    # In float64: for a small alpha both are so small that float32 would make them 0.
    draws = tf.random.stateless_gamma([2], seed, alpha=tf.constant(alpha, tf.float64), dtype=tf.float64)
    return tf.cast(draws[0] / tf.reduce_sum(draws), tf.float32)


def blend(one: tf.Tensor, other: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
    """`share * one + (1 - share) * other`."""
    return share * one + (1 - share) * other
