import pytest

from cskd_tf.methods import BYOT, CSKD, AdaCos, LabelSmoothing


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: CSKD(in_batch="false"), "in_batch"),
        (lambda: BYOT(squared="no"), "squared"),
        (lambda: LabelSmoothing(over_others=1), "over_others"),
        (lambda: AdaCos(scale_at_evaluation=None), "scale_at_evaluation"),
    ],
)
def test_what_is_neither_true_nor_false_is_refused(make, name):
    with pytest.raises(ValueError, match=f"{name} to be True or False. Received: {name}="):
        make()
