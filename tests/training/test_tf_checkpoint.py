"""What `tf.train.Checkpoint(model=...)` saves of a model: all that its `.keras` file has."""

import numpy as np
import pytest
import tensorflow as tf

from cskd_tf.data import paired_dataset
from cskd_tf.methods import BYOT, CSKD, DLB, PSKD, AdaCos, Mixup
from cskd_tf.networks import NETWORKS
from cskd_tf.training.distiller import SelfDistiller
from cskd_tf.training.optimizers import SGD
from tests.selection import quick

METHODS = {
    "AdaCos": AdaCos,
    "PSKD": lambda: PSKD(alpha=0.8),
    "PSKD, top 1": lambda: PSKD(alpha=0.8, top_k=1),
    "DLB": DLB,
    "CSKD": CSKD,
    "Mixup": Mixup,
    "BYOT": BYOT,
}


def kept(model):
    owned = [variable for method in model.composition.attachable for variable in method.variables]
    return [each.numpy() for each in (model.step, *model.network.weights, *owned, *model.average.variables)]


@pytest.mark.parametrize("name", quick(METHODS, "AdaCos", "PSKD"))
def test_a_checkpoint_of_tensorflow_has_all_of_a_model(name, linear_network, images_and_labels, tmp_path):
    images, labels = images_and_labels
    networks = {"BYOT": lambda: NETWORKS["preact_resnet10"](num_classes=3, input_shape=(4, 4, 1), width=2)}

    def make():
        network = networks.get(name, linear_network)()
        model = SelfDistiller(network, [METHODS[name]()], num_examples=len(labels))
        model.compile(SGD(0.1, momentum=0.9), ema_momentum=0.9)
        model.optimizer.build(model.trainable_variables)
        return model

    model, other = make(), make()
    data = paired_dataset(images, labels, batch_size=8, seed=0, **model.data_options)
    model.fit(data, epochs=2, verbose=0)
    before = kept(other)
    path = tf.train.Checkpoint(model=model).save(tmp_path / "ckpt")
    tf.train.Checkpoint(model=other).restore(path).assert_consumed()
    for saved, restored in zip(kept(model), kept(other), strict=True):
        np.testing.assert_array_equal(saved, restored)
    assert any((one != two).any() for one, two in zip(before, kept(other), strict=True))
    for each in (model, other):
        each.fit(data, epochs=3, initial_epoch=2, verbose=0)
    for one, two in zip(kept(model), kept(other), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-6, atol=1e-7)
