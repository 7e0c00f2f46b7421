"""What a method is: the hooks that `SelfDistiller` and the input pipeline call, all optional."""

import dataclasses
import re
import weakref
from collections.abc import Callable, Sequence
from typing import Any, Literal

import keras
import tensorflow as tf

from cskd_tf.data.batches.views import Needs
from cskd_tf.errors import UserError

BATCH_NORM_MODES = ("train", "train_no_update", "inference")
VIEW_NAMES = ("image", "partner", "second_view", "clean")


@dataclasses.dataclass(frozen=True)
class View:
    """One run of the network on one version of each image.

    Args:
        name: `"image"` (the image, augmented), `"partner"` (another image of its class, augmented), `"partner_2"` and
            so on (further ones), `"second_view"` (the image, augmented once more) or `"clean"` (as at evaluation).
        gradient: whether gradients flow through this run.
        batch_norm: `"train"` normalises by the batch and updates the running statistics, `"train_no_update"`
            normalises by the batch and leaves them, `"inference"` uses them.
        labelled: whether it takes cross-entropy with the labels, as `"image"` always does: the term `term_name`.
    """

    name: str
    gradient: bool = False
    batch_norm: Literal["train", "train_no_update", "inference"] = "train"
    labelled: bool = False

    def __post_init__(self):
        if self.name not in VIEW_NAMES and not re.fullmatch(r"partner_([2-9]|[1-9]\d+)", self.name):
            raise UserError(f"Unknown view; expected one of {VIEW_NAMES}. Received: name={self.name!r}")
        if self.batch_norm not in BATCH_NORM_MODES:
            raise UserError(
                f"Expected batch_norm to be one of {BATCH_NORM_MODES}. Received: batch_norm={self.batch_norm!r}"
            )
        if self.labelled and not self.gradient:
            raise UserError(f"Expected a labelled view to have gradients. Received: {self}")

    @property
    def term_name(self) -> str:
        """Of its cross-entropy. Example: `View("second_view", ...)` has `second_view_cross_entropy`."""
        return "cross_entropy" if self.name == "image" else f"{self.name}_cross_entropy"


def partner_views(count: int) -> list[str]:
    """Names of the views of `count` partners. Example: 3 are `partner`, `partner_2` and `partner_3`."""
    return ["partner", *(f"partner_{number}" for number in range(2, count + 1))]


class Method(keras.layers.Layer):
    """One paper's addition to cross-entropy. A subclass overrides the hooks it needs and nothing else.

    It is a Keras layer, in float32, only so that Keras tracks and saves what it creates. In the hooks, `batch`
    is the dictionary from the pipeline (each view's images `[B, H, W, C]`, the extras, and `"label"` int `[B]`), and
    `outputs[view]` holds `logits` `[B, C]`, `embedding` `[B, D]` and, where the network has them, `stages`.

    Attributes:
        views: the `View`s that `terms` and `after_step` read, beside `"image"`, which is always there.
        extras: other batch keys it needs: `"index"`, int64 `[B]`, which training image this is.
        pairs_adjacent: the batch is made of pairs of one class: image, its partner, image, its partner.
        term_names: the keys that `terms` returns, as they appear in the logs.
        hard_weight: the share of the cross-entropy of labelled views that it leaves; multiplied over the list.
        mixes_labels: whether its `mix` leaves images with more than one label.
        mixes_all: whether its `mix` leaves no image as it is.
    """

    views: Sequence[View] = ()
    extras: Sequence[str] = ()
    pairs_adjacent: bool = False
    term_names: Sequence[str] = ()
    hard_weight: float = 1.0
    mixes_labels: bool = False
    mixes_all: bool = False

    def __init__(self, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32", "autocast": False})
        self.attached_to: weakref.ref | None = None  # the network, set by SelfDistiller
        self.built = True  # nothing waits for an input shape; what needs the network is made in attach()

    def refuses(self, methods: Sequence["Method"]) -> str | None:
        """Why this method cannot work in a list of methods, as a sentence that says what was expected; None: it can."""
        return None

    def attach(self, network: keras.Model, *, parts: dict, num_examples: int | None = None) -> None:
        """Called once by `SelfDistiller`: create the variables that need the network or the number of images.

        `parts` describes what the network takes and returns: `image`, `logits` and, where they are found, `embedding`
        and `stages` as tensors of which only the shapes mean something, and `classifier`, the layer that reads the
        embedding.
        """

    def on_epoch_begin(self, epoch: int, *, epochs: int) -> None:
        """Called before each epoch, `epoch` from 0. What changes here must be a `keras.Variable`."""

    def mix(self, batch: dict, targets, *, seed) -> tuple[dict, Any]:
        """In the pipeline, on the global batch: images and soft targets `[B, C]` in, the mixed ones out.

        `seed` is an int32 `[2]`, a function of (seed, epoch, step). A method that other methods may have to tell
        mixed images from clean ones adds a key of its own to `batch`.
        """
        return batch, targets

    def targets(self, batch: dict, targets):
        """Soft targets `[B, C]` in, soft targets `[B, C]` out, before the cross-entropy."""
        return targets

    def scores(self, outputs: dict, *, labels=None, training: bool = False):
        """The logits of one view; a method that replaces the classifier head returns its own.

        With `labels` (int `[B]`, for the cross-entropy of the image itself) state may move and classes may be added;
        without, this is what the terms see of each view in `training`, and inference otherwise.
        """
        return outputs["logits"]

    def call(self, outputs: dict, labels=None, training: bool = False):
        return self.scores(outputs, labels=labels, training=training)

    def terms(self, batch: dict, outputs: dict, targets) -> dict[str, Any]:
        """Named float32 vectors `[B]`, weighted as they enter the loss. `SelfDistiller` alone averages."""
        return {}

    def after_step(self, batch: dict, outputs: dict) -> None:
        """Called after the optimiser's update."""


def mixes_labels(methods: Sequence[Method]) -> bool:
    """Whether images in the list may carry more than one label."""
    return any(method.mixes_labels for method in methods)


def overrides(method: Method, hook: str) -> bool:
    """Whether `method` has its own version of the hook. Example: `overrides(CSKD(), "mix")` is False."""
    return getattr(type(method), hook) is not getattr(Method, hook)


def merge_views(methods: Sequence[Method]) -> tuple[View, ...]:
    """All views that the methods ask for, each once, `"image"` first, then in the order of the list.

    A view asked for twice is run once, with gradients, and with cross-entropy, if either wants them.

    Raises:
        ValueError: two methods want one view in different batch-norm modes.
    """
    merged = {"image": (View("image", gradient=True, labelled=True), "SelfDistiller")}
    for method in methods:
        owner = type(method).__name__
        for view in method.views:
            earlier, first_owner = merged.setdefault(view.name, (view, owner))
            if earlier.batch_norm != view.batch_norm:
                raise UserError(
                    f"{first_owner} and {owner} want the view {view.name!r} in different batch-norm modes. "
                    f"Received: {earlier.batch_norm!r} and {view.batch_norm!r}"
                )
            wanted = {key: getattr(earlier, key) or getattr(view, key) for key in ("gradient", "labelled")}
            merged[view.name] = (dataclasses.replace(earlier, **wanted), first_owner)
    return tuple(view for view, _ in merged.values())


def check_composition(methods: Sequence[Method]) -> None:
    """Refuses lists that cannot work together, before anything is trained.

    Raises:
        ValueError: not a list of methods, one method twice, two heads, mixing of images that come in pairs, one view in
            two batch-norm modes, two terms of one name, or what a method itself refuses.
    """
    for method in methods:
        if not isinstance(method, Method):
            raise UserError(f"Expected methods to be a list of cskd_tf.methods. Received: {method!r}")
    names = [type(method).__name__ for method in methods]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"Expected each method at most once. Received: {names}")
    heads = [type(method).__name__ for method in methods if overrides(method, "scores")]
    if len(heads) > 1:
        raise UserError(f"Expected at most one method that replaces the classifier head. Received: {heads}")
    mixing = [type(method).__name__ for method in methods if overrides(method, "mix")]
    paired = [type(method).__name__ for method in methods if method.pairs_adjacent]
    if mixing and paired:
        raise UserError(
            "Expected pairs of a batch to stay pairs of one class; methods that mix images would tear them apart. "
            f"Received: {paired} in pairs, {mixing} mixing"
        )
    for method in methods:
        if reason := method.refuses(methods):
            raise UserError(f"{reason} Received: {names}")
    terms = ["loss", *term_names(methods)]
    for name in terms:
        if terms.count(name) > 1:
            raise UserError(f"Expected distinct names of loss terms. Received: {terms}")


def term_names(methods: Sequence[Method]) -> list[str]:
    """All terms of the loss. Example: of `[CSKD()]` they are `cross_entropy` and `class_wise`."""
    labelled = [view.term_name for view in merge_views(methods) if view.labelled]
    return [*labelled, *(name for method in methods for name in method.term_names)]


def data_options(methods: Sequence[Method]) -> dict[str, Needs]:
    """What the methods need of the pipeline, as a keyword argument of `cskd_tf.data.paired_dataset`.

    Example: `data_options([CSKD()])` is `{"needs": Needs(views=("partner",))}`.
    """
    needs = Needs(
        views=tuple(view.name for view in merge_views(methods) if view.name != "image"),
        extras=tuple(dict.fromkeys(extra for method in methods for extra in method.extras)),
        pairs_adjacent=any(method.pairs_adjacent for method in methods),
        mixing=tuple(method.mix for method in methods if overrides(method, "mix")),
    )
    return {"needs": needs}


def check_embedding(parts: dict, *, method: Method) -> None:
    """Raises ValueError where the network's embedding was not found."""
    if "embedding" not in parts:
        raise UserError(
            f"Expected a network whose embedding is found, for {type(method).__name__}: what a last dense layer reads, "
            f"or SelfDistiller(embedding_layer=...). Received: a network of {sorted(parts)}"
        )


def class_vectors(parts: dict, *, method: Method) -> Callable[[], tf.Tensor]:
    """Reads the network's class vectors, float32 `[D, C]`, for a method that has no use for their bias: it is frozen.

    Raises:
        ValueError: the layer that holds them was not found.
    """
    layer = parts.get("classifier")
    if layer is None or not hasattr(layer, "kernel") or layer.kernel.shape[-1] != parts["logits"].shape[-1]:
        raise UserError(
            f"Expected a network whose last dense layer is its classifier, for {type(method).__name__}, or "
            f"SelfDistiller(embedding_layer=...). Received: {layer}"
        )
    if getattr(layer, "bias", None) is not None:
        layer.bias.trainable = False  # it would get no gradient
    classes = layer.kernel.shape[-1]
    return lambda: tf.reshape(tf.cast(layer.kernel.value, tf.float32), (-1, classes))
