"""The config that the doctor recommends for several kinds of data, and the command that trains by it."""

import pytest

from configs import evidence, fonts, recommendation
from configs import image_folder as image_folder_config
from cskd_tf import methods
from cskd_tf.runs.config import Config
from cskd_tf.training.inputs import check_weighable
from tests.findings import findings, words_of
from tests.test_code_of_pages import check_train_main

CSKD = {"name": "CSKD", "temperature": 4.0}


def recommended(found):
    settings = recommendation.recommend(found, evidence.published())
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


def test_weights_are_those_of_images_of_like_pixels():
    """Of the papers' sets CUB-200-2011 is nearest to 5 images of each of 50 classes, but was shown at 224 pixels."""
    images = findings([5] * 50, side=24, same_size=True, held_out=150, data__augment__image_size=24)
    assert evidence.nearest(evidence.published(), images=5, classes=50)[0].data == "caltech_birds2011"
    values = recommended(images)
    assert values["methods"] == ({**CSKD, "weight": 1.0},)  # as configs/fonts.py and the tutorial have it
    assert values["methods"] == fonts.get_config().methods
    assert values["batch_size"] == fonts.get_config().batch_size
    assert recommended(findings([5] * 50, side=300))["methods"] == ({**CSKD, "weight": 3.0},)


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


def test_validation_images_of_the_data_stay():
    """Of which a fraction of the training images takes none away."""
    found = findings([20] * 5, held_out=40, brought=True)
    settings = {setting.key: setting for setting in recommendation.recommend(found, evidence.published())}
    setting = settings["data.split.validation_fraction"]
    assert (setting.value, setting.reason) == (0.1, "as it is: the data bring 40 validation images")


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


def test_what_mends_is_what_the_problem_speaks_of():
    settings = [
        recommendation.Setting("batch_size", 32, "a"),
        recommendation.Setting("data.split.validation_fraction", 0.0, "b"),
        recommendation.Setting("baseline", True, "c"),
    ]
    for problem, expected in (
        ("Received: one in val, of data.split.validation_fraction", {"data.split.validation_fraction": 0.0}),
        ("Expected batch_size from 1", {"batch_size": 32}),
        ("Expected evaluation.batch_size from 1", {}),
        ("Expected at least two classes", {}),
    ):
        assert recommendation.mending(settings, findings([9, 9], problem=problem)) == expected


PHOTOGRAPHS = {"counts": [30] * 200, "side": 300}


def test_photographs_get_a_network_as_published():
    assert recommended(findings(**PHOTOGRAPHS, network__width=16))["network.width"] == 0


@pytest.mark.parametrize("changes", [{"network__weights": "trained.keras"}, {"network__name": "resnet50"}])
def test_a_network_with_weights_or_for_photographs_stays_and_so_do_its_pixels(changes):
    values = recommended(findings(**PHOTOGRAPHS, **changes))
    assert "network.name" not in values
    assert values["data.augment.image_size"] == 32


def test_grey_images_are_not_mirrored():
    grey = {"data__source__channels": 1, "data__augment__mean": (0.5,), "data__augment__std": (0.5,)}
    assert recommended(findings([500] * 10, side=28, same_size=True, **grey))["data.augment.flip"] is False


def test_large_images_of_one_size_are_cut_at_random_sizes():
    values = recommended(findings([500] * 10, side=64, same_size=True))
    assert values["data.augment.crop"] == "random_resized_crop"


def test_a_norm_that_is_clipped_to_already_stays():
    assert recommended(findings(**PHOTOGRAPHS, optimizer__clip_norm=5.0))["optimizer.clip_norm"] == 5.0


@pytest.mark.parametrize("changes", [{"optimizer__name": "AdamW"}, {"schedule__learning_rate": 0.01}])
def test_gradients_are_clipped_for_sgd_at_high_rates_alone(changes):
    assert "optimizer.clip_norm" not in recommended(findings(**PHOTOGRAPHS, **changes))


def test_the_batch_size_stays_where_batches_are_in_parts():
    values = recommended(findings(**PHOTOGRAPHS, gradient_accumulation_steps=2))
    assert values["batch_size"] == 128


def test_the_validation_fraction_stays_beside_a_number_of_training_images():
    changes = {"data__split__train_per_class": 9, "data__split__validation_fraction": 0.25}
    assert recommended(findings([9] * 300, **changes))["data.split.validation_fraction"] == 0.25
