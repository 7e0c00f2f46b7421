"""What each method costs over cross-entropy: `python -m benchmarks.method_cost [--method=NAME ...]`.

Steps of the method and of cross-entropy in turns, on the same network and batch, each in a process of its own whose
peak memory is given. Beside the ratio stands what theory says: a pass with gradient costs three units, one without
costs one. Mixup, CutMix and Cutout are timed as part of the step; in training they work beside it, in the pipeline.
"""

from absl import app, flags

from benchmarks.results import record
from benchmarks.turns import Timed, take_turns

TEACHER = "another network of the same kind"  # or the name of one of another kind
KD = ("Distillation", {"teacher": TEACHER})
# A list of methods each.
CASES = {
    "CSKD": [("CSKD", {})],
    "CSKD, in the batch": [("CSKD", {"in_batch": True})],
    "CSKD, partner without update": [("CSKD", {"partner_batch_norm": "train_no_update"})],
    "CSKD, partner at inference": [("CSKD", {"partner_batch_norm": "inference"})],
    "CSKD-E": [("CSKD", {"clean_weight": 1.0})],
    "CSKD, ICLR form": [("CSKD", {"clean_weight": 1.0, "form": "iclr"})],
    "LabelSmoothing": [("LabelSmoothing", {})],
    "MaxEntropy": [("MaxEntropy", {})],
    "AdaCos": [("AdaCos", {})],
    "VirtualSoftmax": [("VirtualSoftmax", {})],
    "DDGSD": [("DDGSD", {})],
    "BYOT": [("BYOT", {})],
    "Mixup": [("Mixup", {})],
    "CutMix": [("CutMix", {})],
    "Cutout": [("Cutout", {})],
    "Mixup + CSKD": [("Mixup", {}), ("CSKD", {})],
    "Distillation": [KD],
    "Distillation + CSKD": [KD, ("CSKD", {})],
    "PSKD": [("PSKD", {})],
    "PSKD, from the network": [("PSKD", {"source": "network"})],
    "TFKD, reg": [("TFKD", {})],
    "TFKD, self": [("TFKD", {"teacher": TEACHER})],
    "ZipfLabelSmoothing": [("ZipfLabelSmoothing", {})],
    "USKD": [("USKD", {})],
    "DLB": [("DLB", {})],
}
METHOD = flags.DEFINE_multi_enum("method", list(CASES), list(CASES), "Which methods.")
NETWORK = flags.DEFINE_string("network", "preact_resnet18", "One of cskd_tf.networks; the teacher is another of it.")
WIDTH = flags.DEFINE_integer("width", None, "Channels of the first stage; by default as published.")
IMAGES = flags.DEFINE_integer("images", 64, "Images per step, partners not counted.")
STEPS = flags.DEFINE_integer("steps", 5, "Steps of each kind that are timed.")


def method_step(descriptions: list, network: str, width: int | None, images: int):
    import cskd_tf  # before TensorFlow, whose kernels it chooses

    import tensorflow as tf  # isort: skip

    def build(name=network):
        return cskd_tf.networks.build(name, num_classes=100, input_shape=(32, 32, 3), width=width)

    methods = []
    for name, arguments in descriptions:
        kind = arguments.get("teacher")
        teacher = {"teacher": build(network if kind == TEACHER else kind)} if kind else {}
        methods.append(getattr(cskd_tf.methods, name)(**{**arguments, **teacher}))
    model = cskd_tf.SelfDistiller(build(), methods, num_examples=50_000)
    model.compile(cskd_tf.optimizers.SGD(0.01))
    model.optimizer.build(model.trainable_variables)
    for method in model.composition.terms:
        method.on_epoch_begin(1, epochs=2)
    views = [view.name for view in model.composition.views]
    drawn = tf.random.stateless_normal((len(views), images, 32, 32, 3), [0, 0])
    numbers = dict.fromkeys(("index", "position", "previous_position"), tf.range(images, dtype=tf.int64))
    batch = {**dict(zip(views, tf.unstack(drawn), strict=True)), **numbers}
    labels = tf.repeat(tf.range(images // 2), 2)

    @tf.function(autograph=False)
    def step():
        mixed = batch
        for mixer in model.composition.mixing:
            mixed, targets = mixer.mix(mixed, mixed.get("targets", tf.one_hot(labels, 100)), seed=tf.constant([0, 1]))
            mixed["targets"] = targets
        return model.train_step((mixed, labels))["loss"]

    return lambda: float(step())


def theory(descriptions: list) -> float:
    """Units of a step over the three of cross-entropy."""
    from cskd_tf.methods.cost import over_cross_entropy

    return over_cross_entropy([{"name": name, **arguments} for name, arguments in descriptions])


def compared(descriptions: list, *, network: str, width: int | None, images: int, rounds: int) -> tuple[Timed, Timed]:
    """Steps of cross-entropy and of a list of methods, in turns."""
    lists = {"cross_entropy": [], "method": descriptions}
    programs = {kind: (method_step, (each, network, width, images)) for kind, each in lists.items()}
    timed = take_turns(programs, rounds=rounds)
    return timed["cross_entropy"], timed["method"]


def measure(case: str) -> dict:
    step = {"network": NETWORK.value, "width": WIDTH.value, "images": IMAGES.value}
    plain, method = compared(CASES[case], **step, rounds=STEPS.value)
    return {
        "benchmark": "method_cost",
        "method": case,
        "network": NETWORK.value,
        "images": IMAGES.value,
        "over_cross_entropy": round(method.times_as_slow_as(plain), 3),
        "theory": round(theory(CASES[case]), 3),
        "peak_memory_over_cross_entropy": round(method.peak_memory / plain.peak_memory, 3),
        "peak_memory_mib": method.peak_memory,
        "cross_entropy_peak_memory_mib": plain.peak_memory,
    }


def main(argv):
    del argv
    for case in METHOD.value:
        record("method_cost", measure(case), per_cpu=True)


if __name__ == "__main__":
    app.run(main)
