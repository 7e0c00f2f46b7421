"""What the doctor advises: the figures that it shows, what methods cost, and how it is printed."""

import json
import re
import sys

import pytest
import rich.console
from absl import flags
from ml_collections import config_flags

import cskd_tf
from configs import advice, evidence, method_costs
from configs import image_folder as image_folder_config
from tests.findings import findings, words_of

LINES = [
    {"data": data, "network": "resnet", "experiment": experiment, "seed": seed, "test": test}
    for data, experiment, seed, test in [
        ("birds_5", "cross_entropy", 0, {"top1_error": 0.5, "ece_20": 0.25, "recall_at_1": 0.25}),
        ("birds_5", "cross_entropy", 1, {"top1_error": 0.625, "ece_20": 0.125, "recall_at_1": 0.75}),
        ("birds_5", "cross_entropy", 2, {"top1_error": 1.0, "ece_20": 1.0, "recall_at_1": 1.0}),  # without its fellow
        ("birds_5", "cskd", 0, {"top1_error": 0.25, "ece_20": 0.5, "recall_at_1": 0.5}),
        ("birds_5", "cskd", 1, {"top1_error": 0.5, "ece_20": 0.5, "recall_at_1": 0.25}),
        ("birds_60", "cross_entropy", 0, {"top1_error": 0.5, "ece_20": 0.5, "recall_at_1": 0.5}),
    ]
]


def test_published_gains_are_those_of_the_paper():
    gains = {gain.data: gain for gain in evidence.published()}
    birds = gains["caltech_birds2011"]
    assert (round(birds.images, 2), birds.classes) == (29.97, 200)
    assert birds.figures == {"top1_error": (46.0, 33.28), "ece": (18.39, 15.44), "recall_at_1": (33.92, 59.06)}
    assert birds.in_error == pytest.approx(12.72)
    assert gains["cifar100"].figures["ece"] == (15.45, 5.17)
    assert gains["imagenet2012"].figures == {"top1_error": (24.0, 23.6)}
    assert [*gains] == [
        "caltech_birds2011", "mit67", "stanford_dogs", "cifar100", "tiny_imagenet", "imagenet2012",
    ]  # fmt: skip


def test_published_gains_of_pskd_are_those_of_its_paper():
    of_cifar, of_imagenet = evidence.published_of_pskd()
    assert (of_cifar.images, of_cifar.classes, of_cifar.network) == (500, 100, "ResNet-18")
    assert of_cifar.figures == {"top1_error": (24.18, 20.82), "ece": (11.84, 1.77)}
    assert (round(of_imagenet.images), of_imagenet.network) == (1281, "ResNet-152")
    assert of_imagenet.figures == {"top1_error": (22.19, 21.41), "ece": (3.84, 2.51)}


@pytest.mark.parametrize(
    ("counts", "rows"),
    [([500] * 100, {"CIFAR-100": ["24.2 → 20.8", "11.8 → 1.8"]}), ([30] * 200, {})],
)
def test_figures_of_pskd_are_shown_where_its_paper_has_such_sizes(counts, rows, capsys):
    advice.advise(findings(counts), config_flag())
    _, _, shown = capsys.readouterr().out.partition("cross-entropy → PS-KD")
    assert bool(shown) == bool(rows)
    for label, cells_of_row in rows.items():
        (line,) = [line for line in shown.splitlines() if line.strip().startswith(label)]
        assert all(cell in line for cell in cells_of_row)
    assert ("PS-KD paper (Kim et al., 2021), Tables 1 and 4" in shown) == bool(rows)


def test_own_gains_are_means_over_the_seeds_of_both(tmp_path):
    path = tmp_path / "few_images.json"
    assert evidence.own(path) == []  # as in an installed package
    path.write_text(json.dumps(LINES))
    (gain,) = evidence.own(path)
    assert evidence.embedded(tmp_path) == []
    assert (gain.data, gain.images, gain.classes) == ("birds_5", 5, None)
    assert gain.figures == {"top1_error": (56.25, 37.5), "ece": (18.75, 50.0), "recall_at_1": (50.0, 37.5)}


def test_what_fine_tuning_came_to_is_said(tmp_path):
    path = tmp_path / "finetune.json"
    assert evidence.finetuned(path) == ""
    lines = [{"images_per_class": 10, "experiment": "cskd"}]
    lines += [
        {"images_per_class": images, "difference": "cskd - cross_entropy", "top1_error": {"mean": mean}}
        for images, mean in ((30, -0.012), (5, 0.007))
    ]
    path.write_text(json.dumps(lines))
    assert "was +0.7 points with 5, -1.2 points with 30 images per class (results/" in evidence.finetuned(path)


def test_every_method_has_a_cost():
    listed = {method["name"] for methods in method_costs.methods().values() for method in methods}
    assert listed == set(cskd_tf.methods.METHODS)


def test_gains_on_the_embedded_data_are_those_of_the_tutorial():
    gain = {gain.data: gain for gain in evidence.embedded()}["fashion_mnist"]
    assert (gain.images, gain.classes, gain.network) == (5, 10, "preact_resnet10")
    before, after = gain.figures["top1_error"]
    page = (evidence.RESULTS.parent / "docs" / "tutorial.md").read_text()
    assert re.search(rf"\| cross-entropy, 5 seeds +\| +{before:.2f} ±", page)
    assert re.search(rf"\| CSKD\(temperature=4, weight=1\), 5 seeds +\| +{after:.2f} ±", page)


@pytest.mark.parametrize(
    ("images", "classes", "expected"),
    [(30, 200, "caltech_birds2011"), (500, 100, "cifar100"), (500, 190, "tiny_imagenet"), (90, 40, "mit67")],
)
def test_the_nearest_is_nearest_in_images_and_classes(images, classes, expected):
    first, *others = evidence.nearest(evidence.published(), images=images, classes=classes, count=3)
    assert first.data == expected
    assert len(others) == 2


@pytest.mark.parametrize(
    ("images", "uneven", "said"),
    [
        (1, 1, "nothing is known that speaks for it here"),
        (5, 1, "no data of so few images per class. With the fewest, 30 (CUB-200-2011), it had 12.7 points"),
        (100, 1, "from 30 to 1,281 images per class. It had the lower top-1 error on 6 of 6 data sets"),
        (200_000, 1, "no data of so many images per class, and says nothing of its gain here. With the most, 1,281"),
        (100, 40, "of classes as uneven as these (40 to 1) it says nothing"),
    ],
)
def test_what_is_said_of_sizes(images, uneven, said):
    lines = list(evidence.verdict(evidence.published(), images=images, uneven=uneven))
    assert said in "\n".join(lines)
    assert any("classes are of similar size" in line for line in lines) == (uneven > 10)


def cells(table):
    return {row[0]: row[1:] for row in zip(*(list(column.cells) for column in table.columns), strict=True)}


def test_costs_are_those_of_the_timed_step():
    """A step of CS-KD of 0.5 s is one of cross-entropy of 0.375 s; 120 of them are 45 s."""
    rows = cells(method_costs.table(findings([9, 9], steps=120, epochs=200), step=0.5, ratios={}))
    assert rows["Cross-entropy"] == ("1.00", "0.75", "2.5")
    assert rows["CS-KD"] == ("1.33", "1", "3.3")
    assert rows["CS-KD-E"] == ("1.67", "1.2", "4.2")
    assert rows["DDGSD"] == ("2.00", "1.5", "5")
    assert rows["KD"] == ("1.33", "1", "3.3")


def test_costs_by_measured_ratios(tmp_path):
    """0.5 s at 1.25 are 0.4 s of cross-entropy, 48 s of 120; what was not measured is counted."""
    path = tmp_path / "method_cost.json"
    assert method_costs.measured("resnet18", path=path) == {}
    lines = [("CSKD", "resnet18", 1.25), ("CSKD", "resnet50", 9.0), ("DDGSD", "resnet50", 1.75), ("CSKD-E", "a", 1.5)]
    path.write_text(
        json.dumps([dict(zip(("method", "network", "over_cross_entropy"), each, strict=True)) for each in lines])
    )
    ratios = method_costs.measured("resnet18", path=path)
    assert ratios == {"cskd": 1.25, "ddgsd": 1.75, "cskd_e": 1.5}
    rows = cells(method_costs.table(findings([9, 9], steps=120, epochs=200), step=0.5, ratios=ratios))
    assert rows["Cross-entropy"] == ("1.00", "-", "0.8", "2.7")
    assert rows["CS-KD"] == ("1.33", "1.25", "1", "3.3")
    assert rows["DDGSD"] == ("2.00", "1.75", "1.4", "4.7")
    assert rows["BYOT"] == ("1.00", "-", "0.8", "2.7")


@pytest.mark.slow
def test_the_recommended_command_trains(command):
    given = (
        "--config.network.name=tests.runs.helpers:small_network", "--config.network.width=4",
        "--config.deterministic=False", "--config.batch_size=200", "--config.data.split.train_per_class=12",
        "--config.data.augment.image_size=8",
    )  # fmt: skip
    code, printed = command(*given, "--mode=doctor")
    assert code != 0  # and still it advises
    assert "batch_size from 1 to 120" in printed
    assert "It can be trained with --config.batch_size=32" in printed
    program, *words = words_of(printed.partition("to copy:\n")[2].partition("\nerror:")[0])
    assert program == "train_main.py" or words.pop(0).endswith("train_main.py")
    assert set(given[:3]) <= set(words)
    assert "--config.batch_size=32" in words
    quick = ("--config.epochs=1", "--config.verbose=0", "--config.export.enabled=False", "--config.baseline=False")
    code, printed = command(*words, *quick, "--workdir=run")
    assert code == 0, printed
    assert "CSKD(temperature=4, weight=1)" in printed


def config_flag(*arguments):
    """`--config` as `train_main.py` has it."""
    values, file = flags.FlagValues(), image_folder_config.__file__
    command = ["train_main.py", f"--config={file}", *arguments]
    config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=command)
    values(command)
    return values["config"]


def test_prose_is_wrapped_and_command_lines_are_not_broken(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train_main.py"])
    found = findings([30] * 40, side=300, held_out=100, tested=64)
    assert advice.advise(found, config_flag("--config.data.source.path=photos")) == {}
    printed = capsys.readouterr().out
    prose, _, command = printed.partition("to copy:\n")
    assert max(map(len, prose.splitlines())) <= 80
    assert "\n  --mode=sweep --grid=methods.0.weight=1,2,3,4 --choose=top1_error\n" in prose
    flag = "--config.methods=({'name': 'CSKD', 'temperature': 4.0, 'weight': 3.0},)"
    assert f'  "{flag}" \\\n' in command
    words = " ".join(prose.split())
    assert "64 test images tell an error rate near one half to 6 points" in words
    assert "those of the CS-KD paper (Yun et al., 2020), Tables 1, 5 and 6; ours are in results/" in words


def test_few_images_get_no_advice_but_what_mends_the_problem(capsys):
    problem = "Expected batch_size from 1 to 7, the number of images. Received: batch_size=128"
    found = findings([4, 3], step=None, steps=0, problem=problem)
    assert advice.advise(found, config_flag()) == {"batch_size": 2}
    printed = " ".join(capsys.readouterr().out.split())
    assert printed == (
        "7 training images are too few to say which method is for them, or to recommend a config: the fewest on which "
        "methods were compared here are 50 (results/finetune.json)."
    )
    lines = json.loads((evidence.RESULTS / "finetune.json").read_text())
    assert 10 * min(line["images_per_class"] for line in lines if "images_per_class" in line) == evidence.LEAST


def test_everything_fits_into_80_columns(capsys):
    screen = rich.console.Console(width=80, soft_wrap=True)
    screen.print(evidence.table([*evidence.published(), *evidence.own(), *evidence.embedded()]))
    screen.print(method_costs.table(findings([9, 9]), step=0.5, ratios={"cskd": 1.3}))
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 80
    assert "44.8 → 40.5" in printed


@pytest.mark.parametrize(
    ("network", "said"),
    [({"name": "keras.applications:MobileNet"}, True), ({"weights": "trained.keras"}, True), ({}, False)],
)
def test_what_fine_tuning_came_to_is_said_of_networks_that_were_trained_before(network, said, capsys):
    changes = {f"network__{key}": value for key, value in network.items()}
    advice.advise(findings([30] * 40, side=300, **changes), config_flag())
    printed = " ".join(capsys.readouterr().out.split())
    assert (evidence.finetuned() in printed) == said
