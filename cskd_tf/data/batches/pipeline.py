"""From indices to batches: `({"image": x, "partner": x', ...}, label)` in tf.data."""

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from absl import logging

from cskd_tf.data.batches import views
from cskd_tf.data.batches.dataset import PairedDataset, SharedDataset
from cskd_tf.data.batches.loading import load_images
from cskd_tf.data.batches.maker import BatchMaker
from cskd_tf.data.batches.pairing import BatchOrder, ClassBuckets, Pairing, count_steps
from cskd_tf.data.batches.views import Distribution, Needs
from cskd_tf.data.batches.weights import check_sample_weight
from cskd_tf.data.images.keras_layers import Augment, as_transform
from cskd_tf.data.images.transforms import Transform
from cskd_tf.data.sources.base import Source
from cskd_tf.data.sources.gathering import indexed
from cskd_tf.data.sources.single_images import name_single_images
from cskd_tf.errors import UserError


def paired_dataset(
    images: Source | npt.ArrayLike | tf.data.Dataset,
    labels: npt.ArrayLike | None = None,
    *,
    batch_size: int,
    seed: int,
    epochs: int = 1,
    first_step: int = 0,
    augment: Augment | None = None,
    clean: Augment | None = None,
    channels: int = 3,
    memory: float = 4.0,
    needs: Needs = Needs(views=(views.PARTNER,)),
    pairing: Pairing = Pairing(),
    distribution: Distribution = Distribution(),
    sample_weight: npt.ArrayLike | None = None,
) -> PairedDataset:
    """Training batches in which every image comes beside another image of its class.

    An epoch shows each image once, in an order and with partners that are a function of (seed, epoch) alone, in
    `ceil(N / batch_size)` batches, the last one as large as what remains. `SelfDistiller.fit(data, epochs=E)` opens it
    at the step that the model is at, so that no epoch comes twice, whatever loop `fit` is called in.

    With pairs in the batch (`needs` of `CSKD(in_batch=True)`) half of each batch are anchors, which come once in two
    epochs, and the other half are partners drawn at random: an epoch shows some images twice and others not at all.

    Example:
        10 images in batches of 4, for 2 epochs.

        >>> images, labels = np.zeros([10, 8, 8, 3], np.uint8), [0, 1] * 5
        >>> data = paired_dataset(images, labels, batch_size=4, seed=0, epochs=2)
        >>> [len(batch["partner"]) for batch, _ in data]
        [4, 4, 2, 4, 4, 2]

    Args:
        images: array `[N, H, W, C]`; or what brings its labels: a source (`ImageFolder`, ...), a `tf.data.Dataset` of
            `(image, label)`, one by one or in batches, or a `keras.utils.PyDataset`. A data set is read once and held
            in memory. If it brings weights, these are the third part of each batch.
        labels: int `[N]`, every class of `range(max + 1)` at least once, or one-hot `[N, C]`; None beside what brings
            them.
        batch_size: images per batch over all replicas, partners not counted, from 1 to N.
        seed: integer; all randomness follows from it.
        epochs: how many epochs there are to read by hand; `fit` reads as many as it trains.
        first_step: how many batches to leave out at the start: their images are not read, and `fit` begins no earlier.
        augment: of every view but `"clean"`, each view by draws of its own: Keras layers, a transform (see
            `cskd_tf.data.images.transforms`), a function of images, or a list of these; without one, pixels pass
            unchanged as float32.
        clean: the same, of the view `"clean"`.
        channels: 3 (colour) or 1 (grey), of the encoded images of a data set.
        memory: GiB that the images of a data set may take.
        needs: what the methods need in a batch.
        pairing: which images and partners come together.
        distribution: among whom each batch is split.
        sample_weight: of each image `[N]`, not below 0: what its loss is multiplied by, as Keras' `sample_weight`. A
            batch then has its weights as a third part. A mixed image has the mixed weight, and targets in proportion to
            what each of its images contributes, so that each counts as its weight says.

    Raises:
        UserError: a batch size or view that does not fit, weights that are none or come twice, or data that cannot be
            used (see `ArraySource`) or that have no end, or take more memory.
    """
    transform, clean_transform = as_transform(augment), as_transform(clean)
    source, brought = indexed(images, labels, memory=memory, channels=channels)
    if brought is not None and sample_weight is not None:
        raise UserError("Expected no sample_weight beside a data set that brings its own weights.")
    check_batches(len(source.labels), batch_size=batch_size, needs=needs, pairing=pairing, distribution=distribution)
    order = BatchOrder(
        ClassBuckets(source.labels, num_classes=len(source.class_names), shards=pairing.shards(distribution)),
        batch_size=batch_size,
        seed=seed,
        pairing=pairing,
        pairs_adjacent=needs.pairs_adjacent,
        static_shapes=distribution.static_shapes,
    )
    weights = sample_weight if brought is None else brought
    maker = BatchMaker(
        source,
        order,
        needs,
        distribution,
        augment=transform,
        clean=clean_transform,
        sample_weight=None if weights is None else check_sample_weight(weights, size=len(source.labels)),
    )
    dataset = PairedDataset(maker, epochs=epochs, first_step=first_step)
    _log_peculiarities(maker)
    return dataset


def evaluation_dataset(source: Source, *, batch_size: int, transform: Transform | None = None) -> tf.data.Dataset:
    """Every image of a source once, in its order, the last batch as large as what remains.

    Example:
        >>> source = cskd_tf.data.ArraySource(np.zeros([3, 8, 8, 1], np.uint8), [0, 1, 1])
        >>> [labels.numpy().tolist() for images, labels in evaluation_dataset(source, batch_size=2)]
        [[0, 1], [1]]

    Args:
        source: any source.
        batch_size: images per batch at most.
        transform: see `cskd_tf.data.images.transforms`; without one, pixels pass unchanged as float32.

    Returns:
        Batches `(images, labels)`: float32 `[b, H, W, C]` and int32 `[b]`.

    Raises:
        UserError: anything but a source.
    """
    if not isinstance(source, Source):
        raise UserError(f"Expected a cskd_tf.data.Source, such as ImageFolder. Received: {type(source).__name__}")
    size = len(source.labels)
    batch_size = min(batch_size, size)
    labels = tf.constant(source.labels)

    def batch_at(step):
        indices = tf.range(step * batch_size, tf.minimum((step + 1) * batch_size, size))
        seeds = tf.zeros([tf.shape(indices)[0], 2], tf.int32)
        return load_images(source, indices, seeds, transform=transform), tf.gather(labels, indices)

    return SharedDataset(tf.data.Dataset.range(-(-size // batch_size)), batch_at)


def check_batches(
    size: int,
    *,
    batch_size: int,
    needs: Needs = Needs(),
    pairing: Pairing = Pairing(),
    distribution: Distribution = Distribution(),
) -> None:
    """Refuses batches in which so many images cannot be dealt out.

    Args:
        size: number of images.
        batch_size: as for `paired_dataset`, like the others.
        needs: whether the batch is made of pairs.
        pairing: whether classes are balanced, or images dealt out among shards.
        distribution: among whom each batch is split.

    Raises:
        UserError: a batch size that does not fit, or needs that exclude each other.
    """
    if isinstance(batch_size, bool) or not isinstance(batch_size, (int, np.integer)) or not 1 <= batch_size <= size:
        raise UserError(f"Expected batch_size from 1 to {size}, the number of images. Received: {batch_size=}")
    if needs.largest_batch is not None and batch_size > needs.largest_batch:
        raise UserError(
            f"Expected batch_size of at most {needs.largest_batch}, the largest_batch of a method, which can be set to "
            f"more. Received: {batch_size=}"
        )
    shards, balanced, pairs_adjacent = pairing.shards(distribution), pairing.balanced, needs.pairs_adjacent
    if shards < 1 or batch_size % shards or [shards > 1, balanced, pairs_adjacent].count(True) > 1:
        raise UserError(
            "Expected shards that divide the batch size, and only one of shards (data.pairing.replica_local), balanced "
            f"classes and adjacent pairs. Received: {shards=}, {batch_size=}, {balanced=}, {pairs_adjacent=}"
        )
    replicas = max(distribution.num_replicas, distribution.num_workers)
    if pairs_adjacent and batch_size % (2 * replicas):
        raise UserError(
            f"Expected a multiple of {2 * replicas} as batch size, for whole pairs on each of {replicas} replica(s). "
            f"Received: {batch_size=}"
        )
    steps = count_steps(size, batch_size=batch_size, pairing=pairing, distribution=distribution)
    in_last_batch = batch_size if pairs_adjacent else min(batch_size, size - (steps - 1) * batch_size)
    if distribution.static_shapes and batch_size % replicas:
        raise UserError(
            f"Expected a multiple of {replicas} as batch size, for parts of one size on each of {replicas} replicas "
            "(TPU). "
            f"Received: {batch_size=}"
        )
    if not pairs_adjacent and in_last_batch < replicas:
        raise UserError(
            f"Expected the last batch of an epoch to have an image for each of {replicas} replicas; choose another "
            f"batch size. Received: batch_size={batch_size}, which leaves {in_last_batch} of {size} images"
        )
    least = in_last_batch // replicas // (2 if pairs_adjacent else 1)  # images or pairs, on the replica with the fewest
    if least < distribution.parts:
        rows = "pairs" if pairs_adjacent else "images"
        raise UserError(
            f"Expected gradient_accumulation_steps of at most {least}: so many {rows} are on a replica in the last "
            f"batch of an epoch, of {in_last_batch} images; another batch size leaves others. "
            f"Received: gradient_accumulation_steps={distribution.parts}, {batch_size=}"
        )


def _log_peculiarities(maker: BatchMaker) -> None:
    """Says which images an epoch leaves out, and which have no other image for a partner."""
    source, order, needs = maker.source, maker.order, maker.needs
    views.warn_of_equal_views(needs, augmented=maker.augment is not None)
    if order.static_shapes and order.size % order.batch_size:
        left_out = order.size - order.steps_per_epoch * order.batch_size
        logging.info("The last %d images of each epoch are left out: static shapes", left_out)
    if needs.pairs_adjacent or any(map(views.partner_number, needs.views)):
        name_single_images(source)
