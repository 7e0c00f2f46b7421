import pytest

from tests.data.catalogue.layouts import write_tiny_imagenet
from tests.data.grey_images import THIRDS, image
from tests.helpers import load_splits

TOP = "tiny-imagenet-200"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"without": [f"{TOP}/val/val_annotations.txt"]}, "with 4 training images and no annotations"),
        ({"annotations": "gone.JPEG\tn01443537\t0\n"}, rf"1 that are missing: \['{TOP}/val/images/gone.JPEG'\]"),
        ({"annotations": "val_0.JPEG\tn09\t0\n"}, r"images of the training classes. Received: .*zip, with \['n09'\]"),
        ({"annotations": "val_0.JPEG n01443537\n"}, "val_annotations.txt"),
        ({"annotations": ""}, "at least one image.*val_annotations.txt"),
        ({"more": {"../evil.JPEG": b""}}, r"stays within its folder. Received: .*\['../evil.JPEG'\]"),
        ({"more": {f"{TOP}/../../evil.JPEG": b""}}, "stays within its folder"),
        ({"more": {"/evil.JPEG": b""}}, r"\['/evil.JPEG'\]"),
    ],
)
def test_wrong_tiny_imagenets_are_refused(changes, message, tmp_path, prepared_folders):
    write_tiny_imagenet(tmp_path, **changes)
    archive = str(tmp_path / "tiny-imagenet-200.zip")
    with pytest.raises(ValueError, match=message):
        load_splits("tiny_imagenet", path=str(tmp_path / "data"), archive=archive, **THIRDS)
    assert not prepared_folders()
    assert not list(tmp_path.rglob("evil*"))


@pytest.mark.thorough
def test_an_image_in_an_archive_that_is_neither_jpeg_nor_png_is_named(tiny, tmp_path):
    arguments, _ = tiny
    write_tiny_imagenet(tmp_path, more={f"{TOP}/val/images/val_1.JPEG": image(60, kind="GIF")})
    with pytest.raises(ValueError, match=r"1 of test that cannot be decoded: \['tiny-imagenet-200/val/images/val_1"):
        load_splits("tiny_imagenet", **{**arguments, "memory": 1})
