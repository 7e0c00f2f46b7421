"""Layers of Keras, and functions of images alone, as transforms whose randomness follows from each image's seed."""

import inspect
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from cskd_tf.data.images.transforms import Compose, Transform
from cskd_tf.errors import UserError

_CHOICES = 8  # of a layer that chooses in Python, while the graph is made
# Operations that keep their own state of randomness, or any other; those of tf.random.stateless_* keep none.
_WITH_STATE = re.compile(
    r"(Random(?!IndexShuffle)|Rng|Multinomial|TruncatedNormal|ParameterizedTruncated|SampleDistorted|Assign|"
    r"Stateful(?!PartitionedCall)|\w*SeedGenerator)"
)
_IMAGE_LAYER = keras.layers.RandomFlip.__base__  # what Keras' image layers have in common has no public name
_OF_LABELS_TOO = ("CutMix", "MaxNumBoundingBoxes", "MixUp")
LAYERS = {
    name: layer
    for name, layer in sorted(vars(keras.layers).items())
    if isinstance(layer, type) and issubclass(layer, _IMAGE_LAYER) and name not in _OF_LABELS_TOO
}
_VALUE_RANGE = (0, 255)
Augment = keras.layers.Layer | Callable | Sequence  # what `as_transform` takes


class KerasLayers:
    """Keras layers, one after the other, as a transform: `keras.layers.RandAugment`, a `Sequential`, one of your own.

    Each image passes through them by itself. Every random number that a layer draws follows from the image's seed,
    which takes the place of the layer's `seed`: the states of its seed generators are replaced while the graph is made
    (`keras.StatelessScope`), and neither read nor moved. So an image looks the same whatever batch, worker or process
    it is in. `AugMix` chooses its operations by Python's `random` when the graph is made; the graph holds 8 such
    choices, and the image's seed picks one.

    Example:
        >>> layers = KerasLayers([keras.layers.RandomFlip("horizontal"), keras.layers.Rescaling(1 / 255)])
        >>> image = tf.constant([[[[0.0], [255.0]]]])
        >>> images = layers(tf.repeat(image, 4, axis=0), tf.constant([[0, 0], [0, 1], [0, 0], [0, 3]]))
        >>> bool((images[0] == images[2]).numpy().all()), sorted(images[1].numpy().ravel().tolist())
        (True, [0.0, 1.0])

    Args:
        layers: one layer or several; images are `[1, H, W, C]` float32, as the source has them.

    Raises:
        UserError: layers that need labels. When images are first seen: what a layer cannot take, and randomness that
            does not follow from seed generators.
    """

    def __init__(self, layers: keras.layers.Layer | Sequence[keras.layers.Layer]):
        self._layers = [layers] if isinstance(layers, keras.layers.Layer) else list(layers)
        self._graphs: dict[tuple[int | None, ...], list[Any]] = {}
        self._assign_variables = False  # beside the states of their seed generators
        kinds = {type(layer).__name__ for layer in _with_those_inside(self._layers)}
        if received := sorted(kinds.intersection(_OF_LABELS_TOO)):
            raise UserError(
                "Expected layers that change images alone; cskd_tf.methods has Mixup and CutMix, which mix labels too. "
                f"Received: {received}"
            )

    def __call__(self, images: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        graphs = self._graphs_of(tuple(images.shape[1:]))

        def changed(image_and_seed):
            if len(graphs) == 1:
                return graphs[0](*image_and_seed)
            seed = tf.random.experimental.stateless_fold_in(image_and_seed[1], -1)
            choice = tf.random.stateless_uniform([], seed, maxval=len(graphs), dtype=tf.int32)
            return tf.switch_case(choice, [lambda graph=graph: graph(*image_and_seed) for graph in graphs])

        spec = tf.TensorSpec(self.output_shape(images.shape[1:]), tf.float32)
        return tf.map_fn(changed, (images, seeds), fn_output_signature=spec)

    def output_shape(self, shape: Sequence[int | None]) -> tuple[int | None, ...]:
        """`(H, W, C)` of what becomes of images `[n, *shape]`. Errors as of a call."""
        return tuple(self._graphs_of(tuple(shape))[0].output_shapes)

    def _graphs_of(self, shape: tuple[int | None, ...]) -> list[Any]:
        """The layers as functions of one image and its seed: one, or `_CHOICES` where they choose in Python."""
        if shape not in self._graphs:
            state = random.getstate()
            try:
                with tf.init_scope():  # outside of the pipeline's graph, for any other to call them
                    self._graphs[shape] = self._traced(shape)
            except UserError:
                raise
            except Exception as error:  # whatever layers raise
                # Between where TensorFlow says it was and what Keras called it with.
                message = re.sub(r"\x1b\[\d*m", "", str(error)).split("Arguments received by")[0].strip()
                message = message.rpartition("\n")[2].strip()
                raise UserError(
                    f"Expected Keras layers that take images of shape {shape}; keras.layers.Resizing makes all images "
                    "of one size. "
                    f"Received: {[layer.name for layer in self._layers]}, {type(error).__name__}: {message}"
                ) from error
            finally:
                random.setstate(state)
        return self._graphs[shape]

    def _traced(self, shape: tuple[int | None, ...]) -> list[Any]:
        images: Any = keras.KerasTensor((1, *shape))
        for layer in self._layers:
            images = layer(images)  # which builds it
        graphs: list[Any] = []
        chosen_in_python = True  # until the first has shown that it is not
        while not graphs or (chosen_in_python and len(graphs) < _CHOICES):
            random.seed(len(graphs))
            before = random.getstate()
            specs = tf.TensorSpec(shape, tf.float32), tf.TensorSpec([2], tf.int32)
            graph = tf.function(self._one_image).get_concrete_function(*specs)
            chosen_in_python = random.getstate() != before
            names = [layer.name for layer in self._layers]
            if self._assign_variables:
                raise _with_state(names, "variables that they assign")
            _refuse_state(graph, names=names)
            graphs.append(graph)
        return graphs

    def _one_image(self, image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        weights = {id(weight) for layer in self._layers for weight in layer.weights}
        others = {id(variable): variable for layer in self._layers for variable in layer.variables}
        states = [variable for key, variable in others.items() if key not in weights]  # of seed generators
        values = [tf.random.experimental.stateless_fold_in(seed, number) for number, _ in enumerate(states)]
        images = image[None]
        mapping = list(zip(states, values, strict=True))
        with keras.StatelessScope(state_mapping=mapping, initialize_variables=False) as scope:
            for layer in self._layers:
                images = layer(images, training=True)
        self._assign_variables = bool(set(scope.state_mapping) - {id(state) for state in states})
        return tf.cast(images[0], tf.float32)


class ImageFunction:
    """A function of a batch of images alone as a transform; it must not draw random numbers.

    Example:
        >>> ImageFunction(lambda images: images[:, ::-1])(tf.constant([[[[1.0]], [[2.0]]]]), None).numpy().ravel()
        array([2., 1.], dtype=float32)

    Args:
        function: float32 `[n, H, W, C]` to images.

    Raises:
        UserError: when images are first seen, random numbers that do not follow from a seed.
    """

    def __init__(self, function: Callable[[tf.Tensor], tf.Tensor]):
        self._function = function

    def __call__(self, images: tf.Tensor, seeds: tf.Tensor | None = None) -> tf.Tensor:
        graph = tf.function(self._function).get_concrete_function(tf.TensorSpec([None, *images.shape[1:]], tf.float32))
        _refuse_state(graph, names=[getattr(self._function, "__name__", type(self._function).__name__)])
        return graph(images)


def as_transform(augment: Any) -> Transform | None:
    """What `augment=` takes, as a transform.

    Example:
        >>> [type(as_transform(given)).__name__ for given in (keras.layers.RandomFlip(), lambda images: images, None)]
        ['KerasLayers', 'ImageFunction', 'NoneType']

    Args:
        augment: a Keras layer; a transform, which is a function of images and seeds; a function of images alone; a list
            of these, applied one after the other; or None.

    Raises:
        UserError: anything else.
    """
    if isinstance(augment, keras.layers.Layer):
        return KerasLayers(augment)
    if isinstance(augment, (list, tuple)):
        if all(isinstance(each, keras.layers.Layer) for each in augment):
            return KerasLayers(augment)
        transforms = [as_transform(each) for each in augment]
        return Compose([transform for transform in transforms if transform is not None])
    if augment is None or (callable(augment) and _takes_seeds(augment)):
        return augment
    if not callable(augment):
        raise UserError(
            "Expected a Keras layer, a function of images and seeds, a function of images, or a list of these. "
            f"Received: {augment!r}"
        )
    return ImageFunction(augment)


def _takes_seeds(function: Callable) -> bool:
    """Whether it is a transform rather than a function of images alone."""
    parameters = inspect.signature(function).parameters
    needed = [parameter for parameter in parameters.values() if parameter.default is parameter.empty]
    return "seeds" in parameters or len(needed) > 1


def _refuse_state(graph: Any, *, names: Sequence[str]) -> None:
    """Refuses what draws random numbers that follow from no seed, or keeps anything else between two images."""
    definition = graph.graph.as_graph_def()
    nodes = [*definition.node, *(node for function in definition.library.function for node in function.node_def)]
    if found := sorted({node.op for node in nodes if _WITH_STATE.match(node.op)}):
        raise _with_state(names, ", ".join(found))


def _with_state(names: Sequence[str], found: str) -> UserError:
    return UserError(
        "Expected an augmentation whose randomness follows from seeds: layers that draw from their "
        "keras.random.SeedGenerator, or a function of images and seeds that draws by tf.random.stateless_uniform and "
        f"its kin. Received: {', '.join(names)}, with {found}"
    )


def _with_those_inside(layers: Sequence[keras.layers.Layer]) -> Iterator[keras.layers.Layer]:
    for layer in layers:
        yield layer
        yield from _with_those_inside(getattr(layer, "layers", ()))


def check_layers(descriptions: Sequence[Mapping[str, Any]]) -> None:
    """Refuses layers of a config whose names or arguments there are not, without building any.

    Args:
        descriptions: one mapping per layer: `name`, one of `LAYERS`, and its keyword arguments.

    Raises:
        UserError: an unknown layer or argument (the known ones are listed), a missing one, or another range of pixels.
    """
    if not isinstance(descriptions, (list, tuple)) or not all(isinstance(each, Mapping) for each in descriptions):
        raise UserError(
            'Expected a list with a mapping for each Keras layer, as [{"name": "RandAugment", "num_ops": 2}] or, in '
            f'Python, ({{"name": "RandAugment"}},) with its comma. Received: data.augment.layers={descriptions!r}'
        )
    for description in descriptions:
        arguments = dict(description)
        name = arguments.pop("name", None)
        if not isinstance(name, str) or name not in LAYERS:
            raise UserError(f"Unknown layer; expected one of Keras' {list(LAYERS)}. Received: name={name!r}")
        parameters = dict(inspect.signature(LAYERS[name]).parameters)
        for key in ("kwargs", "name", "seed", "data_format", "dtype"):
            parameters.pop(key, None)
        if unknown := sorted(set(arguments) - set(parameters)):
            raise UserError(f"Unknown argument of {name}; expected some of {list(parameters)}. Received: {unknown}")
        needed = {key for key, parameter in parameters.items() if parameter.default is parameter.empty}
        if missing := sorted(needed - set(arguments)):
            raise UserError(f"Expected {name} with {missing}. Received: {dict(description)}")
        if arguments.get("value_range", _VALUE_RANGE) not in (_VALUE_RANGE, list(_VALUE_RANGE)):
            raise UserError(
                f"Expected {name} with value_range={_VALUE_RANGE}: layers come before pixels are normalised. "
                f"Received: value_range={arguments['value_range']}"
            )


def build_layers(descriptions: Sequence[Mapping[str, Any]]) -> KerasLayers:
    """The layers of a config as a transform.

    Example:
        >>> build_layers([{"name": "RandomErasing", "factor": 0.5}]).output_shape((8, 8, 3))
        (8, 8, 3)

    Args:
        descriptions: as for `check_layers`, which is called first.

    Raises:
        UserError: as of `check_layers`, or arguments that a layer does not take.
    """
    check_layers(descriptions)
    layers = []
    for description in descriptions:
        arguments = dict(description)
        name = arguments.pop("name")
        taken = inspect.signature(LAYERS[name]).parameters
        # The seed is replaced; without one, Keras would draw one from Python's random.
        ours = {"value_range": _VALUE_RANGE, "seed": 0}
        arguments |= {key: value for key, value in ours.items() if key in taken}
        try:
            layers.append(LAYERS[name](**arguments, data_format="channels_last", dtype="float32"))
        except Exception as error:  # whatever Keras raises
            message = next(iter(str(error).splitlines()), "")
            raise UserError(
                f"Expected arguments that keras.layers.{name} takes. Received: {dict(description)}. {message}"
            ) from error
    return KerasLayers(layers)
