import pytest

from cskd_tf.data.catalogue.groups import read_groups
from tests.helpers import load_splits


def test_groups_of_a_file_are_those_of_every_split(tmp_path):
    file = tmp_path / "groups.txt"
    file.write_text("\ufeff" + "".join(f"{digit}\t{'odd' if digit % 2 else 'even'}\r\n" for digit in range(12)) + "\n")
    splits = load_splits("digits", channels=1, groups=str(file))
    assert {tuple(source.class_groups) for source in splits.values()} == {("even", "odd") * 5}
    assert set(splits) == {"train", "val", "test"}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, r"data.source.groups to name a file.*No such file"),
        (b"\xff\xfe", r"data.source.groups to name a file.*codec"),
        (b"ant\tinsect\nbeagle dog\n", r"a class, a tab and its group.*line 2: 'beagle dog'"),
        (b"ant\tinsect\tsix\n", r"a class, a tab and its group.*line 1"),
        (b"\tinsect\n", r"a class, a tab and its group.*line 1"),
        (b"ant\tinsect\nant\tdog\n", r"one group of each class.*line 2: 'dog' for 'ant', which was in 'insect'"),
        (b"ant\tinsect\n", r"a group of each of the 2 classes.*none of 1: \['beagle'\]"),
        (b"ant\tpet\nbeagle\tpet\n", r"at least two groups.*\['pet'\]"),
    ],
)
def test_what_is_no_file_of_groups_is_refused(tmp_path, content, problem):
    file = tmp_path / "groups.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ValueError, match=problem):
        read_groups(file, class_names=["ant", "beagle"])
