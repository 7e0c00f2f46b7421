import numpy as np
import pytest
import tensorflow as tf

from cskd_tf.methods import CSKD
from tests.helpers import compiled, softmax


def test_several_partners_enter_as_their_mean():
    logits = {"image": [0.0, 0.0], "partner": [4 * np.log(3.0), 0.0], "partner_2": [0.0, 0.0]}
    outputs = {view: {"logits": tf.constant([values])} for view, values in logits.items()}
    method = CSKD(temperature=4.0, weight=1.0, partners=2)
    assert [view.name for view in method.views] == ["partner", "partner_2"]
    np.testing.assert_allclose(method.terms({}, outputs, None)["class_wise"], [2.092993 / 2], atol=1e-6)
    for partners in (0, 1.0, True):
        with pytest.raises(ValueError, match="partners to be an integer of at least 1"):
            CSKD(partners=partners)


@pytest.mark.parametrize(("temperature", "weight"), [(1.0, 1.0), (4.0, 3.0)])
def test_cskd_value_and_gradient_against_numpy(temperature, weight):
    generator = np.random.default_rng(1)
    own, partner = generator.normal(size=(2, 5, 7)) * 3
    own_variable, partner_variable = (tf.Variable(value, dtype=tf.float32) for value in (own, partner))
    with tf.GradientTape() as tape:
        outputs = {"image": {"logits": own_variable.value()}, "partner": {"logits": partner_variable.value()}}
        term = CSKD(temperature=temperature, weight=weight).terms({}, outputs, None)["class_wise"]
    own_gradient, partner_gradient = tape.gradient(term, [own_variable, partner_variable])
    p, q = softmax(partner / temperature), softmax(own / temperature)
    np.testing.assert_allclose(term, weight * temperature**2 * (p * np.log(p / q)).sum(axis=1), rtol=1e-5)
    np.testing.assert_allclose(own_gradient, weight * temperature * (q - p), atol=1e-5)
    assert partner_gradient is None


@pytest.mark.parametrize("temperature", [0, -1.0, float("nan"), float("inf"), "4", True])
def test_cskd_refuses_a_temperature(temperature):
    with pytest.raises(ValueError, match=r"temperature to be a finite number above 0. Received: temperature="):
        CSKD(temperature=temperature)


@pytest.mark.parametrize("weight", [-0.1, float("nan"), None])
def test_cskd_refuses_a_weight(weight):
    with pytest.raises(ValueError, match=r"weight to be a finite number of at least 0. Received: weight="):
        CSKD(weight=weight)


@pytest.mark.parametrize("batch_size", [22, 11])
def test_neighbours_that_are_no_pairs_are_refused(batch_size, linear_network, images_and_labels):
    model = compiled(linear_network(), [CSKD(in_batch=True)])
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match="Expected batches of pairs of one class"):
        model.fit(*images_and_labels, batch_size=batch_size, verbose=0)
