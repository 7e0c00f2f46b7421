import numpy as np
import pytest
import tensorflow as tf

from cskd_tf import losses


def test_cross_entropy_of_hard_and_soft_targets():
    logits = tf.constant([[np.log(3.0), 0.0], [np.log(3.0), 0.0]])
    values = losses.cross_entropy(logits, targets=[[1.0, 0.0], [0.5, 0.5]])
    np.testing.assert_allclose(values, [0.28768207, 0.83698822], atol=1e-6)


def test_kl_divergence_by_hand():
    values = losses.kl_divergence(tf.constant([[np.log(3.0), 0.0]]), tf.constant([[0.0, 0.0]]))
    np.testing.assert_allclose(values, [0.75 * np.log(1.5) + 0.25 * np.log(0.5)], atol=1e-6)


def test_kl_divergence_divides_both_logits_by_the_temperature():
    target, approximation = tf.constant([[4.0, 0.0, -2.0]]), tf.constant([[1.0, 3.0, 0.0]])
    softened = losses.kl_divergence(target, approximation, temperature=4.0)
    np.testing.assert_allclose(softened, losses.kl_divergence(target / 4, approximation / 4), atol=1e-7)
    assert abs(float(softened[0]) - float(losses.kl_divergence(target, approximation)[0])) > 0.1


def test_kl_divergence_is_zero_between_equal_distributions_and_not_symmetric():
    first, second = tf.constant([[2.0, 0.0, 1.0]]), tf.constant([[0.0, 0.5, 3.0]])
    np.testing.assert_allclose(losses.kl_divergence(first, first + 5.0), [0.0], atol=1e-6)
    forward, backward = losses.kl_divergence(first, second), losses.kl_divergence(second, first)
    assert abs(float(forward[0] - backward[0])) > 0.01


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_losses_are_computed_in_float32(dtype):
    logits = tf.cast([[9.0, 0.0, -4.0]], dtype)
    exact = losses.cross_entropy(tf.cast(logits, "float32"), targets=[[0.0, 1.0, 0.0]])
    half = losses.cross_entropy(logits, targets=[[0.0, 1.0, 0.0]])
    assert half.dtype == tf.float32
    np.testing.assert_array_equal(half, exact)
    assert losses.kl_divergence(logits, -logits, temperature=4.0).dtype == tf.float32


def test_extreme_logits_stay_finite():
    values = losses.kl_divergence(tf.constant([[1e4, -1e4]]), tf.constant([[-1e4, 1e4]]), temperature=4.0)
    np.testing.assert_allclose(values, [5000.0], rtol=1e-6)


def test_soft_cross_entropy_is_divergence_and_entropy():
    target, approximation = tf.constant([[2.0, 0.0, -1.0]]), tf.constant([[0.0, 1.0, 3.0]])
    values = losses.soft_cross_entropy(target, approximation, temperature=2.0)
    divergence = losses.kl_divergence(target, approximation, temperature=2.0)
    np.testing.assert_allclose(values, divergence + losses.entropy(target / 2.0), rtol=1e-6)
    np.testing.assert_allclose(losses.entropy(tf.zeros((2, 4))), [np.log(4)] * 2, rtol=1e-6)


def test_targets_are_refined_by_one_share_or_by_one_per_image():
    targets, previous = tf.one_hot([[0, 1], [1, 1]], 2), tf.fill([2, 2, 2], 0.5)
    np.testing.assert_allclose(
        losses.refine_targets(targets, previous=previous, share=[0.0, 0.4]),
        [[[1.0, 0.0], [0.0, 1.0]], [[0.2, 0.8], [0.2, 0.8]]],
    )
    np.testing.assert_allclose(losses.refine_targets(targets, previous=previous, share=1.0), previous)


@pytest.mark.parametrize(
    ("compute", "expected"),
    [
        (lambda: losses.cross_entropy(np.zeros((4, 3)), targets=np.ones((1, 3))), r"targets \(1, 3\), logits \(4, 3\)"),
        (lambda: losses.cross_entropy(np.zeros((3, 3)), targets=np.array([0, 1, 2])), r"targets \(3,\), logits"),
        (lambda: losses.kl_divergence(np.zeros((4, 3)), np.ones(3)), r"target_logits \(4, 3\), logits \(3,\)"),
        (lambda: losses.soft_cross_entropy(np.zeros((4, 3)), np.ones((4, 1))), r"targets \(4, 3\), logits"),
        (lambda: losses.refine_targets([[1.0, 0.0]], previous=[1.0, 0.0], share=0.5), r"targets \(1, 2\), previous"),
        (lambda: losses.refine_targets([[1.0, 0.0]], previous=[[0.5, 0.5]], share=1.5), "share=1.5"),
        (lambda: losses.refine_targets([[1.0, 0.0]], previous=[[0.5, 0.5]], share=[-0.5]), r"share=\[-0.5\]"),
        (lambda: losses.kl_divergence(np.zeros((4, 3)), np.ones((4, 3)), temperature=0), "temperature=0"),
        (lambda: losses.soft_cross_entropy(np.zeros((4, 3)), np.ones((4, 3)), temperature=-1.0), "temperature=-1.0"),
    ],
)
def test_what_tensorflow_would_compute_all_the_same_is_refused(compute, expected):
    with pytest.raises(ValueError, match=f"Received: .*{expected}"):
        compute()


def test_a_class_of_minus_infinity_is_out_of_question():
    logits = tf.Variable([[1.0, 0.0, -np.inf], [0.0, 2.0, -np.inf]])
    with tf.GradientTape() as tape:
        values = losses.cross_entropy(logits, targets=[[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]])
    expected = losses.cross_entropy(logits[:, :2], targets=[[1.0, 0.0], [0.5, 0.5]])
    np.testing.assert_allclose(values, expected, rtol=1e-6)
    probabilities = tf.nn.softmax(logits).numpy()
    targets = [[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]]
    np.testing.assert_allclose(tape.gradient(values, logits), probabilities - targets, atol=1e-6)
    assert np.isposinf(losses.cross_entropy(logits[:1], targets=[[0.0, 0.0, 1.0]])[0])
    with tf.GradientTape() as tape:
        values = losses.kl_divergence(tf.constant([[0.0, 1.0, -np.inf]] * 2), logits, temperature=2.0)
    expected = losses.kl_divergence(tf.constant([[0.0, 1.0]] * 2), logits[:, :2], temperature=2.0)
    np.testing.assert_allclose(values, expected, rtol=1e-5)
    assert np.isfinite(tape.gradient(values, logits)).all()


@pytest.mark.parametrize(
    "loss",
    [
        losses.entropy,
        lambda logits: losses.kl_divergence(logits, logits[:, ::-1] + 0.5 * logits, temperature=2.0),
        lambda logits: losses.soft_cross_entropy(logits, 3 * logits, temperature=2.0),
    ],
    ids=["entropy", "kl_divergence", "soft_cross_entropy"],
)
def test_a_masked_class_leaves_the_gradients_of_the_others_as_they_are(loss):
    """In both arguments: -inf stands where the order of classes cannot move it."""

    def gradient(values):
        logits = tf.Variable(values)
        with tf.GradientTape() as tape:
            value = tf.reduce_sum(loss(logits))
        return tape.gradient(value, logits).numpy()

    masked = gradient([[1.0, -np.inf, 0.0], [0.0, -np.inf, 2.0]])
    np.testing.assert_allclose(masked[:, ::2], gradient([[1.0, 0.0], [0.0, 2.0]]), atol=1e-6)
    assert np.abs(masked[:, ::2]).max() > 0.05
    np.testing.assert_array_equal(masked[:, 1], 0)
