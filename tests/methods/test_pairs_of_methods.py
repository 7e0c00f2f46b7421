"""Every pair of methods, in either order: it trains, or is refused with the reason."""

import functools
import itertools

import keras
import numpy as np
import pytest

from cskd_tf import methods
from cskd_tf.data import paired_dataset
from cskd_tf.methods import METHODS, Composition
from tests.helpers import compiled, staged_network

make_network = functools.partial(staged_network, (4, 4, 1), classes=3)
MAKE = METHODS | {"Distillation": lambda: methods.Distillation(teacher=make_network())}
ONE_LABEL = ("AdaCos", "USKD", "VirtualSoftmax", "ZipfLabelSmoothing")
# Pairs that cannot work, and why; all others train.
REFUSED = {
    ("AdaCos", "VirtualSoftmax"): "at most one method that replaces the classifier head",
    **dict.fromkeys(itertools.product(ONE_LABEL, ("CutMix", "Mixup")), "images of one label beside"),
    **dict.fromkeys(
        itertools.product(("AdaCos", "VirtualSoftmax"), ("ZipfLabelSmoothing",)),
        "ranking='logits' beside a method that",
    ),
    **dict.fromkeys(itertools.product(("CutMix", "Mixup"), ("DLB",)), "come again with the label they had"),
    **dict.fromkeys(itertools.product(("DLB",), ("Distillation", "TFKD")), "all of the cross-entropy beside DLB"),
    **dict.fromkeys(itertools.product(("CutMix", "Cutout", "Mixup"), ("PSKD",)), "images that PS-KD can refine"),
}


def trained():
    """Those beside CS-KD are thorough tests, the others the papers'; every second from the end of the alphabet."""
    for number, pair in enumerate(itertools.combinations(sorted(METHODS), 2)):
        if frozenset(pair) not in map(frozenset, REFUSED):
            marks = [pytest.mark.thorough if "CSKD" in pair else pytest.mark.papers]
            yield pytest.param(pair[:: -1 if number % 2 else 1], id="+".join(pair), marks=marks)


@pytest.mark.parametrize("pair", list(trained()))
def test_every_other_pair_of_methods_trains(pair, images_and_labels):
    images, labels = images_and_labels
    chosen = [MAKE[name]() for name in pair]
    Composition(chosen[::-1])
    keras.utils.set_random_seed(0)
    model = compiled(make_network(), chosen, learning_rate=0.01, num_examples=22)
    data = paired_dataset(images, labels, batch_size=22, seed=0, epochs=1, **model.data_options)
    logs = model.train_step(next(iter(data)))
    terms = {name: float(value) for name, value in logs.items() if name != "loss"}
    assert set(terms) == set(model.composition.term_names)
    assert float(logs["loss"]) == pytest.approx(sum(terms.values()), rel=1e-5, abs=1e-5)
    assert all(np.isfinite(weight).all() for weight in model.get_weights())


@pytest.mark.parametrize(("pair", "reason"), REFUSED.items(), ids=map("+".join, REFUSED))
@pytest.mark.parametrize("step", [1, -1], ids=["", "reversed"])
def test_pairs_of_methods_that_cannot_work_are_refused_with_the_reason(pair, reason, step):
    with pytest.raises(ValueError, match=reason):
        Composition([MAKE[name]() for name in pair[::step]])
