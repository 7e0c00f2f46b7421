import numpy as np
import pytest
import tensorflow as tf

from cskd_tf import losses
from cskd_tf.evaluation.figures.rescaling import rescaling_curves, rescaling_factor


def gradient_norm(logits, targets):
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = tf.reduce_sum(losses.cross_entropy(logits, targets=targets))
    return float(tf.reduce_sum(tf.abs(tape.gradient(loss, logits))))


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.55])
def test_the_factor_is_the_ratio_of_the_gradients_norms(alpha):
    """Probabilities .2, .3, .5 an epoch ago and .5, .2, .3 now: the others shrank to .67 and .6 of what they were."""
    now, before, label = [0.5, 0.2, 0.3], [[0.2, 0.3, 0.5]], tf.constant([[1.0, 0.0, 0.0]])
    logits = tf.math.log(tf.constant([now]))
    softened = losses.refine_targets(label, previous=tf.constant(before), share=alpha)
    ratio = gradient_norm(logits, softened) / gradient_norm(logits, label)
    assert float(rescaling_factor(0.5, previous=0.2, alpha=alpha)) == pytest.approx(ratio, rel=1e-5)


def test_beyond_what_the_equation_allows_it_is_undefined():
    np.testing.assert_allclose(rescaling_factor([0.5, 0.9], previous=0.5, alpha=0.4), [0.6, np.nan])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"probability": 1.0}, "probability from 0 to below 1"),
        ({"previous": -0.1}, "previous from 0 to below 1"),
        ({"alpha": 1.1}, "alpha from 0 to 1"),
    ],
)
def test_values_out_of_range_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        rescaling_factor(**{"probability": 0.5, "previous": 0.5, "alpha": 0.5, **values})


def test_curves_are_the_equations():
    left, right = rescaling_curves(alpha=0.5).axes
    for axis, cases in ((left, [(0.5, 0.2), (0.5, 0.4), (0.5, 0.6), (0.5, 0.8)]), (right, [(0.1, 0.5), (0.3, 0.5)])):
        for line, (previous, alpha) in zip(axis.get_lines(), cases, strict=axis is left):
            now, factor = line.get_xydata().T
            assert now[0] == pytest.approx(previous)
            assert factor[0] == pytest.approx(1 - alpha)  # nothing has changed
            np.testing.assert_allclose(factor, rescaling_factor(now, previous=previous, alpha=alpha))
            assert np.nanmin(factor) < 0.03  # on to where the equation ends
