"""The views of an image: their names, the streams of their randomness, and which of them methods need."""

import dataclasses
import re
from typing import Any, Protocol

import tensorflow as tf
from absl import logging

from cskd_tf.errors import UserError

IMAGE, PARTNER, SECOND_VIEW, CLEAN, PREVIOUS = "image", "partner", "second_view", "clean", "previous"
NAMES = (IMAGE, PARTNER, SECOND_VIEW, CLEAN, PREVIOUS)
INDEX, POSITION, PREVIOUS_POSITION = "index", "position", "previous_position"
EXTRAS = (INDEX, POSITION, PREVIOUS_POSITION)
# Streams of randomness of each view's augmentation. They are part of what a seed means: renumbering changes every run.
_STREAMS = {IMAGE: 10, PARTNER: 11, SECOND_VIEW: 12, CLEAN: 13, PREVIOUS: 14}
_FURTHER_PARTNERS = 18  # plus the number of the partner, from 2


def partner_views(count: int) -> tuple[str, ...]:
    """Names of the views of `count` partners.

    Example:
        >>> partner_views(3)
        ('partner', 'partner_2', 'partner_3')
    """
    return (PARTNER, *(f"{PARTNER}_{number}" for number in range(2, count + 1)))


def partner_number(view: str) -> int:
    """Which partner a view shows; 0 where it shows none.

    Example:
        >>> partner_number("partner"), partner_number("partner_2"), partner_number("clean")
        (1, 2, 0)
    """
    match = re.fullmatch(rf"{PARTNER}(?:_([2-9]|[1-9][0-9]+))?", view)
    return int(match[1] or 1) if match else 0


def is_view(name: str) -> bool:
    """Whether a key of a batch holds images.

    Example:
        >>> is_view("partner_3"), is_view("index"), is_view("targets")
        (True, False, False)
    """
    return name in NAMES or partner_number(name) > 0


def check_view(name: str) -> str:
    """The name as given.

    Raises:
        UserError: no view is called that.
    """
    if not is_view(name):
        raise UserError(f"Unknown view; expected one of {NAMES}, or partner_2 and so on. Received: name={name!r}")
    return name


def stream(view: str) -> int:
    """The number that tells the random draws of a view's augmentation from those of other views.

    Example:
        >>> stream("image"), stream("partner"), stream("partner_2")
        (10, 11, 20)
    """
    return _STREAMS.get(view) or _FURTHER_PARTNERS + partner_number(view)


class Mixer(Protocol):
    """What changes images and targets in the pipeline, as `cskd_tf.methods.Mixing` does; `seed` is one of a step."""

    def others(self, count: int | tf.Tensor, *, seed: tf.Tensor) -> tf.Tensor:
        """int32 `[count]`: for each row of a batch the row that `mix` takes in beside it; itself where none is."""

    def mix(self, batch: dict[str, Any], targets: tf.Tensor, *, seed: tf.Tensor) -> tuple[dict[str, Any], tf.Tensor]:
        """A batch of views `[B, H, W, C]` and its targets `[B, C]`, both mixed."""


@dataclasses.dataclass(frozen=True)
class Needs:
    """What the methods of a model need of the pipeline; `SelfDistiller.data_options` hands it on.

    Example:
        >>> images, needs = np.zeros([4, 8, 8, 1], np.uint8), Needs(views=("partner", "second_view"), extras=("index",))
        >>> data = cskd_tf.data.paired_dataset(images, [0, 0, 1, 1], batch_size=4, seed=0, needs=needs)
        >>> sorted(data.element_spec[0])
        ['image', 'index', 'partner', 'second_view']

    Attributes:
        views: which views a batch has beside the image: `"partner"`, `"partner_2"` and so on (further partners, drawn
            independently), `"second_view"` (the image with another augmentation), `"clean"` (as at evaluation),
            `"previous"` (the image that came one batch size of images earlier, with another augmentation).
        extras: what else it has, int64 `[B]`: `"index"`, the number of each image in the training set; `"position"`,
            how many images the run has shown before it; `"previous_position"`, the same of the view `"previous"`, below
            0 as long as nothing has come before.
        pairs_adjacent: whether a batch is image, partner, image, partner; the partners count as images, so that an
            epoch still shows N images, half of them as partners.
        mixing: what changes whole batches and their targets, float32 `[B, C]`, one after the other. The batch then has
            the last targets under `"targets"`. C is the number of the network's classes in `fit`, and of the data's
            classes where batches are read by hand.
        largest_batch: of how many images a batch may be at most; None: of any number.

    Raises:
        UserError: an unknown view or extra.
    """

    views: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()
    pairs_adjacent: bool = False
    mixing: tuple[Mixer, ...] = ()
    largest_batch: int | None = None

    def __post_init__(self):
        names = [name for name in NAMES if name != IMAGE]
        unknown = [view for view in self.views if view == IMAGE or not is_view(view)]
        if unknown:
            raise UserError(f"Unknown views; expected some of {names}. Received: {unknown}")
        if unknown := [extra for extra in self.extras if extra not in EXTRAS]:
            raise UserError(f"Unknown extras; expected some of {list(EXTRAS)}. Received: {unknown}")


@dataclasses.dataclass(frozen=True)
class Distribution:
    """Among whom each batch is split, and which part of it to make here.

    Attributes:
        num_replicas: among how many replicas each batch will be split.
        worker: which part of every batch to make, from 0, where several workers make one part each (`InputContext`'s
            `input_pipeline_id`). Together the parts are the batch that a single worker makes (but for the last bits of
            pixels, where files of different sizes are resampled together).
        num_workers: how many workers there are.
        static_shapes: leave out a smaller last batch, where all batches need one size (TPU).
        parts: in how many parts each replica computes its rows (`gradient_accumulation_steps`).

    Raises:
        UserError: a worker that is not from 0 to `num_workers - 1`.
    """

    num_replicas: int = 1
    worker: int = 0
    num_workers: int = 1
    static_shapes: bool = False
    parts: int = 1

    def __post_init__(self):
        if not 0 <= self.worker < self.num_workers:
            raise UserError(f"Expected worker from 0 to {self.num_workers - 1}. Received: worker={self.worker}")


def warn_of_equal_views(needs: Needs, *, augmented: bool) -> None:
    """Says so where a method compares two views of each image, and nothing tells them apart."""
    if SECOND_VIEW in needs.views and not augmented:
        logging.warning(
            "The second view of each image is the image once more, and teaches nothing unless the network "
            "augments: give augment=, such as keras.layers.RandomTranslation(0.1, 0.1)"
        )
