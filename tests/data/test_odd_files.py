"""Odd files: what the doctor says of each is what training does with it, pixel by pixel or error by error."""

import collections
import io
import itertools
import struct
import zlib

import numpy as np
import PIL.Image
import PIL.PngImagePlugin
import pytest
import tensorflow as tf

from cskd_tf.data import ImageFolder, in_memory, paired_dataset
from cskd_tf.data.batches.pipeline import evaluation_dataset
from cskd_tf.data.images.transforms import RandomResizedCrop
from cskd_tf.data.sources.inspection import inspect
from cskd_tf.data.sources.reading import refuse_unreadable
from tests.data.helpers import encoded
from tests.selection import few

METADATA = "sound but for what PIL cannot read of their metadata: EXIF, text, colour profile or animation"
LARGE = "of more than 89 megapixels, which PIL warns of"
SIDES = (12, 17)
PIXELS = np.random.default_rng(0).integers(0, 256, (*SIDES, 3), np.uint8)
IMAGE = PIL.Image.fromarray(PIXELS)


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(*chunks):
    """The image with further chunks after its header."""
    content = encoded(IMAGE, "PNG")
    return content[:33] + b"".join(chunks) + content[33:]


def jpeg(*segments):
    """The image with further segments after its first marker."""
    return JPEG[:2] + b"".join(segments) + JPEG[2:]


def exif(content):
    return b"\xff\xe1" + struct.pack(">H", len(content) + 8) + b"Exif\0\0" + content


def text(**options):
    info = PIL.PngImagePlugin.PngInfo()
    info.add_text("Comment", "x" * 2_000_000, **options)
    return encoded(IMAGE, "PNG", pnginfo=info)


JPEG, PNG = encoded(IMAGE, "JPEG"), encoded(IMAGE, "PNG")
DECODED = np.asarray(PIL.Image.open(io.BytesIO(JPEG)))
PALETTE = IMAGE.quantize(16)
CMYK = encoded(IMAGE.convert("CMYK"))
DEEP = np.random.default_rng(1).integers(0, 2**16, SIDES, np.uint16)

# The file, its pixels, and what the doctor remarks.
READABLE = {
    "text of 2 MB": (text(), PIXELS, []),
    "compressed text of 2 MB": (text(zip=True), PIXELS, [METADATA]),
    "profile of 2 MB": (encoded(IMAGE, "PNG", icc_profile=bytes(2_000_000)), PIXELS, [METADATA]),
    "profile that is none": (png(chunk(b"iCCP", b"x\0\0no zlib")), PIXELS, []),
    "text with a wrong checksum": (png(chunk(b"tEXt", b"a\0b")[:-4] + bytes(4)), PIXELS, [METADATA]),
    "png with broken EXIF": (png(chunk(b"eXIf", b"MM\0\x2a\xff\xff")), PIXELS, [METADATA]),
    "png with a broken animation": (png(chunk(b"acTL", bytes(8))), PIXELS, [METADATA]),
    "png with more behind it": (PNG + bytes(999), PIXELS, []),
    "animated png": (
        encoded(IMAGE, "PNG", save_all=True, append_images=[PIL.Image.new("RGB", SIDES[::-1])]),
        PIXELS,
        ["animated, of which the first frame is used"],
    ),
    "palette": (encoded(PALETTE, "PNG"), np.asarray(PALETTE.convert("RGB")), ["palette"]),
    "16 bits of grey": (
        encoded(PIL.Image.fromarray(DEEP), "PNG"),
        np.repeat(DEEP[..., None] >> 8, 3, axis=2),
        ["16-bit, of which 8 are used"],
    ),
    "16 bits of colour": (tf.io.encode_png(PIXELS.astype(np.uint16) * 257).numpy(), PIXELS, []),
    "jpeg with broken EXIF": (jpeg(exif(b"MM\0\x2a\0\0\0\x08\xff\xff no more")), DECODED, [METADATA]),
    "jpeg with cut off EXIF": (jpeg(exif(b"MM")), DECODED, []),
    "jpeg with EXIF of another kind": (jpeg(exif(b"\xff" * 99)), DECODED, []),
    "jpeg with 2 MB of metadata": (jpeg(*[b"\xff\xec\xff\xff" + bytes(65533)] * 31), DECODED, []),
    "jpeg with a profile": (encoded(IMAGE, "JPEG", icc_profile=bytes(600_000)), DECODED, []),
    "jpeg with more behind it": (JPEG + bytes(999), DECODED, []),
    "cmyk": (CMYK, np.asarray(PIL.Image.open(io.BytesIO(CMYK)).convert("RGB")), ["CMYK"]),
}
OTHER, DAMAGED = "Expected JPEG or PNG.", "jpeg::Uncompress failed. Invalid JPEG data or crop window."
TOO_LARGE = (
    "Expected at most 268,435,456 pixels, and of a JPEG 512 per byte; its size may be wrong, or its end missing."
)
# The file, and why it cannot be used.
REFUSED = {
    "empty": (b"", "empty file"),
    "text": (b"no image", OTHER),
    "gif": (encoded(IMAGE, "GIF"), OTHER),
    "webp": (encoded(IMAGE, "WEBP"), OTHER),
    "bmp": (encoded(IMAGE, "BMP"), OTHER),
    "tiff": (encoded(IMAGE, "TIFF"), OTHER),
    "jpeg of three bytes": (JPEG[:3], "Invalid JPEG data, size 3"),
    "jpeg that is cut off": (JPEG[:-40], DAMAGED),
    "jpeg without its end": (JPEG[:-2], DAMAGED),
    "png of eight bytes": (PNG[:8], OTHER),
    "half of a png": (PNG[: len(PNG) // 2], f"Invalid PNG data, size {len(PNG) // 2}"),
    "png without its end": (PNG[:-12], f"Invalid PNG data, size {len(PNG) - 12}"),
    "jpeg with EXIF that has no end": (
        jpeg(b"\xff\xe1\xff\xfeExif\0\0MM"),
        f"Invalid JPEG data, size {len(JPEG) + 12}",
    ),
    "png of 70,000 pixels a side": (
        PNG[:8] + chunk(b"IHDR", struct.pack(">II", 70_000, 70_000) + PNG[24:29]) + PNG[33:],
        TOO_LARGE,
    ),
}


def folder_of(tmp_path, files):
    (tmp_path / "odd").mkdir()
    for number, content in enumerate(files):  # whatever the suffix says
        (tmp_path / "odd" / f"{number:02}.{('jpg', 'png')[number % 2]}").write_bytes(content)
    return tmp_path


@pytest.mark.thorough
def test_what_training_reads_the_doctor_reads(tmp_path):
    files, pixels, remarks = zip(*READABLE.values(), strict=True)
    folder = folder_of(tmp_path, files)
    source = ImageFolder(folder)
    trained, _ = next(iter(evaluation_dataset(source, batch_size=len(files))))
    for name, image, expected in zip(READABLE, trained, pixels, strict=True):
        np.testing.assert_array_equal(image, expected, err_msg=name)
    inspection = inspect(ImageFolder(folder, check_files=False), name="train")
    assert inspection.unreadable == {}
    assert inspection.extents.tolist() == [list(SIDES)] * len(files)
    assert inspection.remarks == collections.Counter(itertools.chain(*remarks))
    batches = paired_dataset(source, batch_size=len(files), seed=0, augment=RandomResizedCrop(8))
    assert next(iter(batches))[0]["partner"].shape == (len(files), 8, 8, 3)


def test_what_training_refuses_the_doctor_refuses(tmp_path):
    files, reasons = zip(*REFUSED.values(), strict=True)
    folder = folder_of(tmp_path, files)
    unchecked = ImageFolder(folder, check_files=False)
    inspection = inspect(unchecked, name="train")
    assert dict(zip(REFUSED, map(inspection.unreadable.get, range(len(files))), strict=True)) == dict(
        zip(REFUSED, reasons, strict=True)
    )
    assert len(inspection.extents) == 0
    assert not inspection.remarks
    with pytest.raises(ValueError, match="Received: 14 of train that cannot be decoded: ") as error:
        refuse_unreadable(unchecked, name="train")
    assert all(f"odd/{number:02}." in str(error.value) for number in range(10))
    with pytest.raises(ValueError, match=f"Received: {len(files) - 2} that are not whole images: "):
        ImageFolder(folder)


@pytest.mark.parametrize("name", few(REFUSED, 6))
def test_training_stops_at_what_it_refuses(name, tmp_path):
    unchecked = ImageFolder(folder_of(tmp_path, [REFUSED[name][0]]), check_files=False)
    with pytest.raises(tf.errors.InvalidArgumentError):
        next(iter(evaluation_dataset(unchecked, batch_size=1)))


def test_a_png_damaged_in_the_middle_is_refused_by_both(tmp_path):
    content = bytearray(PNG)
    content[len(PNG) // 2] ^= 0xFF
    source = ImageFolder(folder_of(tmp_path, [bytes(content), PNG]))
    assert inspect(source, name="train").unreadable == {0: f"Invalid PNG data, size {len(PNG)}"}
    with pytest.raises(ValueError, match=r"1 of train that cannot be decoded: \['.*odd/00.jpg'\]"):
        in_memory(source, budget=2**20, name="train")


@pytest.mark.slow
def test_200_megapixels_are_a_remark(tmp_path):
    packer = zlib.compressobj(1)
    rows = b"".join(packer.compress(bytes([0]) + b"\x07" * 20_000) for _ in range(10_000)) + packer.flush()
    header = struct.pack(">IIBBBBB", 20_000, 10_000, 8, 0, 0, 0, 0)
    content = PNG[:8] + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    source = ImageFolder(folder_of(tmp_path, [content]), channels=1)
    inspection = inspect(source, name="train")
    assert (inspection.extents.tolist(), inspection.unreadable, inspection.remarks) == (
        [[10_000, 20_000]],
        {},
        {LARGE: 1},
    )
    batches = paired_dataset(source, batch_size=1, seed=0, augment=RandomResizedCrop(2))
    np.testing.assert_array_equal(next(iter(batches))[0]["image"], np.full((1, 2, 2, 1), 7.0))


def test_megapixels_that_pil_only_warns_of_are_a_remark(monkeypatch, tmp_path):
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", SIDES[0] * SIDES[1] - 1)
    inspection = inspect(ImageFolder(folder_of(tmp_path, [PNG])), name="train")
    assert inspection.remarks == {"of more than 0 megapixels, which PIL warns of": 1}
