"""Runs a program until its second training step, and prints when it was where, as a JSON line of Unix times.

    python -m benchmarks.stamped command [ARGUMENT ...]
    python -m benchmarks.stamped plain

The first is `python train_main.py ARGUMENT ...`; the second, the same network as that of configs/digits.py in as little
Keras as there can be: cross-entropy of arrays. benchmarks/first_step.py compares them.
"""

import json
import os
import sys
import time

BATCH = 32  # as configs/digits.py has it
_times: dict[str, float] = {}


def stamp_steps() -> None:
    """Lets Keras' `fit` note when its first two steps begin and end; then the process ends, and writes nothing more."""
    import keras

    _times["imported"] = time.time()
    begin, end = keras.callbacks.CallbackList.on_train_batch_begin, keras.callbacks.CallbackList.on_train_batch_end

    def stamped_begin(callbacks, batch, logs=None):
        begin(callbacks, batch, logs)
        _times[f"step_{batch}_begins"] = time.time()

    def stamped_end(callbacks, batch, logs=None):
        _times[f"step_{batch}_ends"] = time.time()
        end(callbacks, batch, logs)
        if batch == 1:
            print(json.dumps(_times), flush=True)
            os._exit(0)

    keras.callbacks.CallbackList.on_train_batch_begin = stamped_begin
    keras.callbacks.CallbackList.on_train_batch_end = stamped_end


def command(arguments: list[str]) -> None:
    import train_main
    from configs import command_line

    with command_line.quiet():
        from cskd_tf.runs import cli  # noqa: F401  (what the command imports before all else)
    stamp_steps()
    sys.argv = ["train_main.py", *arguments]
    train_main.run()


def make_network():
    import cskd_tf

    return cskd_tf.networks.build("preact_resnet10", num_classes=10, input_shape=(16, 16, 1), width=16)


def plain() -> None:
    import cskd_tf  # before TensorFlow, whose kernels it chooses  # noqa: F401

    import keras  # isort: skip
    import numpy as np

    stamp_steps()
    network = make_network()
    network.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    network.fit(np.zeros((2 * BATCH, 16, 16, 1)), np.zeros(2 * BATCH), batch_size=BATCH, verbose=0)


if __name__ == "__main__":
    if sys.argv[1] == "plain":
        plain()
    else:
        command(sys.argv[2:])
