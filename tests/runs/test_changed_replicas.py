"""A run goes on, on another number of replicas, as if it had been there from the start."""

import numpy as np
import pytest
import tensorflow as tf

from cskd_tf.evaluation.predictions import Predictions
from cskd_tf.runs import strategies, train
from cskd_tf.runs.callbacks import Checkpoint
from cskd_tf.runs.epochs import check_replicas
from cskd_tf.runs.evaluate import load_run
from cskd_tf.runs.experiment import prepare
from cskd_tf.runs.workdir import Workdir
from tests.runs.helpers import config_of
from tests.runs.test_termination import train_and_terminate

# Three batches per epoch, of 15, 15 and 10 images: on four replicas 4, 4, 4, 3 and 3, 3, 3, 1.
CONFIG = {
    "network.name": "tests.runs.helpers:small_network", "network.width": 4, "network.synchronized": True,
    "deterministic": True, "batch_size": 15, "optimizer.weight_decay": 1e-3, "export.enabled": False,
    "methods": tuple({"name": name} for name in ("AdaCos", "CSKD", "PSKD")),
}  # fmt: skip


@pytest.fixture
def train_on(replicas, monkeypatch):
    """Trains a workdir on so many replicas until so many epochs are done, and is then interrupted."""

    def train_until(epochs, workdir, *, count, **changes):
        monkeypatch.setitem(strategies.STRATEGIES, "mirrored", lambda: replicas(count))
        config = config_of({**CONFIG, "strategy": "single" if count == 1 else "mirrored", **changes})
        if epochs == config.epochs:
            train.train(config, workdir)
            return
        save = Checkpoint.save

        def save_and_stop(self, done):
            save(self, done)
            if done == epochs:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(Checkpoint, "save", save_and_stop)
            with pytest.raises(KeyboardInterrupt):
                train.train(config, workdir)

    return train_until


def state_of(workdir, epoch):
    """Every variable of a checkpoint: weights, running statistics, momentum, the methods' state, the step."""
    reader = tf.train.load_checkpoint(str(workdir.checkpoints / "last" / f"ckpt-{epoch}"))
    names = (name for name in reader.get_variable_to_shape_map() if name.endswith("VARIABLE_VALUE"))
    return {name: reader.get_tensor(name) for name in names}


def check_ends_alike(changed, unbroken):
    """After epoch 4, as the run that never changed."""
    assert changed.config() == unbroken.config()
    first, expected, state = (state_of(run, epoch) for run, epoch in ((unbroken, 3), (unbroken, 4), (changed, 4)))
    assert expected.keys() == state.keys()
    for name, values in expected.items():
        if name.startswith("optimizer/"):  # sums of gradients that nearly cancel
            np.testing.assert_allclose(state[name], values, rtol=0, atol=2e-5)
        elif values.dtype == np.float16:  # PS-KD's table, of which few are rounded to the neighbouring number
            np.testing.assert_allclose(state[name], values, rtol=2**-10, atol=1e-6, err_msg=name)
            assert (state[name] != values).mean() < 0.02, name
        else:  # weights, running statistics, AdaCos' scale, the step
            np.testing.assert_allclose(state[name], values, rtol=1e-6, atol=1e-6, err_msg=name)
    assert max(np.abs(expected[name] - first[name]).max() for name in expected if "classifier/" in name) > 0.01
    for one, two in zip(unbroken.log(), changed.log(), strict=True):
        for name in ("loss", "class_wise", "val_nll", "val_ece", "val_recall_at_1"):
            assert two[name] == pytest.approx(one[name], rel=1e-6, abs=2e-6)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """A run on one replica."""
    workdir = Workdir(tmp_path_factory.mktemp("unbroken"))
    train.train(config_of({**CONFIG, "strategy": "single"}), workdir)
    return workdir


@pytest.mark.slow
def test_a_run_ends_as_one_that_never_changed(train_on, unbroken, tmp_path):
    changed = Workdir(tmp_path / "changed")
    counts = [1, 2, 1, 4]
    for epochs, count in enumerate(counts, 1):
        train_on(epochs, changed, count=count, verbose=0 if epochs < 4 else 2)
    assert [entry["replicas"] for entry in changed.log()] == counts
    check_ends_alike(changed, unbroken)
    # It is evaluated where it is now.
    elsewhere = load_run(changed, config=config_of({**CONFIG, "strategy": "mirrored"}))
    assert elsewhere.distribution.num_replicas == 4
    np.testing.assert_allclose(
        elsewhere.predict("test").logits, Predictions.load(unbroken.predictions("test")).logits, atol=1e-5
    )


@pytest.mark.slow
def test_a_run_that_changes_within_epochs_ends_as_one_that_never_changed(replicas, unbroken, monkeypatch, tmp_path):
    changed = Workdir(tmp_path / "changed")
    # Of 3 steps an epoch: after the first and the second of one, and after the last, whose epoch ends elsewhere.
    for count, step in ((1, 2), (2, 4), (4, 8), (1, 9), (2, None)):
        monkeypatch.setitem(strategies.STRATEGIES, "mirrored", lambda count=count: replicas(count))
        config = config_of({**CONFIG, "strategy": "single" if count == 1 else "mirrored"})
        if step is None:
            train.train(config, changed)
        else:
            train_and_terminate(config, changed, step=step, part="step")
    assert [entry["replicas"] for entry in changed.log()] == [2, 4, 2, 2]
    check_ends_alike(changed, unbroken)


@pytest.mark.slow
def test_replicas_with_statistics_of_their_own_end_an_epoch_alike_when_it_was_interrupted(
    replicas, monkeypatch, tmp_path
):
    """After its last step, when each replica still had its own running statistics: those of the first count."""
    monkeypatch.setitem(strategies.STRATEGIES, "mirrored", lambda: replicas(2))
    changes = {"strategy": "mirrored", "network.synchronized": False, "epochs": 1, "optimizer.ema_momentum": 0.5}
    config = config_of({**CONFIG, "methods": (), **changes})
    whole, parts = Workdir(tmp_path / "whole"), Workdir(tmp_path / "parts")
    apart = []
    save = Checkpoint.save_within_epoch

    def noting(self, *arguments):
        running = self._model.network.non_trainable_variables[0]
        apart.append(np.ptp([part.numpy() for part in self._model._on_replicas(running)], axis=0).max())
        return save(self, *arguments)

    monkeypatch.setattr(Checkpoint, "save_within_epoch", noting)
    train.train(config, whole)
    train_and_terminate(config, parts, step=3, part="step")
    assert apart[0] > 1e-3
    train.train(config, parts)
    expected, state = state_of(whole, 1), state_of(parts, 1)
    assert expected.keys() == state.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(state[name], values, err_msg=name)
    (logged,), (log,) = whole.log(), parts.log()
    assert {**log, "seconds": 0} == {**logged, "seconds": 0}
    assert parts.metrics() == whole.metrics()


@pytest.mark.parametrize(
    ("begun", "changes"),
    [
        ({}, {"strategy": "tpu"}),
        ({"strategy": "tpu"}, {"strategy": "mirrored"}),
        ({"data.pairing.replica_local": True}, {"strategy": "mirrored"}),
    ],
)
def test_a_strategy_on_which_the_order_depends_stays(begun, changes, tmp_path):
    workdir = Workdir(tmp_path)
    workdir.claim(config_of(begun))
    workdir.check_owner(config_of({**begun, "verbose": 2}))
    with pytest.raises(ValueError, match=r"strategy: '\w+' there, '\w+' here \(the order of the images depends on it"):
        workdir.check_owner(config_of({**begun, **changes}))


@pytest.mark.thorough
@pytest.mark.parametrize("log", [{"epoch": 1, "replicas": 2}, {"epoch": 1}])
def test_shards_are_not_dealt_out_among_another_number_of_replicas(log, replicas, monkeypatch, tmp_path):
    monkeypatch.setitem(strategies.STRATEGIES, "mirrored", lambda: replicas(4))
    workdir = Workdir(tmp_path)
    built = prepare(config_of({"strategy": "mirrored", "data.pairing.replica_local": True}))
    workdir.append_log(log)
    if "replicas" not in log:  # as logs were before
        check_replicas(built, workdir, done=1)
        return
    check_replicas(built, workdir, done=0)
    check_replicas(built, workdir, done=1, under_way={"metrics": [[0.0] * 4]})
    # Of an epoch that is not in the log yet, too.
    for done, under_way in ((1, None), (0, {"metrics": [[0.0] * 2]})):
        with pytest.raises(ValueError, match=r"Expected the 2 replicas .* Received: 4 replicas"):
            check_replicas(built, workdir, done=done, under_way=under_way)


def test_batch_norm_over_parts_of_another_size_is_said(tmp_path, caplog):
    workdir = Workdir(tmp_path)
    workdir.append_log({"epoch": 1, "replicas": 2})
    built = prepare(config_of({**CONFIG, "network.synchronized": False}))
    with caplog.at_level("WARNING", logger="absl"):
        check_replicas(built, workdir, done=1)
    assert "batch norm averages over 15 images at once, and not over 7 as before" in caplog.text
