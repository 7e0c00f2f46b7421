"""Embedding and stages of any Keras classifier, in the pass that computes its logits."""

import collections
import contextlib
import dataclasses
import functools
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from cskd_tf.errors import UserError
from cskd_tf.networks.convolution import compute_right


@dataclasses.dataclass(frozen=True)
class Parts:
    """What a network takes and returns, as symbolic tensors: their shapes and types are known, but no values.

    Attributes:
        image: `[B, H, W, C]`.
        logits: `[B, classes]`.
        embedding: `[B, D]`; None where it was not found.
        stages: per stage `[B, H, W, K]`; empty where the network has none.
        classifier: the layer that reads the embedding; None where it was not found.
    """

    image: Any
    logits: Any
    embedding: Any = None
    stages: tuple[Any, ...] = ()
    classifier: keras.layers.Layer | None = None


class NetworkOutputs:
    """Runs a network that maps images to logits, and returns its embedding and stages as well, in one pass.

    The embedding is what the classifier reads, flattened to `[B, D]`: the input of the last dense layer, or of the last
    convolution where that sees a single pixel, as in MobileNets, if it is as wide as the logits. A stage is the output
    of a layer that is named `stage1`, `stage2` and so on.

    A functional or Sequential network is given further outputs. In others, such as subclassed ones, the layers are
    watched while they compute; afterwards they are as they were.

    Example:
        >>> stage = keras.layers.Conv2D(5, 3, name="stage1")
        >>> pool = keras.layers.GlobalAveragePooling2D()
        >>> network = keras.Sequential([keras.Input((6, 6, 1)), stage, pool, keras.layers.Dense(3)])
        >>> outputs = NetworkOutputs(network)(np.ones((2, 6, 6, 1)))
        >>> tuple(outputs["logits"].shape), tuple(outputs["embedding"].shape), tuple(outputs["stages"][0].shape)
        ((2, 3), (2, 5), (2, 4, 4, 5))

    Args:
        network: functional, Sequential or subclassed.
        embedding_layer: name of the layer whose input is the embedding, where the rule above finds another or none.

    Raises:
        UserError: no layer has that name, or several have.
    """

    def __init__(self, network: keras.Model, *, embedding_layer: str | None = None):
        self.network = network
        self.embedding_layer = embedding_layer
        self._prepared = False
        self._watched: list[keras.layers.Layer] = []
        self._with_parts: keras.Model | None = None
        self._classifier: keras.layers.Layer | None = None
        self._prepare()

    def _prepare(self) -> None:
        """Finds the layers to read; a subclassed network may only have them once it is built."""
        layers = layers_of(self.network)
        names = [layer.name for layer in layers]
        if self.embedding_layer is not None and self.network.built and self.embedding_layer not in names:
            raise UserError(
                f"Unknown layer; expected one of {names}. Received: embedding_layer={self.embedding_layer!r}"
            )
        if self.embedding_layer is not None and names.count(self.embedding_layer) > 1:
            raise UserError(
                "Expected embedding_layer to name one layer of the network. "
                f"Received: {self.embedding_layer!r}, the name of {names.count(self.embedding_layer)}"
            )
        for layer in layers:
            compute_right(layer)
        self._watched = [layer for layer in layers if self._is_head(layer) or _stage_number(layer)]
        self._prepared = self.network.built
        if self._prepared and (graph := _graph_of(self.network)) is not None:
            self._add_outputs(graph)

    def __call__(self, images: tf.Tensor, *, training: bool = False) -> dict[str, Any]:
        """Runs the network.

        Returns:
            `logits` `[B, C]`; `embedding` `[B, D]` and `stages`, a tuple of `[B, H, W, K]`, where the network has them.
        """
        outputs, _ = self._run(images, training=training)
        return outputs

    def parts(self, input_shape: Sequence[int | None]) -> Parts:
        """What a call takes and returns for images of `input_shape`, `[B, H, W, C]`, and the layer that classifies."""
        if self._with_parts is not None:
            outputs = _flattened(self._with_parts.output)
            return Parts(image=self._with_parts.input, classifier=self._classifier, **outputs)
        traced: list[Parts] = []

        def trace(images: tf.Tensor) -> tf.Tensor:
            outputs, classifier = self._run(images, training=False)
            traced.append(Parts(image=images, classifier=classifier, **outputs))
            return outputs["logits"]

        tf.function(trace, autograph=False).get_concrete_function(tf.TensorSpec(input_shape, tf.float32))
        return traced[-1]

    @property
    def lacks_embedding(self) -> bool:
        """Whether a functional network, whose layers are known before it is called, has no embedding."""
        return self._with_parts is not None and "embedding" not in self._with_parts.output

    def _run(self, images: tf.Tensor, *, training: bool) -> tuple[dict[str, Any], keras.layers.Layer | None]:
        """The outputs, and the layer that reads the embedding."""
        if not self._prepared:
            self._prepare()
        if self._with_parts is not None:
            return _flattened(self._with_parts(images, training=training)), self._classifier
        with _watching(self._watched) as calls:
            logits = self.network(images, training=training)
        outputs, classifier = self._select(calls, logits=logits)
        return _flattened(outputs), classifier

    def _add_outputs(self, graph: keras.Model) -> None:
        """Makes a model of several outputs around the same layers, unless a layer to read lies within one of them."""
        calls: list[_Call] = []

        def call(layer: keras.layers.Layer, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            outputs = layer(inputs, *args, **kwargs)
            calls.append(_Call(layer, inputs, outputs))
            return outputs

        called = keras.models.clone_model(graph, clone_function=lambda layer: layer, call_function=call)
        if {id(layer) for layer in self._watched} <= {id(call.layer) for call in calls}:
            outputs, self._classifier = self._select(calls, logits=called.outputs[0])
            self._with_parts = keras.Model(called.inputs[0], outputs, name=self.network.name)

    def _select(self, calls: list["_Call"], *, logits: Any) -> tuple[dict[str, Any], keras.layers.Layer | None]:
        """The outputs and the classifier, from the calls of a network's layers in their order."""
        outputs, classifier = {"logits": logits}, None
        heads = [call for call in calls if self._is_head(call.layer)]
        if heads and self._reads_embedding(heads[-1], logits=logits):
            classifier, outputs["embedding"] = heads[-1].layer, heads[-1].inputs
        stages = {number: call.outputs for call in calls if (number := _stage_number(call.layer))}
        if stages:
            outputs["stages"] = tuple(stages[number] for number in sorted(stages))
        return outputs, classifier

    def _is_head(self, layer: keras.layers.Layer) -> bool:
        if self.embedding_layer is None:
            return isinstance(layer, (keras.layers.Dense, keras.layers.Conv2D))
        return layer.name == self.embedding_layer

    def _reads_embedding(self, call: "_Call", *, logits: Any) -> bool:
        """Whether a layer is the classifier, which reads the embedding.

        False for a convolution over several pixels, which pooling follows, as in fully convolutional networks; and for
        a layer of another width than the logits', behind which a classifier of another kind stands.
        """
        if self.embedding_layer is not None:
            return True
        over_pixels = isinstance(call.layer, keras.layers.Conv2D) and tuple(call.inputs.shape[1:3]) != (1, 1)
        return not over_pixels and call.outputs.shape[-1] == logits.shape[-1]


class _Call(NamedTuple):
    """One call of a layer."""

    layer: keras.layers.Layer
    inputs: Any
    outputs: Any


_recording = threading.local()  # replicas of one process run in threads that take turns
_lock = threading.Lock()
_watchers: collections.Counter[int] = collections.Counter()  # how many blocks watch a layer now, by its id
_own_calls: dict[int, Callable[..., Any] | None] = {}  # what stood on the object of such a layer before, not its class


@contextlib.contextmanager
def _watching(layers: Sequence[keras.layers.Layer]) -> Iterator[list[_Call]]:
    """Notes the calls of `layers` in this thread; they compute as before, and are as before when the block ends."""
    outer_calls = getattr(_recording, "calls", None)
    calls: list[_Call] = []
    with _lock:
        for layer in layers:
            if not _watchers[id(layer)]:
                _own_calls[id(layer)] = vars(layer).get("call")
                layer.call = _noted(layer)
            _watchers[id(layer)] += 1
    _recording.calls = calls
    try:
        yield calls
    finally:
        _recording.calls = outer_calls
        with _lock:
            for layer in layers:
                _watchers[id(layer)] -= 1
                if not _watchers[id(layer)]:
                    own = _own_calls.pop(id(layer))
                    if own is None:
                        del layer.call
                    else:
                        layer.call = own


def _noted(layer: keras.layers.Layer) -> Callable[..., Any]:
    """The layer's `call`, which also notes what it reads and returns while this thread watches."""
    call = layer.call

    @functools.wraps(call)
    def noted_call(inputs: Any, *args: Any, **kwargs: Any) -> Any:
        outputs = call(inputs, *args, **kwargs)
        calls = getattr(_recording, "calls", None)
        if calls is not None:
            calls.append(_Call(layer, inputs, outputs))
        return outputs

    return noted_call


def shape_of_images(network: keras.Model) -> tuple[int | None, ...]:
    """`[B, H, W, C]`, what a network takes.

    Raises:
        UserError: a subclassed network, which does not know it.
    """
    shape = getattr(network, "input_shape", None)
    if shape is None:
        raise UserError(
            "Expected a network that knows the shape of its images, as functional and Sequential ones do, to find the "
            f"parts of it. Received: {network.name!r}, of class {type(network).__name__}"
        )
    return shape


def find_classifier(
    network: keras.Model, *, input_shape: Sequence[int | None], embedding_layer: str | None = None
) -> keras.layers.Layer:
    """The layer that reads the embedding. Arguments as of `NetworkOutputs`, and of its `parts`.

    Raises:
        UserError: it was not found.
    """
    classifier = NetworkOutputs(network, embedding_layer=embedding_layer).parts(input_shape).classifier
    if classifier is None:
        raise UserError(
            f"Expected a network whose classifier is found, or embedding_layer to name it. Received: {network.name!r}"
        )
    return classifier


def layers_of(network: keras.layers.Layer) -> list[keras.layers.Layer]:
    """All layers inside a network, those inside its layers too, each once, the outer ones first.

    Example:
        >>> inner = keras.Sequential([keras.layers.Dense(2, name="inside")], name="inner")
        >>> [layer.name for layer in layers_of(keras.Sequential([inner, keras.layers.Dense(3, name="last")]))]
        ['inner', 'last', 'inside']
    """
    layers: dict[int, keras.layers.Layer] = {}
    waiting = collections.deque([network])
    while waiting:
        layer = waiting.popleft()
        if id(layer) not in layers:
            layers[id(layer)] = layer
            waiting.extend(_layers_in(getattr(layer, "layers", ())))
            waiting.extend(_layers_in(vars(layer)))
    return list(layers.values())[1:]


def _layers_in(value: Any) -> Iterator[keras.layers.Layer]:
    """The layers that an object's attributes hold, in lists and dictionaries too."""
    if isinstance(value, keras.layers.Layer):
        yield value
    elif isinstance(value, (dict, list, tuple)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _layers_in(item)


def _graph_of(network: keras.Model) -> keras.Model | None:
    """The graph of layers of a functional or Sequential network; None for one that computes by a call of its own."""
    if len(getattr(network, "inputs", None) or ()) != 1 or len(network.outputs) != 1:
        return None
    graph = keras.Model(network.inputs[0], network.outputs[0], name=network.name)
    return graph if type(network).call in (type(graph).call, keras.Sequential.call) else None


def _flattened(outputs: dict[str, Any]) -> dict[str, Any]:
    """The outputs with the embedding as `[B, D]`."""
    embedding = outputs.get("embedding")
    if embedding is None or len(embedding.shape) == 2:
        return outputs
    return {**outputs, "embedding": keras.ops.reshape(embedding, (keras.ops.shape(embedding)[0], -1))}


def _stage_number(layer: keras.layers.Layer) -> int | None:
    """The number in a name such as `stage2`; None for other names."""
    match = re.fullmatch(r"stage(\d+)", layer.name)
    return int(match[1]) if match else None
