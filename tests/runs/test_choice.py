import pytest

from cskd_tf.errors import UserError
from cskd_tf.runs import choice
from cskd_tf.runs.grid import Axis, Run


def run(point, seed):
    return Run(f"{point}/seed={seed}", point, "", {"epochs": point}, {})


RUNS = [run(point, seed) for point in ("a", "b", "c") for seed in (0, 1)]


def found(errors, metric="top1_error"):
    metrics = {run.name: {"val": {metric: error}} for run, error in zip(RUNS, errors, strict=True) if error is not None}
    return choice.candidates(RUNS, metrics, metric=metric)


def test_the_mean_over_seeds_decides_and_the_earlier_of_equals():
    assert choice.best(found([0.1, 0.5, 0.2, 0.3, 0.3, 0.2]), metric="top1_error").point == "b"
    assert choice.best(found([0.1, 0.5, 0.2, 0.3, 0.3, 0.2], "recall_at_1"), metric="recall_at_1").point == "a"


def test_a_point_without_all_its_seeds_is_not_chosen_and_says_what_is_missing():
    candidates = found([0.3, 0.3, 0.1, None, 0.4, 0.4])
    assert choice.best(candidates, metric="top1_error").point == "a"
    assert candidates[1].missing == ("b/seed=1",)
    assert candidates[1].as_dict() == {
        "point": "b", "settings": {"epochs": "b"}, "values": {"b/seed=0": 0.1}, "missing": ("b/seed=1",), "mean": 0.1,
        "deviation": None,
    }  # fmt: skip
    assert candidates[0].as_dict()["deviation"] == 0.0
    assert choice.best(found([0.3, None, None, None, None, 0.1]), metric="top1_error") is None


def test_a_chosen_point_fixes_its_axes_and_leaves_seeds():
    (candidate, *_) = found([0.3] * 6)
    assert candidate.on(Axis(("epochs", "batch_size"), (1, 2))) == Axis(("epochs", "batch_size"), ("a",))
    assert candidate.on(Axis(("seed",), (1, 2))) == Axis(("seed",), (1, 2))


@pytest.mark.parametrize("metrics", [{"test": {"top1_error": 0.5}}, {"val": {"top1_error": None, "nll": 1.0}}])
def test_without_the_metric_nothing_is_chosen(metrics):
    with pytest.raises(UserError, match="one of .*Received: top1_error=None of a/seed=0"):
        choice.candidates(RUNS, {"a/seed=0": metrics}, metric="top1_error")


def test_a_metric_without_a_direction_is_refused():
    with pytest.raises(UserError, match="one of .*'recall_at_1'.*Received: loss"):
        choice.check_metric("loss")


@pytest.mark.parametrize("metric", ["top1_error", "top5_error", "nll", "ece", "aurc", "group_error"])
def test_less_of_an_error_is_better(metric):
    assert choice.best(found([0.1, 0.1, 0.2, 0.2, 0.3, 0.3], metric), metric=metric).point == "a"


def test_the_deviation_of_a_choice_is_that_of_a_sample():
    assert found([0.1, 0.3] * 3)[0].as_dict()["deviation"] == pytest.approx(0.2 / 2**0.5)
