"""What a list of methods amounts to: which views, which head, which terms; and whether it can work at all."""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

from cskd_tf.data.batches.views import IMAGE, Needs
from cskd_tf.errors import UserError
from cskd_tf.methods.base import Attachable, Head, Method, View
from cskd_tf.methods.mixing import Mixing


class Composition:
    """A list of methods that work together, in their order.

    Example:
        >>> composition = Composition([cskd_tf.methods.Mixup(), cskd_tf.methods.CSKD()])
        >>> [view.name for view in composition.views], composition.term_names, composition.head
        (['image', 'partner'], ['cross_entropy', 'class_wise'], None)

    Args:
        methods: of `cskd_tf.methods`; empty for plain cross-entropy.

    Attributes:
        mixing: those that change images in the pipeline.
        head: the one that replaces the classifier; None: the network's own.
        terms: those that add to the targets and the loss.
        views: all views that the methods ask for, each once, `"image"` first.
        term_names: of the loss, as in the logs.
        hard_weight: the share of the cross-entropy of labelled views that is left.

    Raises:
        UserError: not a list of methods, one method twice, two heads, mixing of images that come in pairs, or of labels
            that a method reads, one view in two batch-norm modes, two terms of one name, or what a method itself
            refuses.
    """

    def __init__(self, methods: Sequence[Mixing | Head | Method] = ()):
        if not isinstance(methods, (list, tuple)):
            raise UserError(f"Expected methods to be a list of cskd_tf.methods. Received: {methods!r}")
        for method in methods:
            if not isinstance(method, (Mixing, Head, Method)):
                raise UserError(f"Expected methods to be a list of cskd_tf.methods. Received: {method!r}")
        self.names = [type(method).__name__ for method in methods]
        self.mixing = [method for method in methods if isinstance(method, Mixing)]
        self.attachable = [method for method in methods if isinstance(method, Attachable)]
        self.terms = [method for method in methods if isinstance(method, Method)]
        heads = [method for method in methods if isinstance(method, Head)]
        self.head = heads[0] if heads else None
        self.hard_weight = math.prod(method.hard_weight for method in self.terms)
        for name in self.names:
            if self.names.count(name) > 1:
                raise UserError(f"Expected each method at most once. Received: {self.names}")
        if len(heads) > 1:
            raise UserError(
                "Expected at most one method that replaces the classifier head. "
                f"Received: {[type(head).__name__ for head in heads]}"
            )
        self.views = tuple(_merged_views(self.terms))
        self.term_names = [view.term_name for view in self.views if view.labelled]
        self.term_names += [name for method in self.terms for name in method.term_names]
        self._check()

    def _check(self) -> None:
        paired = [type(method).__name__ for method in self.terms if method.pairs_adjacent]
        if self.mixing and paired:
            raise UserError(
                "Expected pairs of a batch to stay pairs of one class; methods that mix images would tear them apart. "
                f"Received: {paired} in pairs, {self.mixing_names} mixing"
            )
        for method in self.attachable:
            if self.mixes_labels and method.one_label:
                name = type(method).__name__
                raise UserError(f"Expected images of one label beside {name}, which reads it. Received: {self.names}")
            if reason := method.refuses(self):
                raise UserError(f"{reason} Received: {self.names}")
        names = ["loss", *self.term_names]
        if len(set(names)) < len(names):
            raise UserError(f"Expected distinct names of loss terms. Received: {names}")

    def unable(self, ability: str) -> list[str]:
        """Names of the methods that are not what one of `Ability`'s attributes says, such as `"per_position"`."""
        return [type(method).__name__ for method in (*self.mixing, *self.attachable) if not getattr(method, ability)]

    @property
    def reading_class(self) -> list[str]:
        """Names of the methods that read which class each image is of."""
        reading = (method for method in self.attachable if method.one_label or getattr(method, "pairs_adjacent", False))
        return [type(method).__name__ for method in reading]

    @property
    def mixing_names(self) -> list[str]:
        """Of the methods that change images."""
        return [type(method).__name__ for method in self.mixing]

    @property
    def mixes_labels(self) -> bool:
        """Whether images may carry more than one label."""
        return any(method.mixes_labels for method in self.mixing)

    @property
    def needs(self) -> Needs:
        """What the pipeline has to supply."""
        return Needs(
            views=tuple(view.name for view in self.views if view.name != IMAGE),
            extras=tuple(dict.fromkeys(extra for method in self.terms for extra in method.extras)),
            pairs_adjacent=any(method.pairs_adjacent for method in self.terms),
            mixing=tuple(self.mixing),
            largest_batch=min((size for method in self.terms if (size := method.largest_batch)), default=None),
        )

    @property
    def needing_whole_batches(self) -> list[str]:
        """Names of the methods whose loss of an image depends on the rest of the batch."""
        return [type(method).__name__ for method in self.attachable if method.whole_batch]

    @property
    def rows_together(self) -> int:
        """How many rows of a batch have to stay beside each other."""
        return 2 if self.needs.pairs_adjacent else 1

    @property
    def following_epochs(self) -> list[str]:
        """Names of the methods that must be told which epoch it is."""
        return [type(method).__name__ for method in self.terms if method.follows_epochs]

    def terms_of(self, method: Method, batch: dict, outputs: dict, targets) -> dict[str, Any]:
        """The terms of one method, under the names that it has told."""
        terms = method.terms(batch, outputs, targets)
        if set(terms) != set(method.term_names):
            raise UserError(
                f"Expected {type(method).__name__}.terms to return its term_names {sorted(method.term_names)}. "
                f"Received: {sorted(terms)}"
            )
        return terms


def _merged_views(methods: Sequence[Method]) -> Iterator[View]:
    """All views, each once, `"image"` first, then in the order of the list.

    A view asked for twice is run once, with gradients, and with cross-entropy, if either method wants them.
    """
    merged = {IMAGE: (View(IMAGE, gradient=True, labelled=True), "SelfDistiller")}
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
    return (view for view, _ in merged.values())
