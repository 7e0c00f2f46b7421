import shutil

import numpy as np
import pytest
import tensorflow as tf

from cskd_tf.serving import saved_model


@pytest.fixture
def outputs(serving, images):
    return {name: value.numpy() for name, value in serving.of_images(tf.constant(images)).items()}


@pytest.fixture
def raw(serving, images):
    return tf.nn.softmax(serving.features_of_images(tf.constant(images))["logits"]).numpy()


def changed(outputs, name, change):
    copy = {key: value.copy() for key, value in outputs.items()}
    copy[name] = change(copy[name])
    return copy


def test_what_is_the_same_does_not_differ(outputs, raw, serving):
    assert saved_model.difference(outputs, outputs, raw=raw, serving=serving) == 0


CHANGES = {
    "probabilities": lambda values: values + np.float32(0.01),
    "confidence": lambda values: values - np.float32(0.01),
    "top_probabilities": lambda values: values * np.float32(1.1),
    "top_classes": lambda values: values[:, ::-1].copy(),
    "top_names": lambda values: np.full_like(values, b"ape"),
    "conformal_set": lambda values: ~values,
}


@pytest.mark.parametrize("name", CHANGES)
def test_every_output_counts(name, outputs, raw, serving):
    found = changed(outputs, name, CHANGES[name])
    assert saved_model.difference(found, outputs, raw=raw, serving=serving) > 1e-3


def test_what_is_no_number_does_not_pass_for_the_same(outputs, raw, serving):
    found = changed(outputs, "probabilities", lambda values: values * np.float32(np.nan))
    assert np.isnan(saved_model.difference(found, outputs, raw=raw, serving=serving))


def test_a_class_at_the_threshold_may_fall_either_way(outputs, raw, serving):
    raw[2, 3] = serving.calibration.threshold + 1e-7
    outputs["conformal_set"][2, 3] = True
    found = changed(
        outputs, "conformal_set", lambda values: values ^ (np.indices(values.shape) == [[[2]], [[3]]]).all(0)
    )
    assert 0 < saved_model.difference(found, outputs, raw=raw, serving=serving) < 1e-6


@pytest.mark.slow
def test_a_saved_model_of_other_weights_differs(folder, serving, model, images, tmp_path):
    # Below a folder whose name TensorFlow would take for a pattern.
    shutil.copytree(folder, tmp_path / "of [2024]" / "model")
    copied = tmp_path / "of [2024]" / "model"
    assert saved_model.difference_in_fresh_process(copied, serving, tf.constant(images)) < 1e-5
    weights = model.get_weights()
    model.set_weights([weight + 0.01 for weight in weights])
    try:
        assert saved_model.difference_in_fresh_process(folder, serving, tf.constant(images)) > 1e-4
    finally:
        model.set_weights(weights)
    with pytest.raises(RuntimeError, match="does not load in a process of its own"):
        saved_model.difference_in_fresh_process(folder / "nowhere", serving, tf.constant(images))
