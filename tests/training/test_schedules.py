"""Learning rates, step by step."""

import math

import keras
import numpy as np
import pytest

from cskd_tf.training.schedules import WarmUp, constant_schedule, cosine_schedule, step_schedule
from tests.selection import few


def test_schedule_drops_before_the_first_step_after_a_milestone():
    schedule = step_schedule(0.1, milestones=(0.5, 0.75), factor=0.1, epochs=200, steps_per_epoch=7)
    rates = [float(schedule(step)) for step in (0, 699, 700, 1049, 1050, 1399)]
    np.testing.assert_allclose(rates, [0.1, 0.1, 0.01, 0.01, 0.001, 0.001], rtol=1e-6)


@pytest.mark.parametrize(
    ("epochs", "milestones", "expected"),
    few(
        [
            (3, (), [0, 0, 0]),
            (1, (0.5, 0.75), [0]),
            (2, (0.5, 0.75), [0, 1]),
            (3, (0.5, 0.75), [0, 1, 2]),
            (4, (0.5, 0.75), [0, 0, 1, 2]),
            (5, (0.5, 0.75), [0, 0, 1, 2, 2]),
            (60, (0.5, 0.75), [0] * 30 + [1] * 15 + [2] * 15),
            (90, (1 / 3, 2 / 3), [0] * 30 + [1] * 30 + [2] * 30),
            (90, (0.5, 0.75), [0] * 45 + [1] * 22 + [2] * 23),
            (100, (0.29, 0.58), [0] * 29 + [1] * 29 + [2] * 42),  # 0.29 * 100 is 28.999999999999996
            (200, (0.5, 0.75), [0] * 100 + [1] * 50 + [2] * 50),
            (300, (0.5, 0.75), [0] * 150 + [1] * 75 + [2] * 75),
        ],
        7,
    ),
)
def test_the_rate_of_every_epoch(epochs, milestones, expected):
    schedule = step_schedule(0.1, milestones=milestones, factor=0.1, epochs=epochs, steps_per_epoch=7)
    for step in (0, 6):  # the first and the last step of each epoch
        rates = [float(schedule(7 * epoch + step)) for epoch in range(epochs)]
        np.testing.assert_allclose(rates, [0.1 * 0.1**drops for drops in expected], rtol=1e-6)


def test_a_single_epoch_has_the_full_rate():
    schedule = step_schedule(0.1, milestones=(0.25, 0.5), factor=0.1, epochs=1, steps_per_epoch=5)
    np.testing.assert_allclose([float(schedule(step)) for step in range(5)], 0.1, rtol=1e-6)


@pytest.mark.parametrize(
    "arguments",
    [{"milestones": (0.75, 0.5)}, {"milestones": (0.5, 1.0)}, {"milestones": (100,)}, {"factor": 0.0}],
)
def test_schedule_refuses(arguments):
    with pytest.raises(ValueError, match="Received: "):
        step_schedule(0.1, **{"milestones": (0.5,), "factor": 0.1, "epochs": 10, "steps_per_epoch": 5, **arguments})


def test_warm_up_rises_in_a_line_and_survives_saving():
    options = {"milestones": (0.5,), "factor": 0.1, "epochs": 4, "steps_per_epoch": 2}
    schedule = step_schedule(0.1, **options, warmup_epochs=2)
    again = WarmUp.from_config(schedule.get_config())
    for each in (schedule, again):
        rates = [float(each(step)) for step in range(6)]
        np.testing.assert_allclose(rates, [0.025, 0.05, 0.075, 0.1, 0.01, 0.01], rtol=1e-6)
    with pytest.raises(ValueError, match="warmup_epochs from 0 to 4"):
        step_schedule(0.1, **options, warmup_epochs=5)


@pytest.mark.parametrize("warmup_epochs", [0, 2])
def test_half_a_cosine_after_the_warm_up_against_its_formula(warmup_epochs):
    schedule = cosine_schedule(0.2, epochs=5, steps_per_epoch=4, warmup_epochs=warmup_epochs)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(schedule))
    for step in range(20):
        risen = 4 * warmup_epochs
        cosine = 0.1 * (1 + math.cos(math.pi * max(step - risen, 0) / (20 - risen)))
        expected = cosine * min((step + 1) / risen, 1) if risen else cosine
        assert float(schedule(step)) == pytest.approx(expected, rel=1e-5), step
        assert float(copy(step)) == float(schedule(step))


def test_a_constant_rate_may_rise_for_all_of_a_run():
    schedule = constant_schedule(0.3, epochs=2, steps_per_epoch=3, warmup_epochs=2)
    np.testing.assert_allclose(
        [float(schedule(step)) for step in range(8)], [0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.3, 0.3]
    )


@pytest.mark.parametrize("make", [cosine_schedule, constant_schedule])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate to be above 0. Received: learning_rate=0.0"),
        ({"learning_rate": math.nan}, "Received: learning_rate=nan"),
        ({"warmup_epochs": 4}, "warmup_epochs from 0 to [23]. Received: warmup_epochs=4"),
    ],
)
def test_rates_and_warm_ups_that_cannot_be_are_refused(make, changes, message):
    with pytest.raises(ValueError, match=message):
        make(**{"learning_rate": 0.1, "epochs": 3, "steps_per_epoch": 2, **changes})


def test_a_cosine_has_an_epoch_behind_its_warm_up():
    with pytest.raises(ValueError, match="warmup_epochs from 0 to 2. Received: warmup_epochs=3"):
        cosine_schedule(0.1, epochs=3, steps_per_epoch=2, warmup_epochs=3)
