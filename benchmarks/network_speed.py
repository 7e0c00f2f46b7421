"""A training step of each network, here and in PyTorch: `python -m benchmarks.network_speed [--network=NAME ...]`.

Cross-entropy and SGD on one batch, in turns: with the fused batch norm, with Keras' own, and, where PyTorch is
installed, as a plain PyTorch step (`--torch_format=channels_last` for its other memory layout). Each runs in a process
of its own, whose peak memory is given; a JSON line per network and precision, which says on which kernels TensorFlow
ran: oneDNN's "on" or "off", as cskd_tf leaves it or TF_ENABLE_ONEDNN_OPTS has it, with ONEDNN_MAX_CPU_ISA as an older
CPU. PyTorch's oneDNN obeys that variable too, and its own kernels ATEN_CPU_CAPABILITY.
"""

import importlib.util
import os
import statistics

from absl import app, flags

from benchmarks import results
from benchmarks.turns import take_turns

SMALL = {"image": 32, "classes": 100}
LARGE = {"image": 224, "classes": 200}
# The papers' batches, 128 at 32 pixels (64 for PyramidNet) and 32 at 224, where three processes with one each fit into
# 24 GiB, and else a part of it.
SETTINGS = {
    "preact_resnet10": {**SMALL, "batch": 128},
    "preact_resnet18": {**SMALL, "batch": 128},
    "preact_resnet34": {**SMALL, "batch": 128},
    "resnet101_cifar": {**SMALL, "batch": 64},
    "resnext29_8x64d": {**SMALL, "batch": 32},
    "densenet121_cifar": {**SMALL, "batch": 64},
    "pyramidnet200": {**SMALL, "batch": 16},
    "resnet10": {**LARGE, "batch": 32},
    "resnet18": {**LARGE, "batch": 32},
    "resnet34": {**LARGE, "batch": 32},
    "resnet50": {**LARGE, "batch": 16},
    "resnet101": {**LARGE, "batch": 8},
    "resnet152": {**LARGE, "batch": 8},
    "resnext50_32x4d": {**LARGE, "batch": 16},
    "resnext101_32x4d": {**LARGE, "batch": 8},
    "densenet121": {**LARGE, "batch": 16},
}
NETWORK = flags.DEFINE_multi_enum("network", list(SETTINGS), list(SETTINGS), "Which networks.")
PRECISION = flags.DEFINE_multi_enum("precision", ["float32", "bfloat16"], ["float32", "bfloat16"], "Which precisions.")
BATCH = flags.DEFINE_integer("batch", None, "Images per step; by default as in SETTINGS.")
WIDTH = flags.DEFINE_integer("width", None, "Channels of the first stage; by default as published.")
ROUNDS = flags.DEFINE_integer("rounds", 3, "Steps of each kind that are timed.")
AGAINST = flags.DEFINE_multi_enum("against", ["keras", "torch"], ["keras", "torch"], "What stands beside our step.")
TORCH_FORMAT = flags.DEFINE_enum("torch_format", "contiguous_format", ["contiguous_format", "channels_last"], "Layout.")


def keras_step(name: str, precision: str, setting: dict, fused: bool = True, jit: bool = False):
    import cskd_tf  # before TensorFlow, whose kernels it chooses

    import keras  # isort: skip
    import tensorflow as tf

    from cskd_tf.networks.layers import BatchNormalization

    keras.config.set_dtype_policy(precision if precision == "float32" else f"mixed_{precision}")
    if not fused:
        BatchNormalization.call = keras.layers.BatchNormalization.call
    shape = (setting["image"], setting["image"], 3)
    classes, width = setting["classes"], setting.get("width")
    network = cskd_tf.networks.build(name, num_classes=classes, input_shape=shape, width=width)
    model = cskd_tf.SelfDistiller(network)
    model.compile(cskd_tf.optimizers.SGD(0.01, momentum=0.9, weight_decay=1e-4))
    model.optimizer.build(model.trainable_variables)
    images = tf.random.stateless_normal((setting["batch"], *shape), [0, 0])
    labels = tf.range(setting["batch"]) % setting["classes"]
    step = tf.function(model.train_step, autograph=False, jit_compile=jit)
    return lambda: float(step((images, labels))["loss"])


def torch_step(name: str, precision: str, setting: dict, layout: str):
    import torch

    from tests.networks import torch_networks

    memory_format = getattr(torch, layout)
    width = {"width": setting["width"]} if "width" in setting else {}
    network = torch_networks.NETWORKS[name](classes=setting["classes"], **width).to(memory_format=memory_format)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    images = torch.randn(setting["batch"], 3, setting["image"], setting["image"]).to(memory_format=memory_format)
    labels = torch.arange(setting["batch"]) % setting["classes"]

    def step():
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            logits = network(images)
        loss = torch.nn.functional.cross_entropy(logits.float(), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def measure(name: str, precision: str) -> dict:
    chosen = {"batch": BATCH.value, "width": WIDTH.value}
    setting = SETTINGS[name] | {key: value for key, value in chosen.items() if value}
    programs = {"fused": (keras_step, (name, precision, setting, True))}
    if "keras" in AGAINST.value:
        programs["keras"] = (keras_step, (name, precision, setting, False))
    if "torch" in AGAINST.value and importlib.util.find_spec("torch"):
        programs["torch"] = (torch_step, (name, precision, setting, TORCH_FORMAT.value))
    timed = take_turns(programs, rounds=ROUNDS.value)
    result = {"benchmark": "network_speed", "network": name, "precision": precision, **setting}
    result["torch_kernels"] = os.environ.get("ATEN_CPU_CAPABILITY", "default")
    for kind, each in timed.items():
        result[f"{kind}_images_per_second"] = round(setting["batch"] / statistics.median(each.seconds), 1)
        result[f"{kind}_peak_memory_mib"] = each.peak_memory
    for kind in set(timed) - {"fused"}:
        result[f"times_as_fast_as_{kind}"] = round(timed[kind].times_as_slow_as(timed["fused"]), 3)
    return result


def main(argv):
    del argv
    for name in NETWORK.value:
        for precision in PRECISION.value:
            results.record("network_speed", measure(name, precision), per_cpu=True)


if __name__ == "__main__":
    app.run(main)
