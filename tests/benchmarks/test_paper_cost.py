import pathlib

import pytest

from benchmarks import paper_cost
from configs import cskd_paper
from configs.asked import load_from
from cskd_tf.runs import grid


@pytest.mark.parametrize(
    ("experiment", "images", "passes", "of_teacher"),
    [
        ("mit67,resnet18,cross_entropy", 5_360, 3, 0),
        ("mit67,resnet18,cskd", 5_360, 3 + 1, 0),
        ("mit67,resnet18,iclr", 5_360, 3 + 1 + 3, 0),  # whose sample-wise term has a gradient on both sides
        ("cifar100,resnet18,mixup_iclr", 0.9 * 50_000, 3 + 1, 0),
        ("mit67,resnet18,kd_cskd", 5_360, 3 + 1, 1),
    ],
)
def test_passes_are_counted_by_what_they_compute(experiment, images, passes, of_teacher, monkeypatch):
    sizes = {"resnet18": 10.0, "preact_resnet18": 10.0, "densenet121": 1000.0}
    monkeypatch.setattr(paper_cost, "flops", lambda network, size: sizes[network])
    home = pathlib.Path("workdirs/cskd_paper")
    plan = grid.Plan(load_from(cskd_paper.__file__), folder=home, home=home, overrides={})
    (run,) = plan.add(experiment, [])
    assert paper_cost.run_flops(run, plan.runs) == pytest.approx(200 * images * (10 * passes + 1000 * of_teacher))


def test_every_table_is_counted():
    sweeps = paper_cost.every_sweep()
    assert len(sweeps) == len(set(sweeps)) == 5 * 5 + 1 + 4 * 5 + 5 + 1 + 5 + 1
