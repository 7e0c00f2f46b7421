"""What a list of methods amounts to."""

import pytest

from cskd_tf.data.batches.views import Needs
from cskd_tf.methods import BYOT, CSKD, DDGSD, PSKD, AdaCos, Composition, Distillation, LabelSmoothing, Mixup
from tests.helpers import staged_network


def test_the_empty_list_is_cross_entropy():
    composition = Composition()
    assert composition.needs == Needs()
    assert [view.name for view in composition.views] == ["image"]
    assert composition.term_names == ["cross_entropy"]
    assert (composition.hard_weight, composition.head, composition.following_epochs) == (1, None, [])


def test_methods_of_all_kinds_are_told_apart():
    mixup, byot, cskd, smoothing = Mixup(), BYOT(), CSKD(clean_weight=1.0), LabelSmoothing()
    composition = Composition([mixup, byot, cskd, smoothing])
    assert composition.mixing == [mixup]
    assert composition.terms == composition.attachable == [byot, cskd, smoothing]
    assert composition.needs == Needs(views=("partner", "clean"), mixing=(mixup,))
    assert composition.mixes_labels
    assert composition.term_names == [
        "cross_entropy", "exits_cross_entropy", "exits_distillation", "exits_features", "class_wise", "sample_wise",
    ]  # fmt: skip


def test_a_head_is_attached_and_adds_no_term():
    head = AdaCos()
    composition = Composition([head, PSKD()])
    assert composition.head is head
    assert composition.attachable[0] is head
    assert head not in composition.terms
    assert composition.needs.extras == ("index",)
    assert composition.following_epochs == ["PSKD"]


def test_shares_of_the_cross_entropy_are_multiplied_and_labelled_views_have_their_own():
    teacher = staged_network((2, 2, 1), classes=3)
    composition = Composition([Distillation(teacher=teacher, alpha=0.75), DDGSD()])
    assert composition.hard_weight == 0.25
    assert composition.term_names[:2] == ["cross_entropy", "second_view_cross_entropy"]


def test_mixing_methods_are_made_of_their_settings_and_compare_by_them():
    assert Mixup(alpha=0.4) == Mixup(alpha=0.4) != Mixup()
    # As Keras saved them when every method was one of its layers.
    config = {"name": "mixup", "trainable": True, "dtype": "float32", "alpha": 0.4}
    assert Mixup.from_config(config) == Mixup(alpha=0.4)
    with pytest.raises(TypeError):
        Mixup(0.4)
