"""Teachers: where they come from, what is checked, and that nothing happens to them."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from cskd_tf.data import paired_dataset
from cskd_tf.methods import CSKD, TFKD, AdaCos, Distillation
from cskd_tf.training.distiller import SelfDistiller
from cskd_tf.training.optimizers import SGD


@pytest.fixture
def teacher(batch_norm_network):
    keras.utils.set_random_seed(7)
    return batch_norm_network(dropout=0.5)


@pytest.mark.parametrize("kind", [Distillation, pytest.param(TFKD, marks=pytest.mark.thorough)])
def test_a_teacher_runs_at_inference_and_is_not_touched(kind, teacher, linear_network, images_and_labels):
    before = [weight.copy() for weight in teacher.get_weights()]
    model = SelfDistiller(linear_network(), [kind(teacher=teacher), CSKD()])
    model.compile(SGD(0.1))
    data = paired_dataset(*images_and_labels, batch_size=8, seed=0, epochs=3, **model.data_options)
    model.fit(data, epochs=3, verbose=0)
    for one, two in zip(before, teacher.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    mine = {id(weight) for weight in teacher.variables}
    assert not mine & {id(variable) for variable in (*model.variables, *model.optimizer.variables)}


@pytest.mark.thorough
def test_a_teacher_is_named_by_its_file(teacher, linear_network, images_and_labels, tmp_path):
    images, _ = images_and_labels
    file = tmp_path / "classifier.keras"
    SelfDistiller(teacher, []).classifier().save(file)
    for source in (file, str(file)):
        method = Distillation(teacher=source)
        np.testing.assert_allclose(method._teacher(tf.constant(images)), teacher(images), atol=1e-5)
        model = SelfDistiller(linear_network(), [method])
        model.compile(SGD(0.1))
        history = model.fit(*images_and_labels, epochs=1, verbose=0).history
        assert history["distillation"][0] > 0


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.flatten, self.head = keras.layers.Flatten(), keras.layers.Dense(3)

    def call(self, images):
        return self.head(self.flatten(images))


@pytest.mark.thorough
@pytest.mark.parametrize("built", [True, False])
def test_subclassed_networks_teach_and_learn(built, images_and_labels):
    teacher, student = Subclassed(), Subclassed()
    if built:
        teacher(images_and_labels[0][:1])
        student(images_and_labels[0][:1])
    model = SelfDistiller(student, [Distillation(teacher=teacher)])
    model.compile(SGD(0.1))
    history = model.fit(*images_and_labels, epochs=3, verbose=0).history
    assert history["distillation"][-1] < history["distillation"][0]


@pytest.mark.parametrize("kind", [Distillation, TFKD])
def test_a_model_that_learns_from_a_named_teacher_is_saved_whole(kind, teacher, linear_network, tmp_path):
    teacher.save(tmp_path / "teacher.keras")
    model = SelfDistiller(linear_network(), [kind(teacher=tmp_path / "teacher.keras", temperature=3)])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.methods[0].temperature == 3
    for one, two in zip(teacher.get_weights(), loaded.methods[0]._teacher.network.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    with pytest.raises(ValueError, match="a teacher that is named by its .keras file"):
        SelfDistiller(linear_network(), [kind(teacher=teacher)]).save(tmp_path / "other.keras")


def test_the_student_is_no_teacher(linear_network):
    network = linear_network()
    with pytest.raises(ValueError, match="a teacher apart from the student. Received: 2 variables of both"):
        SelfDistiller(network, [Distillation(teacher=network)])


def test_a_head_of_the_teachers_own_is_part_of_it(linear_network, images_and_labels, tmp_path):
    model = SelfDistiller(linear_network(), [AdaCos()])
    model.methods[0].scale.assign(3.0)
    model.classifier().save(tmp_path / "classifier.keras")
    images, _ = images_and_labels
    method = Distillation(teacher=tmp_path / "classifier.keras")
    np.testing.assert_allclose(method._teacher(tf.constant(images)), model(images), atol=1e-5)
    assert np.abs(method._teacher(tf.constant(images))).max() <= 3.0 + 1e-5


def test_teachers_that_do_not_fit_are_refused(batch_norm_network, linear_network, tmp_path):
    for network, message in (
        (batch_norm_network(classes=4), "student's 3 classes. Received: 4 classes"),
        (batch_norm_network(shape=(6, 6, 1)), r"student's images, \(4, 4, 1\). Received: a teacher of \(6, 6, 1\)"),
        (linear_network(activation="softmax"), r"makes logits of .*Received: .*as after a softmax"),
    ):
        with pytest.raises(ValueError, match=message):
            SelfDistiller(linear_network(), [Distillation(teacher=network)])
    (tmp_path / "broken.keras").write_bytes(b"no model")
    for source, message in (
        (tmp_path, "a .keras file, such as a run's classifier.keras. Received: "),
        (tmp_path / "nowhere.keras", r"a .keras file, such as .*Received: .*nowhere.keras"),
        (tmp_path / "broken.keras", "a teacher that Keras can load"),
    ):
        with pytest.raises(ValueError, match=message):
            Distillation(teacher=source)
