"""Embedding and stages of any Keras classifier, read while it computes its logits."""

import functools
import re
import threading
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from cskd_tf.errors import UserError
from cskd_tf.networks.convolution import keep_memory_whole

_recording = threading.local()  # replicas of one process run in threads that take turns


def _observe(layer: keras.layers.Layer) -> None:
    """Makes `layer` note its input and output while a recording is on; it computes as before."""
    if hasattr(layer.call, "is_observed"):
        return
    call = layer.call

    @functools.wraps(call)
    def observed_call(inputs, *args, **kwargs):
        outputs = call(inputs, *args, **kwargs)
        notes = getattr(_recording, "notes", None)
        if notes is not None:
            notes.append((layer, inputs, outputs))
        return outputs

    observed_call.is_observed = True
    layer.call = observed_call


class NetworkOutputs:
    """Runs a network that maps images to logits and returns what is inside as well, in one pass.

    The embedding is what the classifier reads, flattened to `[B, D]`: the input of the last dense layer, or of the last
    convolution where that sees a single pixel, as in MobileNets. A stage is the output of a layer that is named
    `stage1`, `stage2` and so on.

    Example: around `keras.applications.MobileNetV3Small(weights=None, classes=7, classifier_activation=None)` a batch
    of two images gives logits `[2, 7]` and an embedding `[2, 1024]`.

    Args:
        network: functional, Sequential or subclassed.
        embedding_layer: name of the layer whose input is the embedding, where it is not found so.

    Raises:
        ValueError: the named layer does not exist.
    """

    def __init__(self, network: keras.Model, *, embedding_layer: str | None = None):
        self.network = network
        self.embedding_layer = embedding_layer
        self._prepared = False
        self._prepare()

    def _prepare(self) -> None:
        """Observes the layers; a subclassed model may only have them once it is built."""
        layers = list(self.network._flatten_layers(include_self=False))
        names = [layer.name for layer in layers]
        if self.embedding_layer is not None and self.network.built and self.embedding_layer not in names:
            raise UserError(
                f"Unknown layer; expected one of {names}. Received: embedding_layer={self.embedding_layer!r}"
            )
        for layer in layers:
            keep_memory_whole(layer)
            if self._is_head(layer) or _stage_number(layer):
                _observe(layer)
        self._prepared = self.network.built

    def _is_head(self, layer: keras.layers.Layer) -> bool:
        if self.embedding_layer is None:
            return isinstance(layer, (keras.layers.Dense, keras.layers.Conv2D))
        return layer.name == self.embedding_layer

    def _reads_embedding(self, layer: keras.layers.Layer, inputs) -> bool:
        """Not a convolution that is followed by pooling, as in fully convolutional networks."""
        return not (
            self.embedding_layer is None
            and isinstance(layer, keras.layers.Conv2D)
            and tuple(inputs.shape[1:3]) != (1, 1)
        )

    def __call__(self, images, *, training: bool = False) -> dict[str, Any]:
        """`{"logits": [B, C], "embedding": [B, D], "stages": (...)}`, the last two where the network has them."""
        outputs, _ = self._run(images, training=training)
        return outputs

    def describe(self, input_shape: Sequence[int | None]) -> dict[str, Any]:
        """What a call takes and returns for images of `input_shape`, `[B, H, W, C]`, as tensors without values.

        That is `"image"` and what a call returns; beside an embedding, `"classifier"` is the layer that reads it.
        """
        found = {}

        def trace(images):
            outputs, classifier = self._run(images, training=False)
            found.update(outputs, image=images, **({} if classifier is None else {"classifier": classifier}))
            return outputs["logits"]

        tf.function(trace, autograph=False).get_concrete_function(tf.TensorSpec(input_shape, tf.float32))
        return found

    def _run(self, images, *, training: bool) -> tuple[dict[str, Any], keras.layers.Layer | None]:
        """The outputs, and the layer that reads the embedding."""
        if not self._prepared:
            self._prepare()
        outer = getattr(_recording, "notes", None)
        notes = _recording.notes = []
        try:
            logits = self.network(images, training=training)
        finally:
            _recording.notes = outer
        outputs, classifier = {"logits": logits}, None
        heads = [(layer, read) for layer, read, _ in notes if self._is_head(layer)]
        if heads and self._reads_embedding(*heads[-1]):
            classifier, embedding = heads[-1]
            if len(embedding.shape) != 2:
                embedding = keras.ops.reshape(embedding, (keras.ops.shape(embedding)[0], -1))
            outputs["embedding"] = embedding
        if stages := {_stage_number(layer): made for layer, _, made in notes if _stage_number(layer)}:
            outputs["stages"] = tuple(stages[number] for number in sorted(stages))
        return outputs, classifier


def _stage_number(layer: keras.layers.Layer) -> int | None:
    match = re.fullmatch(r"stage(\d+)", layer.name)
    return int(match[1]) if match else None
