"""What the doctor advises: the figures that it shows, what methods cost, and a config for four kinds of data."""

import json
import shlex

import numpy as np
import pytest

from configs import advice, evidence, method_costs, recommendation
from configs import image_folder as image_folder_config
from cskd_tf import methods
from cskd_tf.runs.config import Config
from cskd_tf.runs.doctor import Findings
from cskd_tf.training.inputs import check_weighable
from tests.test_code_of_pages import check_train_main

CSKD = {"name": "CSKD", "temperature": 4.0}
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


def findings(counts, *, side=64, same_size=False, held_out=0, step=0.5, steps=10, **changes):
    config = image_folder_config.get_config()
    config.data.source.path = "photos"
    for key, value in changes.items():
        *groups, last = key.split("__")
        group = config
        for name in groups:
            group = group[name]
        group[last] = value
    counts = np.asarray(counts)
    return Findings(
        config=Config.read(config), counts=counts, held_out=held_out, sides=np.full(counts.sum(), side),
        same_size=same_size, steps=steps, step=step,
    )  # fmt: skip


def words_of(text):
    """As a shell takes a command of several lines."""
    return shlex.split(text.replace("\\\n", " "))


def recommended(found):
    gains = evidence.published()
    images, classes = float(np.median(found.counts)), len(found.counts)
    settings = recommendation.recommend(found, evidence.nearest(gains, images=images, classes=classes)[0])
    check_is_accepted(settings, found)
    return {setting.key: setting.value for setting in settings}


def check_is_accepted(settings, found):
    """The command line parses, its methods can be built, weighed where classes are, and its config is one."""
    overrides = {"data.source.path": "photos"}
    options = {"program": "train_main.py", "file": "configs/image_folder.py", "overrides": overrides}
    words = words_of(recommendation.command(settings, config=found.config, **options))
    check_train_main(words[1:])
    changed = image_folder_config.get_config()
    for setting in settings:
        changed.update_from_flattened_dict({setting.key: setting.value})
    config = Config.read(changed)
    if config.class_weights.scheme:
        check_weighable(methods.Composition(methods.build(config.methods)))
    assert config.batch_size <= found.counts.sum()
    assert all(setting.reason for setting in settings)


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


def test_own_gains_are_means_over_the_seeds_of_both(tmp_path):
    path = tmp_path / "few_images.json"
    assert evidence.own(path) == []  # as in an installed package
    path.write_text(json.dumps(LINES))
    (gain,) = evidence.own(path)
    assert (gain.data, gain.images, gain.classes) == ("birds_5", 5, None)
    assert gain.figures == {"top1_error": (56.25, 37.5), "ece": (18.75, 50.0), "recall_at_1": (50.0, 37.5)}


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


def test_few_photographs_per_class():
    values = recommended(findings([30] * 200, side=300))
    assert values == {
        "methods": ({**CSKD, "weight": 3.0},),
        "optimizer.clip_norm": 1.0,
        "batch_size": 32,
        "data.augment.image_size": 224,
        "data.augment.short_side": 256,
        "network.name": "resnet18",
        "data.augment.crop": "random_resized_crop",
        "data.augment.flip": True,
        "data.split.validation_fraction": 0.1,
        "baseline": True,
    }


def test_many_small_images_of_one_size():
    values = recommended(findings([500] * 100, side=32, same_size=True, held_out=5000))
    assert values == {
        "methods": ({**CSKD, "weight": 1.0},),
        "batch_size": 128,
        "data.augment.crop": "pad_crop",
        "data.augment.padding": 4,
        "data.augment.flip": True,
        "data.split.validation_fraction": 0.1,
        "baseline": True,
    }


def test_uneven_classes_are_weighed_unless_they_are_already():
    counts = [200, 50, 40, 20]
    assert recommended(findings(counts))["class_weights.scheme"] == "effective"
    assert "class_weights.scheme" not in recommended(findings([200, 50, 40, 21]))
    assert "class_weights.scheme" not in recommended(findings(counts, data__pairing__balanced=True))


def test_one_image_per_class():
    values = recommended(findings([1] * 40, side=32, same_size=True))
    assert values["methods"] == ()
    assert values["batch_size"] == 8  # the largest power of two of which there are three
    assert values["data.split.validation_fraction"] == 0.0
    assert "optimizer.clip_norm" not in values
    assert "baseline" not in values


@pytest.mark.parametrize(
    ("train", "held_out", "fraction"), [(900, 100, 0.1), (910, 90, 0.1), (480, 20, 0.2), (450, 49, 0.0), (1000, 0, 0.1)]
)
def test_validation_images_are_taken_where_there_are_enough(train, held_out, fraction):
    values = recommended(findings([train // 2, train // 2], held_out=held_out))
    assert values["data.split.validation_fraction"] == fraction


def test_what_others_have_set_stays():
    found = findings([30] * 200, optimizer__name="AdamW", schedule__learning_rate=1e-3, steps_per_execution=2)
    values = recommended(found)
    assert "optimizer.clip_norm" not in values
    assert values["batch_size"] == found.config.batch_size == 128


def test_the_command_keeps_what_was_given_and_changes_the_rest():
    settings = [
        recommendation.Setting("methods", ({**CSKD, "weight": 3.0},), "a"),
        recommendation.Setting("batch_size", 32, "b"),
        recommendation.Setting("data.augment.flip", True, "as it is"),
    ]
    overrides = {"data.source.path": "my $photos", "batch_size": 64, "methods[0].weight": 2.0, "epochs": 5}
    text = recommendation.command(
        settings, config=findings([9, 9]).config, program="cskd-tf", file="configs/x.py:a,b", overrides=overrides
    )
    assert text.splitlines() == [
        "cskd-tf \\",
        "  --config=configs/x.py:a,b \\",
        "  '--config.data.source.path=my $photos' \\",
        "  --config.epochs=5 \\",
        "  \"--config.methods=({'name': 'CSKD', 'temperature': 4.0, 'weight': 3.0},)\" \\",
        "  --config.batch_size=32",
    ]


def cells(table):
    return {row[0]: row[1:] for row in zip(*(list(column.cells) for column in table.columns), strict=True)}


def test_costs_are_those_of_the_timed_step():
    """A step of CS-KD of 0.5 s is one of cross-entropy of 0.375 s; 120 of them are 45 s."""
    rows = cells(method_costs.table(findings([9, 9], step=0.5, steps=120, epochs=200), ratios={}))
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
    rows = cells(method_costs.table(findings([9, 9], step=0.5, steps=120, epochs=200), ratios=ratios))
    assert rows["Cross-entropy"] == ("1.00", "-", "0.8", "2.7")
    assert rows["CS-KD"] == ("1.33", "1.25", "1", "3.3")
    assert rows["DDGSD"] == ("2.00", "1.75", "1.4", "4.7")
    assert rows["BYOT"] == ("1.00", "-", "0.8", "2.7")


@pytest.mark.slow
def test_the_recommended_command_trains(command, image_folder):
    given = (
        "--config.network.name=tests.runs.helpers:small_network", "--config.network.width=4",
        "--config.data.augment.image_size=8", "--config.deterministic=False", "--config.batch_size=4",
    )  # fmt: skip
    own = (f"--config={image_folder_config.__file__}", f"--config.data.source.path={image_folder}")
    code, printed = command(*own, *given, "--mode=doctor")
    assert code == 0, printed
    assert printed.index("Nothing here keeps the run from training.") < printed.index("to copy:")
    program, *words = words_of(printed.partition("to copy:\n")[2])
    assert program == "train_main.py" or words.pop(0).endswith("train_main.py")
    assert set(given[:4]) <= set(words)
    assert "--config.batch_size=2" in words
    quick = ("--config.epochs=1", "--config.verbose=0", "--config.export.enabled=False", "--config.baseline=False")
    code, printed = command(*words, *quick, "--workdir=run")
    assert code == 0, printed
    assert "CSKD(temperature=4, weight=3)" in printed


def test_everything_fits_into_80_columns(monkeypatch, capsys):
    import rich.console

    monkeypatch.setattr(advice, "console", lambda: rich.console.Console(width=80, soft_wrap=True))
    screen = advice.console()
    screen.print(evidence.table([*evidence.published(), *evidence.own()]))
    screen.print(method_costs.table(findings([9, 9]), ratios={"cskd": 1.3}))
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 80
    assert "44.8 → 40.5" in printed
