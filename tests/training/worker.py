"""What each process of test_workers.py runs: trains with methods, and writes what came of it.

python -m tests.training.worker OUTPUT CASE ...: a worker of those that TF_CONFIG names, or alone.
"""

import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import cskd_tf
from cskd_tf.errors import UserError
from cskd_tf.evaluation.metrics import summarize
from cskd_tf.methods import DLB, CutMix, Cutout, Mixup
from cskd_tf.networks.layers import BatchNormalization
from cskd_tf.runs import strategies
from cskd_tf.training.callbacks import Evaluation
from cskd_tf.training.keras_metrics import ExpectedCalibrationError
from tests.helpers import untune_data_sets
from tests.methods import numpy_losses
from tests.methods.method_cases import CASES, Case, cskd

SIZE, CLASSES, BATCH = 46, numpy_losses.CLASSES, 24


def batch_norm_network():
    inputs = keras.Input((2, 2, 1))
    hidden = BatchNormalization(synchronized=True)(keras.layers.Conv2D(3, 1)(inputs))
    hidden = keras.layers.Flatten()(keras.layers.ReLU()(hidden))
    return keras.Model(inputs, keras.layers.Dense(CLASSES)(hidden))


ALL = {
    **{name: case for name, case in CASES.items() if not case.together},
    "DLB": Case(methods=lambda: [DLB()], loss=None),  # whose case keeps fewer images than a batch has here
    "Mixup": Case(methods=lambda: [Mixup()], loss=None),
    "CutMix": Case(methods=lambda: [CutMix()], loss=None),
    "Cutout": Case(methods=lambda: [Cutout(size=1)], loss=None),
    "synchronised batch norm": Case(methods=lambda: [cskd()], loss=None, network=batch_norm_network),
}


def images_and_labels():
    generator = np.random.default_rng(0)
    return generator.normal(size=(SIZE, 2, 2, 1)).astype("float32"), np.arange(SIZE) % CLASSES


COMPILED = "by XLA: "  # before the name of a case


def train(case: Case, strategy: tf.distribute.Strategy, *, jit_compile: bool) -> dict[str, np.ndarray]:
    """Three epochs of `fit`, a last batch of 22 among them; weights, logs and predictions."""
    images, labels = images_and_labels()
    keras.utils.set_random_seed(1)
    with strategy.scope():
        model = cskd_tf.SelfDistiller(case.network(), case.methods(), num_examples=SIZE)
        metrics = ["accuracy", ExpectedCalibrationError(name="training_ece")]
        model.compile(cskd_tf.optimizers.SGD(0.1), metrics=metrics, jit_compile=jit_compile)
    options = {"batch_size": BATCH, "seed": 0, "clean": lambda pixels, seeds: pixels, **model.data_options}
    data = cskd_tf.data.paired_dataset(images, labels, **options)
    # 5 batches, of 10 and of 6: on two workers one of them has fewer.
    evaluation = Evaluation(tf.data.Dataset.from_tensor_slices((images, labels)).batch(10))
    history = model.fit(data, epochs=3, verbose=0, callbacks=[evaluation]).history
    predictions = evaluation.predictions
    expected = summarize(predictions.logits, labels, predictions.embeddings, ece_bins=20)
    assert history["val_nll"][-1] == expected["nll"]
    state = {f"weight {number} {weight.path}": weight.numpy() for number, weight in enumerate(model.weights)}
    logs = {f"log {name}": np.array(values) for name, values in history.items()}
    return {**state, **logs, "logits": predictions.logits, "labels": predictions.labels}


def train_with_arrays(strategy: tf.distribute.Strategy) -> dict[str, np.ndarray]:
    """What Keras does by itself: two epochs of arrays, with validation, and an evaluation; weights and logs."""
    images, labels = images_and_labels()
    keras.utils.set_random_seed(1)
    elsewhere = keras.metrics.SparseCategoricalAccuracy()
    with strategy.scope():
        model = cskd_tf.SelfDistiller(numpy_losses.make_network())
        optimizer = cskd_tf.optimizers.SGD(0.1)
        if model.workers.count > 1:
            with pytest.raises(UserError, match="made outside"):
                model.compile(optimizer, metrics=[elsewhere])
            with pytest.raises(UserError, match="steps_per_execution=2"):
                model.compile(optimizer, steps_per_execution=2)
        model.compile(optimizer, metrics=["accuracy"])
    options = {"batch_size": 10, "shuffle": False, "validation_data": (images[:17], labels[:17])}
    history = model.fit(images, labels, epochs=2, verbose=0, **options).history
    evaluated = model.evaluate(images, labels, batch_size=7, verbose=0, return_dict=True)
    return {
        **{f"weight {number}": weight for number, weight in enumerate(model.get_weights())},
        **{f"log {name}": np.array(values) for name, values in (history | evaluated).items()},
    }


def train_in_float16(strategy: tf.distribute.Strategy) -> dict[str, np.ndarray]:
    """Two epochs, the second step of which one image, and so one worker alone, cannot take; what each step did."""
    images, labels = images_and_labels()
    images[17] *= 1e4  # gradients beyond 65,504, logits within
    keras.utils.set_random_seed(1)
    keras.config.set_dtype_policy("mixed_float16")
    layers = [keras.Input((2, 2, 1)), keras.layers.Flatten(), keras.layers.Dense(CLASSES)]
    with strategy.scope():
        model = cskd_tf.SelfDistiller(keras.Sequential(layers))
        scaled = cskd_tf.optimizers.LossScaleOptimizer(cskd_tf.optimizers.SGD(0.1), initial_scale=2.0**12)
        model.compile(scaled)
    model.network.set_weights([weight * 1e-3 for weight in model.get_weights()])
    after = [np.concatenate([weight.ravel() for weight in model.get_weights()])]
    scales = []

    def note(batch, logs):
        after.append(np.concatenate([weight.ravel() for weight in model.get_weights()]))
        parts = strategy.experimental_local_results(model.optimizer.dynamic_scale.value)
        scales.append([float(part.numpy()) for part in parts])

    callbacks = [keras.callbacks.LambdaCallback(on_train_batch_end=note)]
    options = {"batch_size": 10, "shuffle": False, "epochs": 2, "verbose": 0, "callbacks": callbacks}
    history = model.fit(images, labels, **options).history
    keras.config.set_dtype_policy("float32")
    counts = np.array(
        [int(count.numpy()) for count in (model.step, model.optimizer.iterations, model.optimizer.skipped)]
    )
    return {"weights": np.stack(after), "scales": np.array(scales), "loss": np.array(history["loss"]), "counts": counts}


def main():
    untune_data_sets()
    strategy = strategies.make("auto")
    output, *names = sys.argv[1:]
    trained = {}
    for name in names:
        case = ALL[name.removeprefix(COMPILED)]
        trained[name] = train(case, strategy, jit_compile=name.startswith(COMPILED))
    trained["arrays"] = train_with_arrays(strategy)
    trained["float16"] = train_in_float16(strategy)
    np.savez(output, **{f"{name}: {key}": value for name in trained for key, value in trained[name].items()})


if __name__ == "__main__":
    main()
