"""The numbers that a classifier is served with, in float32 and as graphs that converters take."""

import contextlib
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from cskd_tf.serving.functions import IMAGES, PIXELS, Serving


class Numbers:
    """What `Serving` returns but for the names, as `tf.function`s in float32, whatever precision it was trained in.

    Runtimes for CPUs and browsers have no kernels for half precision, or other ones, so that nothing they returned
    could be compared. The weights are float32 in mixed precision too.

    Args:
        serving: of the classifier.

    Attributes:
        serving: the same in float32.
        of_images: from uint8 `[N, H, W, C]`, of any size, to the outputs of `Serving.numbers_of_images`.
        of_pixels: from float32 `[N, size, size, C]`, pixels from 0 to 255, to the same.
    """

    def __init__(self, serving: Serving):
        self.serving = serving.anew()
        size, channels = serving.size, serving.channels
        self.images_spec = tf.TensorSpec([None, None, None, channels], tf.uint8, name=IMAGES)
        self.pixels_spec = tf.TensorSpec([None, size, size, channels], tf.float32, name=PIXELS)
        functions = (self.serving.numbers_of_images, self.images_spec), (self.serving.of_pixels, self.pixels_spec)
        with self.in_float32():
            self.of_images, self.of_pixels = (_traced(function, spec) for function, spec in functions)

    @contextlib.contextmanager
    def in_float32(self) -> Iterator[None]:
        """Lets all layers compute in float32, and afterwards as before, where functions may be traced once more."""
        layers = list(self.serving.model._flatten_layers())  # nothing public reaches the layers inside of layers
        before = [layer.dtype_policy for layer in layers]
        try:
            for layer, policy in zip(layers, before, strict=True):
                if policy.compute_dtype in ("float16", "bfloat16"):
                    layer.dtype_policy = "float32"
            yield
        finally:
            for layer, policy in zip(layers, before, strict=True):
                layer.dtype_policy = policy

    def expected(self, inputs: np.ndarray) -> dict[str, np.ndarray]:
        """The outputs for raw images, uint8, or pixels, float32."""
        function = self.of_images if inputs.dtype == np.uint8 else self.of_pixels
        return {name: value.numpy() for name, value in function(tf.constant(inputs)).items()}


def _traced(function, spec: tf.TensorSpec):
    traced = tf.function(function, input_signature=[spec], autograph=False)
    traced.get_concrete_function()  # now, in the precision of now
    return traced
