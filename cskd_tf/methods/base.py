"""What a method is: one of three kinds, which a list may hold together.

`Mixing` (mixing.py) changes images and targets in the pipeline, `Head` replaces the network's classifier, `Method` adds
to the targets and to the loss. `Composition` is what a list of them amounts to. All hooks are optional.
"""

import dataclasses
import inspect
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import keras
import tensorflow as tf

from cskd_tf.data.batches.views import IMAGE, check_view
from cskd_tf.errors import UserError
from cskd_tf.methods.ability import Ability
from cskd_tf.networks.features import Parts

if TYPE_CHECKING:
    from cskd_tf.methods.composition import Composition

BatchNormMode = Literal["train", "train_no_update", "inference"]
BATCH_NORM_MODES = get_args(BatchNormMode)


@dataclasses.dataclass(frozen=True)
class View:
    """One run of the network on one version of each image.

    Args:
        name: `"image"` (the image, augmented), `"partner"` (another image of its class, augmented), `"partner_2"` and
            so on (further ones), `"second_view"` (the image, augmented once more), `"clean"` (as at evaluation) or
            `"previous"` (the image that came a batch earlier, augmented once more).
        gradient: whether gradients flow through this run.
        batch_norm: `"train"` normalises by the batch and updates the running statistics, `"train_no_update"`
            normalises by the batch and leaves them, `"inference"` uses them.
        labelled: whether it takes cross-entropy with the labels, as `"image"` always does: the term `term_name`.

    Raises:
        UserError: an unknown name or mode, or a labelled view without gradients.
    """

    name: str
    gradient: bool = False
    batch_norm: BatchNormMode = "train"
    labelled: bool = False

    def __post_init__(self):
        check_view(self.name)
        if self.batch_norm not in BATCH_NORM_MODES:
            raise UserError(
                f"Expected batch_norm to be one of {BATCH_NORM_MODES}. Received: batch_norm={self.batch_norm!r}"
            )
        if self.labelled and not self.gradient:
            raise UserError(f"Expected a labelled view to have gradients. Received: {self}")

    @property
    def term_name(self) -> str:
        """Of its cross-entropy.

        Example:
            >>> View("second_view", gradient=True, labelled=True).term_name
            'second_view_cross_entropy'
        """
        return "cross_entropy" if self.name == IMAGE else f"{self.name}_cross_entropy"


class Attachable(Ability, keras.layers.Layer):
    """What `Head` and `Method` share: they may keep something for the network that they train.

    A Keras layer, in float32, only so that Keras tracks and saves what it creates.

    Attributes:
        whole_batch: whether a statistic of the whole batch enters the loss of each image, so that the batch cannot be
            computed in parts. Rows of one pair (`pairs_adjacent`) are in one part, and no reason.
        one_label: whether it reads each image's label, so that images may not carry several, mixed or soft.
    """

    whole_batch: bool = False
    one_label: bool = False

    @property
    def untracked_variables(self) -> Sequence[keras.Variable]:
        """What it holds in memory beside its own `variables`: a teacher, or a copy of the network."""
        return ()

    def __init__(self, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32", "autocast": False})
        self._network: weakref.ref | None = None
        self.built = True  # nothing waits for an input shape; what needs the network is made in attach()

    def __setattr__(self, name: str, value: Any) -> None:
        own = name in inspect.signature(type(self)).parameters and not hasattr(keras.layers.Layer, name)
        if own and getattr(self, "_traced", False):
            raise UserError(
                f"Expected arguments of {type(self).__name__} to stay what they are once it trains a network: its step "
                "is traced with them, and they are saved. A new method, in a new SelfDistiller around the same "
                f"network, has others; what moves is a keras.Variable of a method. Received: {name}={value!r}"
            )
        super().__setattr__(name, value)

    def refuses(self, composition: "Composition") -> str | None:
        """Why this method cannot work in a list of methods, as a sentence that says what was expected; None: it can."""
        return None

    def attach(self, network: keras.Model, *, parts: Parts, num_examples: int | None = None) -> None:
        """Called by `SelfDistiller` when it is built: check the network, create what needs it or the number of images.

        A method that keeps something for this network alone calls `self.bind(network)`; it is then attached once, and
        refused beside another network.
        """

    def note_traced(self) -> None:
        """Called by a training step: from now on what it computes is fixed."""
        self._traced = True

    def bind(self, network: keras.Model) -> None:
        """Says that what this method keeps belongs to `network`."""
        self._network = weakref.ref(network)

    def attach_once(self, network: keras.Model, *, parts: Parts, num_examples: int | None) -> None:
        """As `attach`, but not again to the same network, or what a method owns would start anew.

        Raises:
            UserError: the method keeps something for another network.
        """
        if self._network is None:
            self.attach(network, parts=parts, num_examples=num_examples)
        elif self._network() is not network:
            raise UserError(
                f"Expected methods that no other network has: {type(self).__name__} keeps something for its own. "
                "Make new ones. Received: a method of another network"
            )


class Head(Attachable):
    """Replaces the logits of the network's classifier by others.

    `outputs` are those of one view: `logits` `[B, C]`, `embedding` `[B, D]` and, where the network has them, `stages`.
    """

    def logits(self, outputs: dict, *, training: bool = False) -> tf.Tensor:
        """The logits `[B, C]` that inference sees, and in `training` the methods' terms of every view."""
        return outputs["logits"]

    def labelled_logits(self, outputs: dict, labels: tf.Tensor) -> tf.Tensor:
        """The logits of the cross-entropy with the labels, int `[B]`; classes may be added behind the C.

        Called in training alone, for each labelled view once per step, or per part of one that accumulates gradients;
        a head whose state moves, here and before it is used, says `whole_batch`, which refuses parts.
        """
        return self.logits(outputs, training=True)

    def call(self, outputs: dict, training: bool = False):
        return self.logits(outputs, training=training)


class Method(Attachable):
    """One paper's addition to cross-entropy. A subclass overrides the hooks it needs and nothing else.

    In the hooks, `batch` is the dictionary from the pipeline (each view's images `[B, H, W, C]`, the extras, and
    `"label"` int `[B]`), and `outputs[view]` holds `logits` `[B, C]`, `embedding` `[B, D]` and, where the network has
    them, `stages`; `outputs["image"]` the `targets` `[B, C]` of its cross-entropy too.

    Attributes:
        views: the `View`s that `terms` and `after_step` read, beside `"image"`, which is always there.
        extras: other batch keys it needs, int64 `[B]`: `"index"`, which training image this is, `"position"`, how many
            images the run has shown before it, and `"previous_position"`, the same of the view `"previous"`.
        pairs_adjacent: the batch is made of pairs of one class: image, its partner, image, its partner.
        term_names: the keys that `terms` returns, as they appear in the logs.
        hard_weight: the share of the cross-entropy of labelled views that it leaves; multiplied over the list.
        follows_epochs: whether it must be told, by `on_epoch_begin`, which epoch it is.
        largest_batch: of how many images over all replicas a batch may be at most; None: of any number.
    """

    views: Sequence[View] = ()
    extras: Sequence[str] = ()
    pairs_adjacent: bool = False
    term_names: Sequence[str] = ()
    hard_weight: float = 1.0
    follows_epochs: bool = False
    largest_batch: int | None = None

    def on_epoch_begin(self, epoch: int, *, epochs: int) -> None:
        """Called before each epoch, `epoch` from 0. What changes here must be a `keras.Variable`."""

    @property
    def epoch_state(self) -> Sequence[keras.Variable]:
        """What `on_epoch_begin` sets and this layer does not save: a run that goes on within an epoch needs it too."""
        return ()

    def targets(self, batch: dict, targets):
        """Soft targets `[B, C]` in, soft targets `[B, C]` out, before the cross-entropy."""
        return targets

    def terms(self, batch: dict, outputs: dict, targets) -> dict[str, Any]:
        """Named float32 vectors `[B]`, weighted as they enter the loss. `SelfDistiller` alone averages."""
        return {}

    def after_step(self, batch: dict, outputs: dict) -> None:
        """Called after the optimiser's update."""


class Untracked:
    """Holds what is neither trained nor saved with the method that uses it.

    Args:
        value: a network, a layer or variables.
    """

    def __init__(self, value: Any):
        self.value = value


def check_embedding(parts: Parts, *, method: Attachable) -> None:
    """Raises UserError where the network's embedding was not found."""
    if parts.embedding is None:
        raise UserError(
            f"Expected a network whose embedding is found, for {type(method).__name__}: what a last dense layer reads, "
            "or SelfDistiller(embedding_layer=...). Received: a network without one"
        )


def class_vectors(parts: Parts, *, method: Attachable) -> Callable[[], tf.Tensor]:
    """Reads the network's class vectors, float32 `[D, C]`, for a method that has no use for their bias: it is frozen.

    Raises:
        UserError: the layer that holds them was not found.
    """
    layer = parts.classifier
    if layer is None or not hasattr(layer, "kernel") or layer.kernel.shape[-1] != parts.logits.shape[-1]:
        raise UserError(
            f"Expected a network whose last dense layer is its classifier, for {type(method).__name__}, or "
            f"SelfDistiller(embedding_layer=...). Received: {layer}"
        )
    if getattr(layer, "bias", None) is not None:
        layer.bias.trainable = False  # it would get no gradient
    classes = layer.kernel.shape[-1]
    return lambda: tf.reshape(tf.cast(tf.convert_to_tensor(layer.kernel), tf.float32), (-1, classes))
