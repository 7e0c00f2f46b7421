"""What files are called that hold answers of `--mode=evaluate`: each question has one of its own."""

import dataclasses

import pytest

from cskd_tf.data import SourceOptions, SplitOptions
from cskd_tf.runs import assess
from tests.runs.helpers import config_of


def test_names_of_many_members_fit_into_a_file_system():
    members = [f"workdirs/{'long' * 20}/seed={number}" for number in range(8)]
    names = [assess._name(assess.Question(members=members[:count]), "test") for count in (1, 7, 8)]
    assert names[0].startswith(f"assessment_test_with_workdirs-{'long' * 20}-seed-0-")
    assert max(map(len, names)) == assess.LONGEST_NAME
    assert len(set(names)) == 3


@pytest.mark.parametrize(
    ("one", "other"), [(["/b"], ["b"]), (["a_b"], ["a", "b"]), (["a b"], ["a-b"]), (["s=1", "s=2"], ["s=1_s=2"])]
)
def test_answers_of_other_members_are_other_files(one, other):
    assert len({assess._name(assess.Question(members=members), "test") for members in (one, other)}) == 2


def test_answers_on_other_splits_of_the_same_data_are_other_files():
    own = config_of({})
    questions = [
        assess.Question(on=dataclasses.replace(own, data=dataclasses.replace(own.data, split=split)))
        for split in (SplitOptions(test="fog"), SplitOptions(test="snow"), SplitOptions(test="snow", test_fraction=0.5))
    ]
    names = [assess._name(question, "test") for question in questions]
    assert len(set(names)) == 3
    assert names[1].startswith("assessment_test_on_digits-test-snow-")


def test_what_makes_a_class_of_a_folder_is_in_the_name_of_an_answer():
    own = config_of({})
    sources = [SourceOptions(name="image_folder", path="photos", channels=1, class_levels=levels) for levels in (1, 2)]
    data_of = [dataclasses.replace(own.data, source=source, split=SplitOptions()) for source in sources]
    assert [assess._named(config) for config in data_of] == [
        "image_folder photos", "image_folder photos class_levels=2",
    ]  # fmt: skip
