import tarfile

import pytest

from tests.data.catalogue.layouts import write_mit67
from tests.data.grey_images import THIRDS
from tests.helpers import load_splits


def test_other_lists_beside_mit67_are_read_anew(tmp_path):
    write_mit67(tmp_path)
    arguments = {"path": str(tmp_path / "data"), "archive": str(tmp_path / "indoorCVPR_09.tar"), **THIRDS}
    assert len(load_splits("mit67", **arguments)["test"].labels) == 2
    lines = (tmp_path / "TestImages.txt").read_text()
    (tmp_path / "TestImages.txt").write_text(f"{lines}\nbar/in_neither_list.jpg")
    assert len(load_splits("mit67", **arguments)["test"].labels) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lists": {"TestImages.txt": None}}, "list of the test images beside .*Received: no file .*TestImages.txt"),
        ({"lists": {"TrainImages.txt": "bar/gone.jpg"}}, r"1 that are missing: \['Images/bar/gone.jpg'\]"),
        ({"lists": {"TestImages.txt": "bar/bar_30.jpg"}}, r"no image in both lists.*1 in both: \['Images/bar/bar_30"),
        ({"lists": {"TestImages.txt": "spa/1.jpg"}, "more": {"Images/spa/1.jpg": b""}}, r"training classes.*\['spa'\]"),
        ({"lists": {"TestImages.txt": ""}}, "at least one image.*TestImages.txt"),
        ({"more": {"../evil.jpg": b""}}, r"stays within its folder. Received: .*\['../evil.jpg'\]"),
        ({"more": {"/evil.jpg": b""}}, "stays within its folder"),
    ],
)
def test_wrong_mit67s_are_refused(changes, message, tmp_path, prepared_folders):
    write_mit67(tmp_path, **changes)
    archive = str(tmp_path / "indoorCVPR_09.tar")
    with pytest.raises(ValueError, match=message):
        load_splits("mit67", path=str(tmp_path / "data"), archive=archive, **THIRDS)
    assert not prepared_folders()
    assert not list(tmp_path.rglob("evil*"))


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        (tarfile.DIRTYPE, ""),
        (tarfile.SYMTYPE, "/etc/passwd"),
        (tarfile.SYMTYPE, "../../../secret"),
        (tarfile.LNKTYPE, "/etc/passwd"),
        (tarfile.CHRTYPE, ""),
        (tarfile.FIFOTYPE, ""),
    ],
)
def test_what_is_no_file_but_has_the_name_of_an_image_is_refused(kind, target, tmp_path, prepared_folders):
    write_mit67(tmp_path, lists={"TestImages.txt": "bar/none.jpg"})
    member = tarfile.TarInfo("Images/bar/none.jpg")
    member.type, member.linkname, member.devmajor, member.devminor = kind, target, 1, 5  # /dev/zero
    with tarfile.open(tmp_path / "indoorCVPR_09.tar", "a") as archive:
        archive.addfile(member)
    with pytest.raises(ValueError, match=r"Expected Images/bar/none.jpg to be a file. Received: .*indoorCVPR_09.tar"):
        load_splits("mit67", path=str(tmp_path), archive=str(tmp_path / "indoorCVPR_09.tar"), **THIRDS)
    assert not prepared_folders()


def test_spaces_around_the_names_of_a_list_are_none_of_them(tmp_path):
    write_mit67(tmp_path)
    path = tmp_path / "TestImages.txt"
    path.write_text("".join(f" {line} \t\r\n" for line in path.read_text().split()))
    splits = load_splits("mit67", path=str(tmp_path / "data"), archive=str(tmp_path / "indoorCVPR_09.tar"), **THIRDS)
    assert len(splits["test"].labels) == 2


def test_a_list_in_another_encoding_is_told_by_the_files_that_are_missing(tmp_path):
    write_mit67(tmp_path)
    (tmp_path / "TrainImages.txt").write_bytes("bar/caf\u00e9.jpg".encode("latin-1"))
    archive = str(tmp_path / "indoorCVPR_09.tar")
    with pytest.raises(ValueError, match="TrainImages.txt names to be in .*Received: 1 that are missing"):
        load_splits("mit67", path=str(tmp_path / "data"), archive=archive, **THIRDS)
