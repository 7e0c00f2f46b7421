"""What each method costs over cross-entropy: `python -m benchmarks.method_cost [--method=NAME ...]`.

Steps of the method and of cross-entropy in turns, on the same network and batch, each in a process of its own whose
peak memory is given. Beside the ratio stands what theory says: a pass with gradient costs three units, one without
costs one. Mixup, CutMix and Cutout work in the pipeline and cost a step nothing.
"""

import json
import multiprocessing
import statistics

from absl import app, flags

from benchmarks.network_speed import receive, worker

# Arguments, and forward passes beside those of the method's views.
CASES = {
    "CSKD": ("CSKD", {}, 0),
    "CSKD in the batch": ("CSKD", {"in_batch": True}, 0),
    "CSKD, inference partner": ("CSKD", {"partner_batch_norm": "inference"}, 0),
    "CSKD-E": ("CSKD", {"clean_weight": 1.0}, 0),
    "CSKD, ICLR": ("CSKD", {"clean_weight": 1.0, "form": "iclr"}, 0),
    "LabelSmoothing": ("LabelSmoothing", {}, 0),
    "MaxEntropy": ("MaxEntropy", {}, 0),
    "AdaCos": ("AdaCos", {}, 0),
    "VirtualSoftmax": ("VirtualSoftmax", {}, 0),
    "DDGSD": ("DDGSD", {}, 0),
    "BYOT": ("BYOT", {}, 0),
    "Distillation": ("Distillation", {"teacher": None}, 1),
    "PSKD": ("PSKD", {}, 0),
    "PSKD, network": ("PSKD", {"source": "network"}, 1),
    "TFKD": ("TFKD", {}, 0),
}
METHOD = flags.DEFINE_multi_enum("method", list(CASES), list(CASES), "Which methods.")
STUDENT = flags.DEFINE_string("student", "preact_resnet18", "One of cskd_tf.networks; the teacher is another of it.")
IMAGES = flags.DEFINE_integer("images", 64, "Images a step, partners not counted.")
STEPS = flags.DEFINE_integer("steps", 5, "Steps of each kind that are timed.")


def method_step(name: str | None, arguments: dict, network: str, images: int):
    import tensorflow as tf

    import cskd_tf

    def build():
        return cskd_tf.networks.build(network, num_classes=100, input_shape=(32, 32, 3))

    if "teacher" in arguments:
        arguments = {**arguments, "teacher": build()}
    methods = [] if name is None else [getattr(cskd_tf.methods, name)(**arguments)]
    model = cskd_tf.SelfDistiller(build(), methods, num_examples=50_000)
    model.compile(cskd_tf.optimizers.SGD(0.01))
    model.optimizer.build(model.trainable_variables)
    views = ("image", *model.data_options["views"])
    drawn = tf.random.stateless_normal((len(views), images, 32, 32, 3), [0, 0])
    batch = {**dict(zip(views, tf.unstack(drawn), strict=True)), "index": tf.range(images, dtype=tf.int64)}
    labels = tf.repeat(tf.range(images // 2), 2)
    step = tf.function(model.train_step, autograph=False)
    return lambda: float(step((batch, labels))["loss"])


def theory(name: str, arguments: dict, passes: int) -> float:
    """Units of a step over the three of cross-entropy."""
    from cskd_tf import methods

    if "teacher" in arguments:
        return (3 + passes) / 3
    views = getattr(methods, name)(**arguments).views
    return (3 + passes + sum(3 if view.gradient else 1 for view in views)) / 3


def measure(case: str) -> dict:
    name, arguments, passes = CASES[case]
    spawn = multiprocessing.get_context("spawn")
    workers = {}
    for kind, settings in (("cross_entropy", (None, {})), ("method", (name, arguments))):
        pipe, theirs = spawn.Pipe()
        process = spawn.Process(
            target=worker, args=(theirs, method_step, (*settings, STUDENT.value, IMAGES.value), {}), daemon=True
        )
        process.start()
        workers[kind] = pipe, process
        receive(pipe, process)
    seconds = {kind: [] for kind in workers}
    for _ in range(STEPS.value):
        for kind, (pipe, process) in workers.items():
            pipe.send("step")
            seconds[kind].append(receive(pipe, process))
    memory = {}
    for kind, (pipe, process) in workers.items():
        pipe.send("stop")
        memory[kind] = receive(pipe, process)
        process.join()
    ratios = [one / two for one, two in zip(seconds["method"], seconds["cross_entropy"], strict=True)]
    return {
        "benchmark": "method_cost",
        "method": case,
        "network": STUDENT.value,
        "images": IMAGES.value,
        "over_cross_entropy": round(statistics.median(ratios), 3),
        "theory": round(theory(name, arguments, passes), 3),
        "peak_memory_over_cross_entropy": round(memory["method"] / memory["cross_entropy"], 3),
        "peak_memory_mib": memory["method"],
    }


def main(argv):
    del argv
    for case in METHOD.value:
        print(json.dumps(measure(case)), flush=True)


if __name__ == "__main__":
    app.run(main)
