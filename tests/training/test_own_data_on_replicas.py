"""Weights and augmentation of the user's own train alike on one replica and two, uneven last batches included."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from cskd_tf.data import Distribution, paired_dataset
from cskd_tf.methods import CSKD, Mixup
from cskd_tf.training.distiller import SelfDistiller
from cskd_tf.training.optimizers import SGD

WEIGHTS = np.random.default_rng(3).uniform(0, 3, 22).astype("float32")
CLASS_WEIGHT = {0: 0.5, 2: 3.0}


def pairs(**given):
    """Data that the pipeline makes, the last of 3 batches with 4 images, or 6 where they are pairs."""

    def make(images, labels, model):
        batch_size = 8 if model.composition.needs.pairs_adjacent else 9
        return {"x": paired_dataset(images, labels, batch_size=batch_size, seed=5, **given, **model.data_options)}

    return make


def arrays(images, labels, model):
    return {"x": images, "y": labels, "sample_weight": WEIGHTS, "batch_size": 8, "shuffle": False}


def own_batches(images, labels, model):
    return {"x": tf.data.Dataset.from_tensor_slices((images, labels, WEIGHTS)).batch(8)}


def layers():
    return [keras.layers.RandomFlip(), keras.layers.RandomErasing(1.0, value_range=(0, 1))]


# What is trained with, the data, and further options of fit; the first is not slow.
WAYS = {
    "augmented pairs in the batch, weights of classes": (
        [CSKD(in_batch=True)],
        pairs(augment=layers()),
        {"class_weight": CLASS_WEIGHT},
    ),
    "pairs in the batch, weights of examples": ([CSKD(in_batch=True)], pairs(sample_weight=WEIGHTS), {}),
    "augmented and mixed pairs, weights of classes": (
        [Mixup(), CSKD()],
        pairs(augment=layers()),
        {"class_weight": CLASS_WEIGHT},
    ),
    "arrays, weights of examples": ([], arrays, {}),
    "tf.data, weights of examples": ([], own_batches, {}),
}


def trained(strategy, network, methods, data, options, images_and_labels):
    """Weights before two epochs and after them, and the logs."""
    with strategy.scope():
        keras.utils.set_random_seed(1)
        model = SelfDistiller(network(), [type(method).from_config(method.get_config()) for method in methods])
        model.compile(SGD(0.02, momentum=0.9), weighted_metrics=["accuracy"])
    before = model.network.get_weights()
    history = model.fit(**data(*images_and_labels, model), epochs=2, verbose=0, **options).history
    return before, model.network.get_weights(), history


@pytest.mark.thorough
@pytest.mark.parametrize(
    "way", [way if way.startswith("augmented pairs") else pytest.param(way, marks=pytest.mark.slow) for way in WAYS]
)
def test_two_replicas_train_as_one_does(way, linear_network, images_and_labels, replicas):
    one, two = (trained(replicas(count), linear_network, *WAYS[way], images_and_labels) for count in (1, 2))
    for before, expected, weights in zip(*one[:2], two[1], strict=True):
        np.testing.assert_allclose(weights, expected, rtol=0, atol=1e-6)
        assert np.abs(expected - before).max() > 0.005
    assert one[2].keys() == two[2].keys()
    for name, values in one[2].items():
        np.testing.assert_allclose(two[2][name], values, rtol=1e-5, err_msg=name)


@pytest.mark.thorough
def test_augmented_images_are_the_same_whatever_the_number_of_replicas_and_workers(images_and_labels):
    images, labels = images_and_labels
    options = {"batch_size": 9, "seed": 5, "epochs": 2, "augment": layers()}
    alone = list(paired_dataset(images, labels, **options))
    shared = paired_dataset(images, labels, distribution=Distribution(num_replicas=4), **options)
    for parts in ([shared], [shared.shared_by(worker=worker, num_workers=2) for worker in range(2)]):
        for (batch, _), *of_workers in zip(alone, *parts, strict=True):
            for view in ("image", "partner"):
                together = np.concatenate([part[view] for part, _ in of_workers])
                np.testing.assert_array_equal(together, batch[view])
    assert len({image.tobytes() for batch, _ in alone for image in batch["image"].numpy()}) > len(images)
