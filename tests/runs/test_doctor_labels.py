"""Which labels of the digits the doctor doubts, where it is known which are wrong."""

import dataclasses

import numpy as np
import pytest

from cskd_tf.data import ArraySource
from cskd_tf.data.catalogue.datasets import SourceOptions, SplitOptions, digits
from cskd_tf.errors import UserError
from cskd_tf.evaluation.predictions import Predictions
from cskd_tf.runs import doctor
from cskd_tf.runs.classifiers import Classifier
from cskd_tf.runs.doctor import labels
from tests.runs.helpers import config_of


@pytest.fixture(scope="module")
def source():
    return digits(SourceOptions(name="digits", channels=1), SplitOptions(), check_files=True)["train"]


def with_wrong_labels(source, *, share):
    generator = np.random.default_rng(0)
    wrong = np.flatnonzero(generator.random(len(source.labels)) < share)
    changed = source.labels.copy()
    changed[wrong] = (changed[wrong] + generator.integers(1, 10, len(wrong))) % 10
    pixels = source.load(np.arange(len(changed))).numpy()
    return ArraySource(pixels, changed, class_names=source.class_names), wrong


def lines(checked, source, *, saw_them=False):
    return list(labels.described(checked, source, saw_them=saw_them))


def test_sound_labels_are_few_suspects(source):
    checked = labels.check(source, limit=5000)
    assert checked.is_strong
    assert checked.noise.share < 0.01


def test_wrong_labels_are_counted_and_named(source):
    changed, wrong = with_wrong_labels(source, share=0.1)
    checked = labels.check(changed, limit=5000)
    low, high = checked.noise.interval()
    assert low < len(wrong) / len(changed.labels) < high
    assert high - low < 0.05
    suspects = checked.indices[checked.noise.suspects]
    assert np.isin(suspects[:10], wrong).all()
    assert np.isin(suspects, wrong).mean() > 0.9
    assert np.isin(wrong, suspects).mean() > 0.8
    printed = lines(checked, changed)
    assert f"{100 * checked.noise.share:.1f} % (95 %: {100 * low:.1f} to {100 * high:.1f}) of the labels" in printed[1]
    assert len(printed) == 2 + 10
    first = int(suspects[0])
    given, true = changed.labels[first], source.labels[first]
    assert printed[2] == f"  image {first}: labelled '{given}', looks like '{true}'"


def test_features_that_do_not_show_the_classes_give_no_number(source):
    shuffled = np.random.default_rng(0).permutation(source.labels)
    pixels = source.load(np.arange(len(shuffled))).numpy()
    source = ArraySource(pixels, shuffled, class_names=source.class_names)
    checked = labels.check(source, limit=500)
    assert len(checked.indices) == 500
    assert not checked.is_strong
    printed = lines(checked, source)
    assert len(printed) == 2
    assert "too weak to tell" in printed[1]
    assert "look wrong" not in "".join(printed)


def test_classes_of_few_images_are_left_out(source):
    kept = np.concatenate([np.flatnonzero(source.labels == label)[:count] for label, count in enumerate([40, 40, 4])])
    checked = labels.check(source.subset(kept), limit=5000)
    assert (len(checked.indices), checked.left_out, checked.classes.tolist()) == (80, 4, [0, 1])
    assert "4 images in classes of fewer than 5 are left out" in lines(checked, source)[0]
    nothing = labels.check(source.subset(kept[36:44]), limit=5000)
    assert nothing.noise is None
    assert lines(nothing, source) == ["train: labels are not checked: fewer than two classes have 5 images"]


def classifier(embed, *, channels=1):
    def predict(source):
        return Predictions(np.zeros((len(source.labels), 2)), source.labels, embed(source))

    return Classifier("workdirs/other", ["a", "b"], channels, predict)


def test_embeddings_of_a_run_are_taken_where_they_are_given(source):
    changed, wrong = with_wrong_labels(source, share=0.1)
    subset = np.arange(300)

    def embed(chosen):  # as a network that knows the true classes has them
        noise = np.random.default_rng(0).normal(size=(len(chosen.labels), 10))
        return 20 * np.eye(10)[source.labels[:300]] + noise

    checked = labels.check(changed.subset(subset), limit=5000, classifier=classifier(embed))
    suspects = checked.indices[checked.noise.suspects]
    assert set(suspects.tolist()) <= set(wrong.tolist())
    assert len(suspects) > 0.9 * (wrong < 300).sum()
    printed = lines(checked, changed, saw_them=True)
    assert "by the embeddings of workdirs/other" in printed[0]
    assert "was trained on these labels" in printed[2]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (classifier(lambda source: np.zeros((len(source.labels), 0))), "a run whose embeddings are known"),
        (classifier(lambda source: np.zeros((len(source.labels), 3)), channels=3), "a run on images of 1 channels"),
    ],
)
def test_a_run_that_does_not_fit_is_refused(source, other, message):
    with pytest.raises(UserError, match=f"Expected --with {message}. Received: workdirs/other"):
        labels.check(source.subset(np.arange(100)), limit=100, classifier=other)


def test_a_run_without_a_check_is_refused():
    with pytest.raises(
        UserError, match=r"Expected labels to be checked beside --with=run\. Received: --check_labels=0"
    ):
        doctor.examine(config_of({}), check_labels=0, run="run")


@pytest.mark.slow
def test_all_of_it_by_a_saved_model(exported_run, exported_folder, capsys):
    config = exported_run.config()
    split = dataclasses.replace(config.data.split, train_per_class=0)
    config = dataclasses.replace(config, deterministic=False, data=dataclasses.replace(config.data, split=split))
    findings = doctor.examine(config, check_labels=200, run=str(exported_folder))
    printed = capsys.readouterr().out
    assert f"by the embeddings of {exported_folder}" in " ".join(printed.split())
    assert findings.counts.sum() > 200
    assert findings.held_out > 0
    assert findings.same_size
    assert set(findings.sides.tolist()) == {8}
    assert findings.step > 0
    assert findings.steps == -(-findings.counts.sum() // config.batch_size)
