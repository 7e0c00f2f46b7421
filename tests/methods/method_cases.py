"""Methods, alone and together, beside their loss in numpy: what test_method_steps.py compares."""

import dataclasses
from collections.abc import Callable, Mapping

import keras
import numpy as np

from cskd_tf.methods import (
    BYOT,
    CSKD,
    DDGSD,
    DLB,
    PSKD,
    TFKD,
    USKD,
    AdaCos,
    CutMix,
    Cutout,
    Distillation,
    LabelSmoothing,
    MaxEntropy,
    Method,
    Mixup,
    VirtualSoftmax,
    ZipfLabelSmoothing,
)
from tests.helpers import softmax
from tests.methods import numpy_losses as losses
from tests.methods.numpy_losses import CLASSES, IMAGES, TABLE, ce, forward, log_softmax, smoothed


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """Methods, and what a step with them has to be.

    Attributes:
        methods: makes them.
        loss: in numpy.
        network: makes the network.
        images: how many the batch has, and how many on two replicas: a method of pairs keeps a pair on one.
        mixed: the pipeline has mixed, so the targets come with the batch.
        kept: variables of the first method and what they hold before the step.
        together: of methods beside each other, of which no replica and no compiler knows.
    """

    methods: Callable[[], list[Method]]
    loss: Callable
    network: Callable[[], keras.Model] = losses.make_network
    images: int = IMAGES
    images_on_two_replicas: int = IMAGES
    mixed: bool = False
    kept: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    together: bool = False


def positions(images):
    """Where so many images stand in a run, as the pipeline counts, and those of the step before."""
    return {"position": np.arange(16, 16 + images), "previous_position": np.arange(1, 1 + images)}


def keep(model, case):
    """Gives the first method what the case says it holds before a step."""
    for name, values in case.kept.items():
        getattr(model.methods[0], name).assign(values)


def cskd(**options):
    return CSKD(temperature=3, weight=2, **options)


# In further forms, and those that work in the pipeline, which have no loss in numpy here.
FURTHER = {
    "CSKD, two partners": lambda: [cskd(partners=2)],
    "CSKD, partners that leave the statistics": lambda: [cskd(partner_batch_norm="train_no_update")],
    "CSKD, partners at inference": lambda: [cskd(partner_batch_norm="inference")],
    "PSKD stored, top 2": lambda: [PSKD(alpha=0.4, top_k=2)],
    "Mixup": lambda: [Mixup()],
    "CutMix": lambda: [CutMix(probability=0.5, coin="image")],
    "Cutout": lambda: [Cutout(size=1)],  # of images of 2 x 2 pixels
}


def distillation(make_teacher=losses.make_teacher):
    return Distillation(teacher=make_teacher(), alpha=0.7, temperature=4)


def byot(**options):
    return BYOT(alpha=0.3, temperature=3, feature_weight=0.5, **options)


def tfkd(**options):
    return TFKD(alpha=0.4, temperature=5, correct=0.9, multiplier=50, **options)


def ddgsd_beside_distillation_loss(weights, start, batch, targets, labels):
    second = ce(forward(weights, batch["second_view"])[1], targets)
    return losses.distillation_loss(weights, start, batch, targets, labels) + 0.3 * second


def ddgsd_beside_virtual_softmax_loss(weights, start, batch, targets, labels):
    views = ({"image": batch[view]} for view in ("image", "second_view"))
    return sum(losses.virtual_loss(weights, start, view, targets, labels) for view in views)


def pskd_beside_both_loss(weights, start, batch, targets, labels):
    """TF-KD's, but for the targets of the network's own cross-entropy, of which 0.6 are left."""
    refined = 0.6 * smoothed(targets) + 0.4 * losses.at_the_start(start, batch)
    own = 0.6 * ce(forward(weights, batch["image"])[1], refined - targets)
    return losses.tfkd_loss(losses.tfkd_reg_of_the_paper)(weights, start, batch, targets, labels) + own


def pskd_beside_ddgsd_loss(weights, start, batch, targets, labels):
    refined = 0.6 * targets + 0.4 * losses.at_the_start(start, batch)
    return losses.ddgsd_loss(weights, start, batch, refined, labels)


CASES = {
    "cross-entropy": Case(methods=lambda: [], loss=losses.logits_loss(lambda z, t, y: ce(z, t))),
    "CSKD": Case(methods=lambda: [cskd()], loss=losses.class_wise_loss),
    "CSKD-E": Case(
        methods=lambda: [cskd(clean_weight=0.5)], loss=lambda *args: losses.class_wise_loss(*args, clean=0.5)
    ),
    "CSKD-ICLR": Case(
        methods=lambda: [cskd(clean_weight=0.5, form="iclr")],
        loss=lambda *args: losses.class_wise_loss(*args, clean=0.5, iclr=True),
    ),
    "CSKD in the batch": Case(
        methods=lambda: [cskd(in_batch=True)], loss=losses.in_batch_loss, images=6, images_on_two_replicas=4
    ),
    "LabelSmoothing": Case(
        methods=lambda: [LabelSmoothing(epsilon=0.2)], loss=losses.logits_loss(lambda z, t, y: ce(z, smoothed(t)))
    ),
    "LabelSmoothing over others": Case(
        methods=lambda: [LabelSmoothing(epsilon=0.2, over_others=True)],
        loss=losses.logits_loss(lambda z, t, y: ce(z, np.where(t == 1, 0.8, 0.2 / (CLASSES - 1)))),
    ),
    "MaxEntropy": Case(
        methods=lambda: [MaxEntropy(weight=0.7)],
        loss=losses.logits_loss(lambda z, t, y: ce(z, t) + 0.7 * (softmax(z) * log_softmax(z)).sum(axis=1)),
    ),
    "AdaCos": Case(methods=lambda: [AdaCos()], loss=losses.adacos_loss),
    "VirtualSoftmax": Case(methods=lambda: [VirtualSoftmax()], loss=losses.virtual_loss),
    "DDGSD": Case(methods=lambda: [DDGSD(temperature=3, weight=2, feature_weight=0.5)], loss=losses.ddgsd_loss),
    "BYOT paper": Case(
        methods=lambda: [byot(form="paper")], loss=losses.byot_loss(squared=True), network=losses.make_staged_network
    ),
    "BYOT paper, not squared": Case(
        methods=lambda: [byot(form="paper", squared=False)],
        loss=losses.byot_loss(squared=False),
        network=losses.make_staged_network,
    ),
    "BYOT public": Case(
        methods=lambda: [byot(form="public")],
        loss=losses.byot_loss(squared=False, public=True),
        network=losses.make_staged_network,
    ),
    "BYOT public, squared": Case(
        methods=lambda: [byot(form="public", squared=True)],
        loss=losses.byot_loss(squared=True, public=True),
        network=losses.make_staged_network,
    ),
    "PSKD stored": Case(
        methods=lambda: [PSKD(alpha=0.4, source="stored")], loss=losses.pskd_loss(losses.stored), kept={"table": TABLE}
    ),
    "PSKD network": Case(
        methods=lambda: [PSKD(alpha=0.4, source="network")], loss=losses.pskd_loss(losses.at_the_start)
    ),
    "Distillation": Case(methods=lambda: [distillation()], loss=losses.distillation_loss),
    "KD + CS-KD": Case(methods=lambda: [distillation(), cskd()], loss=losses.both_loss),
    "TFKD reg paper": Case(methods=lambda: [tfkd(form="paper")], loss=losses.tfkd_loss(losses.tfkd_reg_of_the_paper)),
    "TFKD self paper": Case(
        methods=lambda: [tfkd(form="paper", teacher=losses.make_teacher())],
        loss=losses.tfkd_loss(losses.tfkd_self_of_the_paper),
    ),
    "TFKD reg public": Case(
        methods=lambda: [tfkd(form="public")], loss=losses.tfkd_loss(losses.tfkd_reg_of_the_public_code)
    ),
    "TFKD self public": Case(
        methods=lambda: [tfkd(form="public", teacher=losses.make_teacher())],
        loss=losses.tfkd_loss(losses.tfkd_self_of_the_public_code),
    ),
    "ZipfLabelSmoothing": Case(
        methods=lambda: [ZipfLabelSmoothing(weight=0.7, exits=2, exit_weight=0.2)],
        loss=losses.zipf_loss,
        network=losses.make_staged_network,
    ),
    "USKD": Case(
        methods=lambda: [USKD(target_weight=0.6, others_weight=0.5, weak_weight=0.3)],
        loss=losses.uskd_loss,
        network=losses.make_staged_network,
    ),
    "DLB": Case(
        methods=lambda: [DLB(temperature=3, weight=2, largest_batch=16)], loss=losses.dlb_loss, kept=losses.LAST_STEP
    ),
    "DDGSD beside Distillation": Case(
        methods=lambda: [DDGSD(temperature=3, weight=0, feature_weight=0), distillation()],
        loss=ddgsd_beside_distillation_loss,
        together=True,
    ),
    "DDGSD beside VirtualSoftmax": Case(
        methods=lambda: [VirtualSoftmax(), DDGSD(temperature=3, weight=0, feature_weight=0)],
        loss=ddgsd_beside_virtual_softmax_loss,
        together=True,
    ),
    "BYOT beside Distillation": Case(
        methods=lambda: [byot(), distillation(losses.make_staged_teacher)],
        loss=losses.byot_beside_distillation_loss,
        network=losses.make_staged_network,
        together=True,
    ),
    "PSKD beside LabelSmoothing and TFKD reg": Case(
        methods=lambda: [
            LabelSmoothing(epsilon=0.2),
            PSKD(alpha=0.4, source="network"),
            TFKD(alpha=0.4, temperature=5, correct=0.9),
        ],
        loss=pskd_beside_both_loss,
        together=True,
    ),
    "PSKD beside DDGSD": Case(
        methods=lambda: [DDGSD(temperature=3, weight=2, feature_weight=0.5), PSKD(alpha=0.4, source="network")],
        loss=pskd_beside_ddgsd_loss,
        together=True,
    ),
    "CSKD beside Mixup": Case(
        methods=lambda: [cskd(), Mixup()],
        loss=lambda weights, start, batch, targets, labels: losses.class_wise_loss(
            weights, start, batch, batch["targets"], labels
        ),
        mixed=True,
        together=True,
    ),
}
