"""Models and data end when nobody has them any more: TensorFlow keeps functions of data sets until the process ends."""

import gc
import weakref

import numpy as np
import pytest
import tensorflow as tf

from cskd_tf.data import paired_dataset, paired_stream
from cskd_tf.data.sources.arrays import ArraySource
from cskd_tf.data.sources.weakly import weakly
from cskd_tf.methods import CSKD
from cskd_tf.training.callbacks import Evaluation
from tests.helpers import compiled


def arrays(model, images, labels):
    return (images, labels), {}


def paired(model, images, labels):
    return (paired_dataset(ArraySource(images, labels), batch_size=8, seed=0, **model.data_options),), {}


def own(model, images, labels):
    return (tf.data.Dataset.from_tensor_slices((images, labels)).batch(8).map(lambda *batch: batch),), {}


def stream(model, images, labels):
    examples = tf.data.Dataset.from_tensor_slices((images, labels)).repeat(3)
    return (paired_stream(examples, num_classes=3, bucket_size=4, batch_size=8, seed=0, **model.data_options),), {}


@pytest.mark.thorough
@pytest.mark.parametrize(
    "data",
    [arrays, paired, own, stream],
    ids=lambda data: data.__name__,
)
@pytest.mark.parametrize("count", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_model_ends_with_its_name(data, count, linear_network, images_and_labels, replicas):
    methods = [CSKD()] if data in (paired, stream) else []
    strategy = replicas(count)
    with strategy.scope():
        model = compiled(linear_network(), methods)
    images, labels = (np.array(values) for values in images_and_labels)
    arguments, options = data(model, images, labels)
    validation = tf.data.Dataset.from_tensor_slices((images, labels)).batch(8)
    model.fit(*arguments, epochs=2, verbose=0, callbacks=[Evaluation(validation)], **options)
    ending = [weakref.ref(each) for each in (model, model.network, images)]
    del model, arguments, options, images, labels, validation, strategy
    gc.collect()
    assert [each() is None for each in ending] == [True] * len(ending)


def test_a_method_that_is_held_weakly_ends_with_its_object():
    class Owner:
        def double(self, number):
            return 2 * number

    owner = Owner()
    double = weakly(owner.double)
    assert double(3) == 6
    del owner
    with pytest.raises(ReferenceError, match="double"):
        double(3)
