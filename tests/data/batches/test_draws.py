"""That augmentation draws anew: without it training loses what augmentation is for, and only accuracy would tell."""

import itertools

import numpy as np
import tensorflow as tf

from cskd_tf.data import Needs
from tests.data.batches.test_pipeline import SIZE, batches


def noise(images, seeds):
    return images + tf.cast(seeds[:, :1, None, None], tf.float32)


def test_each_epoch_augments_an_image_anew():
    (one, _), (two, _) = batches(batch_size=SIZE, needs=Needs(extras=("index",)), epochs=2, augment=noise)
    first, second = (batch["image"].numpy()[np.argsort(batch["index"])] for batch in (one, two))
    assert (first != second).any(axis=(1, 2, 3)).all()


def test_each_step_augments_adjacent_pairs_anew():
    """Which have no epochs: an image may stand twice in one batch."""
    needs = Needs(pairs_adjacent=True)
    seen = [batch["image"].numpy() for batch, _ in batches(needs=needs, augment=lambda x, s: noise(0 * x, s))]
    assert all((one != other).all() for one, other in itertools.pairwise(seen))
