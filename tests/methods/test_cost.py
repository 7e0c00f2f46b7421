import pytest

from cskd_tf.methods.cost import over_cross_entropy, passes

TEACHER = {"name": "Distillation", "teacher": "a run that need not be there"}


@pytest.mark.parametrize(
    ("listed", "own", "ratio"),
    [
        ([], 3, 1),
        ([{"name": "LabelSmoothing"}, {"name": "Mixup"}], 3, 1),
        ([{"name": "CSKD", "in_batch": True}], 3, 1),
        ([{"name": "CSKD", "clean_weight": 1.0}], 3 + 1 + 1, 5 / 3),
        ([{"name": "CSKD", "clean_weight": 1.0, "form": "iclr"}], 3 + 1 + 3, 7 / 3),
        ([{"name": "PSKD"}], 3, 1),
        ([{"name": "PSKD", "source": "network"}], 3 + 1, 4 / 3),
        ([TEACHER], 3, 4 / 3),
        ([TEACHER, {"name": "CSKD"}], 3 + 1, 5 / 3),
        ([{"name": "TFKD", "teacher": None}], 3, 1),
    ],
)
def test_passes_by_hand(listed, own, ratio):
    assert passes(listed) == own
    assert over_cross_entropy(listed) == pytest.approx(ratio)


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match="Unknown method"):
        passes([{"name": "CSDK"}])
