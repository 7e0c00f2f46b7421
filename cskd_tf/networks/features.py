"""Embedding and stages of any Keras classifier, read while it computes its logits."""

import functools
import re
import threading
from typing import Any

import keras

_recording = threading.local()  # replicas of one process run in threads that take turns


def _observe(layer: keras.layers.Layer, label: str) -> None:
    """Makes `layer` note its input and output under `label` while a recording is on; it computes as before."""
    if hasattr(layer.call, "observed_as"):
        return
    call = layer.call

    @functools.wraps(call)
    def observed_call(inputs, *args, **kwargs):
        outputs = call(inputs, *args, **kwargs)
        notes = getattr(_recording, "notes", None)
        if notes is not None:
            notes[label] = (inputs, outputs)
        return outputs

    observed_call.observed_as = label
    layer.call = observed_call


class NetworkOutputs:
    """Runs a network that maps images to logits and returns what is inside as well, in one pass.

    The embedding is what the last dense layer reads, flattened to `[B, D]`; a stage is the output of a layer that is
    named `stage1`, `stage2` and so on.

    Args:
        network: functional, Sequential or subclassed.
        embedding_layer: name of the layer whose input is the embedding, where it is not the last dense layer.

    Raises:
        ValueError: the named layer does not exist, or the network ends in a softmax and so returns no logits.
    """

    def __init__(self, network: keras.Model, *, embedding_layer: str | None = None):
        self.network = network
        self.embedding_layer = embedding_layer
        self._observed = False
        self._prepare()

    def _prepare(self) -> None:
        """Observes the layers; a subclassed model may only have them once it is built."""
        layers = list(self.network._flatten_layers(include_self=False))
        dense = [layer for layer in layers if isinstance(layer, keras.layers.Dense)]
        last = layers[-1] if layers else None
        if (dense and dense[-1].activation is keras.activations.softmax) or isinstance(last, keras.layers.Softmax):
            raise ValueError(
                "Expected a network that returns logits: leave out the softmax (activation=None). "
                f"Received: network={self.network.name!r}, whose last layer is a softmax"
            )
        if self.embedding_layer is None:
            heads = dense
        else:
            heads = [layer for layer in layers if layer.name == self.embedding_layer]
            if self.network.built and not heads:
                names = [layer.name for layer in layers]
                raise ValueError(
                    f"Unknown layer; expected one of {names}. Received: embedding_layer={self.embedding_layer!r}"
                )
        for layer in heads:
            _observe(layer, "head")
        for layer in layers:
            if re.fullmatch(r"stage\d+", layer.name):
                _observe(layer, layer.name)
        self._observed = self.network.built

    def __call__(self, images, *, training: bool = False) -> dict[str, Any]:
        """`{"logits": [B, C], "embedding": [B, D], "stages": (...)}`, the last two where the network has them."""
        if not self._observed:
            self._prepare()
        outer = getattr(_recording, "notes", None)
        notes = _recording.notes = {}
        try:
            logits = self.network(images, training=training)
        finally:
            _recording.notes = outer
        outputs = {"logits": logits}
        if "head" in notes:
            embedding = notes["head"][0]
            if len(embedding.shape) != 2:
                embedding = keras.ops.reshape(embedding, (keras.ops.shape(embedding)[0], -1))
            outputs["embedding"] = embedding
        stages = sorted((label for label in notes if label != "head"), key=lambda label: int(label[5:]))
        if stages:
            outputs["stages"] = tuple(notes[label][1] for label in stages)
        return outputs
