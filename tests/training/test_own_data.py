"""`model.fit` on data as people have them: of every kind, with augmentation of their own, to the same bytes again."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from cskd_tf.data import Needs, paired_dataset, paired_stream
from cskd_tf.methods import CSKD, DDGSD, PSKD, Mixup
from tests.data.sources.test_examples import Batches
from tests.helpers import compiled
from tests.selection import quick

LABELS = np.arange(24) % 3
# The first column says the class and the second the number of an image; the other pixels are noise.
IMAGES = np.random.default_rng(0).uniform(0, 255, (24, 4, 4, 1)).astype(np.float32)
IMAGES[:, :, 0, 0], IMAGES[:, :, 1, 0] = LABELS[:, None], np.arange(24)[:, None]
SINGLE = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS))
KINDS = {
    "arrays": (IMAGES, LABELS),
    "one-hot arrays": (IMAGES, np.eye(3)[LABELS]),
    "one by one": (SINGLE,),
    "in batches": (SINGLE.shuffle(24).batch(7),),
    "a column": (tf.data.Dataset.from_tensor_slices((IMAGES, LABELS[:, None])).batch(7),),
    "one-hot": (tf.data.Dataset.from_tensor_slices((IMAGES, np.eye(3, dtype=np.float32)[LABELS])).batch(7),),
    "a PyDataset": (Batches(IMAGES[:6], LABELS[:6]),),
}
STREAMS = {kind: data for kind, data in KINDS.items() if len(data) == 1}


def numbers(images):
    return np.asarray(images)[:, 0, 1, 0].astype(int)


def check_partners(data):
    """Image and partner share the class that the label says; returns the pairs."""
    pairs = []
    for batch, labels in data:
        for view in ("image", "partner"):
            np.testing.assert_array_equal(batch[view][:, 0, 0, 0], labels)
            np.testing.assert_array_equal(LABELS[numbers(batch[view])], labels)
        pairs += zip(numbers(batch["image"]), numbers(batch["partner"]), strict=True)
    return pairs


@pytest.fixture(scope="module")
def model():
    """One for all kinds, so that its step is traced once."""
    layers = [keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(3)]
    return compiled(keras.Sequential(layers), [CSKD()], learning_rate=1e-4)


@pytest.mark.parametrize("kind", quick(KINDS, "arrays"))
def test_fit_trains_by_pairs_on_what_is_held(kind, model):
    data = paired_dataset(*KINDS[kind], batch_size=5, seed=0, epochs=3, **model.data_options)
    images = data.num_examples
    pairs = check_partners(data)
    for epoch in range(3):  # each epoch shows each image once
        assert sorted(image for image, _ in pairs[epoch * images : (epoch + 1) * images]) == list(range(images))
    assert any(image != partner for image, partner in pairs)
    before = int(model.step)
    history = model.fit(data, epochs=2, verbose=0).history
    assert model.step - before == 2 * data.steps_per_epoch
    assert history["class_wise"][-1] > 0
    assert np.isfinite(history["loss"]).all()


@pytest.mark.parametrize("kind", quick(STREAMS, "in batches", "one by one"))
def test_fit_trains_by_pairs_on_what_flows_by(kind, model, caplog):
    known = {} if kind == "one-hot" else {"num_classes": 3}
    known |= {"batch_size": 5} if kind == "one by one" else {}  # the others stay in their own batches
    with caplog.at_level("INFO", logger="absl"):
        data = paired_stream(*STREAMS[kind], seed=0, bucket_size=4, **known, **model.data_options)
    assert "A stream, of which 4 images of each of 3 classes are held: partners are among these" in caplog.text
    assert any(image != partner for image, partner in check_partners(data))
    assert np.isfinite(model.fit(data, epochs=2, verbose=0).history["class_wise"]).all()


def test_the_number_of_an_image_is_known_where_it_is_held_and_refused_of_a_stream(linear_network):
    model = compiled(linear_network(), [PSKD()], learning_rate=1e-4, num_examples=24)
    data = paired_dataset(SINGLE.shuffle(24), batch_size=8, seed=0, **model.data_options)
    shown = {}
    for _ in range(2):
        for batch, _ in data:
            for index, number in zip(batch["index"].numpy(), numbers(batch["image"]), strict=True):
                assert shown.setdefault(index, number) == number
    assert sorted(shown) == list(range(24))
    assert np.isfinite(model.fit(data, epochs=2, verbose=0).history["loss"]).all()
    with pytest.raises(ValueError, match=r"needs a stream can meet.*paired_dataset.*Received: \['index'\]"):
        paired_stream(SINGLE, num_classes=3, batch_size=8, seed=0, **model.data_options)


def test_endless_data_are_a_stream():
    with pytest.raises(ValueError, match="Expected data that end; cskd_tf.data.paired_stream"):
        paired_dataset(SINGLE.repeat(), batch_size=8, seed=0)
    stream = paired_stream(SINGLE.repeat(), num_classes=3, batch_size=8, seed=0)
    assert len(check_partners(stream.take(7))) == 56


@pytest.mark.thorough
def test_a_folder_as_keras_reads_it_trains_literally(image_folder, linear_network):
    train = keras.utils.image_dataset_from_directory(image_folder / "train", image_size=(8, 8), verbose=False)
    test = keras.utils.image_dataset_from_directory(image_folder / "test", image_size=(8, 8), verbose=False)
    model = compiled(linear_network(2, (8, 8, 3)), [CSKD()], learning_rate=1e-5)
    data = paired_dataset(train, batch_size=4, seed=0, **model.data_options)
    assert data.class_names == train.class_names == ["cat", "dog"]
    history = model.fit(data, epochs=2, validation_data=test, verbose=0).history
    assert np.isfinite(history["loss"] + history["val_loss"]).all()


def augmentation():
    return keras.Sequential([keras.layers.RandomTranslation(0.5, 0.5), keras.layers.RandomErasing()])


def batches_of(data):
    return [tf.nest.map_structure(lambda part: part.numpy(), batch) for batch in data]


@pytest.mark.thorough
def test_both_views_are_augmented_apart_and_the_same_again_from_any_step():
    arguments = {"batch_size": 7, "seed": 3, "epochs": 2, "needs": Needs(views=("partner", "second_view"))}
    data = paired_dataset(IMAGES, LABELS, augment=augmentation(), **arguments)
    whole = batches_of(data)
    plain = batches_of(paired_dataset(IMAGES, LABELS, **arguments))
    views = [np.concatenate([batch[view] for batch, _ in whole]) for view in ("image", "partner", "second_view")]
    without = np.concatenate([batch["image"] for batch, _ in plain])
    for one, other in ((views[0], without), (views[0], views[2]), (views[0][:24], views[0][24:])):
        assert np.mean([not np.array_equal(image, twin) for image, twin in zip(one, other, strict=True)]) > 0.9
    again = paired_dataset(IMAGES, LABELS, augment=augmentation(), first_step=5, **arguments)
    for expected, measured in zip(whole[5:], batches_of(again), strict=True):
        tf.nest.map_structure(np.testing.assert_array_equal, measured, expected)
    parts = [batches_of(data.shared_by(worker=worker, num_workers=2)) for worker in range(2)]
    for number, (expected, _) in enumerate(whole):
        joined = np.concatenate([part[number][0]["partner"] for part in parts])
        np.testing.assert_allclose(joined, expected["partner"], atol=1e-4)


@pytest.mark.slow
def test_training_goes_on_with_augmentation_where_it_was(linear_network):
    def trained(epochs):
        model = compiled(linear_network(kernel_initializer="zeros"), [CSKD()], learning_rate=1e-4)
        for each in epochs:  # a new data set, as in another process
            layers = keras.layers.RandomFlip()
            data = paired_dataset(SINGLE, batch_size=7, seed=3, augment=layers, **model.data_options)
            model.fit(data, initial_epoch=each[0], epochs=each[1], verbose=0)
        return model.get_weights()

    tf.nest.map_structure(np.testing.assert_array_equal, trained([(0, 2)]), trained([(0, 1), (1, 2)]))


@pytest.mark.thorough
def test_a_stream_is_augmented_and_mixed_as_what_is_held_is(linear_network):
    model = compiled(linear_network(), [Mixup(alpha=1.0), DDGSD()], learning_rate=1e-4)
    data = paired_stream(
        SINGLE, num_classes=3, batch_size=8, seed=0, augment=[augmentation(), lambda images: images / 255],
        **model.data_options,
    )  # fmt: skip
    batch, _ = next(iter(data))
    assert (batch["second_view"].shape, batch["targets"].shape) == ((8, 4, 4, 1), (8, 3))
    assert not np.array_equal(batch["second_view"], batch["image"])
    assert np.isfinite(model.fit(data, verbose=0).history["loss"]).all()
