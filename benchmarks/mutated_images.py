"""Image files as they are found in the wild, or made on purpose: sound ones of every kind, and what bits, lengths and
headers can be changed to. A number and a seed give the same file again.
"""

import functools
import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import PIL.Image

SIDES = (23, 31)  # width and height
_PNG, _HEADER_END = b"\x89PNG\r\n\x1a\n", 33  # the signature; where the header's chunk ends
_FRAMES = {"save_all": True}
_BITS_PER_PIXEL = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # in units of the depth, by PNG's colour types


def chunk(kind: bytes, content: bytes) -> bytes:
    """One chunk of a PNG, with its checksum."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, *, depth: int, colours: int, interlaced: bool = False, rows: bytes = b"") -> bytes:
    """A PNG of given rows, or else a black one of the size that its header says, however large."""
    line = 1 + (width * depth * _BITS_PER_PIXEL[colours] + 7) // 8
    packer = zlib.compressobj(9)
    packed = packer.compress(rows) if rows else b"".join(packer.compress(bytes(line)) for _ in range(height))
    header = struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, interlaced)
    palette = chunk(b"PLTE", bytes(range(48))) if colours == 3 else b""
    data = chunk(b"IDAT", packed + packer.flush())
    return _PNG + chunk(b"IHDR", header) + palette + data + chunk(b"IEND", b"")


def interlaced_png(generator: np.random.Generator, *, depth: int, colours: int) -> bytes:
    """A PNG in Adam7's seven passes, of random pixels."""
    width, height = SIDES
    rows = b""
    for left, top, right, down in (
        (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)
    ):  # fmt: skip
        columns, lines = -(-(width - left) // right), -(-(height - top) // down)
        length = (columns * depth * _BITS_PER_PIXEL[colours] + 7) // 8
        rows += b"".join(b"\0" + generator.bytes(length) for _ in range(lines if columns > 0 else 0))
    return png(width, height, depth=depth, colours=colours, interlaced=True, rows=rows)


def _encoded(image: PIL.Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@functools.cache
def sound_images() -> dict[str, bytes]:
    """Whole files of every kind by name, the same each time; not all of them are JPEG or PNG."""
    generator = np.random.default_rng(0)
    width, height = SIDES
    small = PIL.Image.fromarray(generator.integers(0, 256, (5, 4, 3), np.uint8))
    photo = small.resize(SIDES, PIL.Image.Resampling.BICUBIC)
    noise = PIL.Image.fromarray(generator.integers(0, 256, (height, width, 3), np.uint8))
    deep = PIL.Image.fromarray(generator.integers(0, 2**16, (height, width), np.uint16))
    turned = PIL.Image.Exif()
    turned[0x0112] = 6
    clear = photo.copy()
    clear.putalpha(photo.convert("L"))
    frames = {**_FRAMES, "append_images": [noise]}
    return {
        "jpeg": _encoded(photo, "JPEG"),
        "jpeg of noise": _encoded(noise, "JPEG", quality=95, subsampling=0),
        "jpeg progressive": _encoded(photo, "JPEG", progressive=True),
        "jpeg with restarts": _encoded(photo, "JPEG", restart_marker_blocks=1),
        "jpeg grey": _encoded(photo.convert("L"), "JPEG"),
        "jpeg cmyk": _encoded(photo.convert("CMYK"), "JPEG"),
        "jpeg rotated": _encoded(photo, "JPEG", exif=turned),
        "jpeg of two frames": _encoded(photo, "MPO", **frames),
        "png": _encoded(photo, "PNG"),
        "png palette": _encoded(photo.quantize(16), "PNG"),
        "png palette clear": _encoded(photo.quantize(16), "PNG", transparency=3),
        "png clear": _encoded(clear, "PNG"),
        "png grey and clear": _encoded(clear.convert("LA"), "PNG"),
        "png black and white": _encoded(photo.convert("1"), "PNG"),
        "png 16 bits": _encoded(deep, "PNG"),
        "png rotated": _encoded(photo, "PNG", exif=turned),
        "png animated": _encoded(photo, "PNG", **frames),
        "png interlaced": interlaced_png(generator, depth=8, colours=2),
        "png interlaced 16 bits": interlaced_png(generator, depth=16, colours=6),
        "png interlaced palette": interlaced_png(generator, depth=4, colours=3),
        "gif": _encoded(photo, "GIF"),
        "gif animated": _encoded(photo, "GIF", **frames),
        "webp": _encoded(photo, "WEBP"),
        "webp animated": _encoded(photo, "WEBP", **frames),
        "bmp": _encoded(photo, "BMP"),
        "tiff": _encoded(photo, "TIFF"),
        "jpeg 2000": _encoded(photo, "JPEG2000"),
        "ppm": _encoded(photo, "PPM"),
    }


def _position(content: bytes, generator: np.random.Generator) -> int:
    """Somewhere in the file, half of the time in its first 200 bytes, where headers are."""
    end = len(content) if generator.random() < 0.5 else min(200, len(content))
    return int(generator.integers(0, end + 1))


def _flip(content: bytes, generator: np.random.Generator) -> bytes:
    changed = bytearray(content)
    for _ in range(int(generator.choice([1, 1, 2, 8, 64]))):
        changed[min(_position(content, generator), len(content) - 1)] ^= 1 << int(generator.integers(8))
    return bytes(changed)


def _cut(content: bytes, generator: np.random.Generator) -> bytes:
    return content[: _position(content, generator)]


def _cut_end(content: bytes, generator: np.random.Generator) -> bytes:
    return content[: -int(generator.integers(1, 20))]


def _zero_end(content: bytes, generator: np.random.Generator) -> bytes:
    place = _position(content, generator)
    return content[:place] + bytes(len(content) - place)


def _remove(content: bytes, generator: np.random.Generator) -> bytes:
    place = _position(content, generator)
    return content[:place] + content[place + int(generator.choice([1, 2, 4, 16, 100])) :]


def _insert(content: bytes, generator: np.random.Generator) -> bytes:
    place = _position(content, generator)
    return content[:place] + generator.bytes(int(generator.choice([1, 2, 4, 100, 70_000]))) + content[place:]


def _overwrite(content: bytes, generator: np.random.Generator) -> bytes:
    place, value = _position(content, generator), bytes([int(generator.choice([0, 1, 127, 128, 255]))])
    length = int(generator.choice([1, 2, 4, 16]))
    return content[:place] + value * length + content[place + length :]


def _repeat(content: bytes, generator: np.random.Generator) -> bytes:
    start, end = sorted(_position(content, generator) for _ in range(2))
    return content[:end] + content[start:end] * int(generator.choice([1, 2, 50])) + content[end:]


def _splice(content: bytes, generator: np.random.Generator) -> bytes:
    other = _any_sound(generator)[1]
    return content[: _position(content, generator)] + other[_position(other, generator) :]


def _two_in_one(content: bytes, generator: np.random.Generator) -> bytes:
    return content + _any_sound(generator)[1]


def _prefix(content: bytes, generator: np.random.Generator) -> bytes:
    prefixes = [b"\xff\xd8\xff", _PNG, b"GIF89a", b"RIFF", b"BM", b"\0", b"\n", b"\xef\xbb\xbf"]
    return prefixes[int(generator.integers(len(prefixes)))] + content


def _size(content: bytes, generator: np.random.Generator) -> bytes:
    """Another width, height or both in the header of a PNG (its checksum right again) or of a JPEG."""
    sizes = [
        0,
        1,
        2,
        7,
        24,
        32,
        1_000,
        9_000,
        13_000,
        20_000,
        46_341,
        65_500,
        65_535,
        70_000,
        2**31 - 1,
        2**31,
        2**32 - 1,
    ]
    width, height = (int(generator.choice(sizes)) if generator.random() < 0.7 else side for side in SIDES)
    if content.startswith(_PNG):
        header = struct.pack(">II", width, height) + content[24:29]
        return content[:8] + chunk(b"IHDR", header) + content[_HEADER_END:]
    places = [place for kind in (b"\xff\xc0", b"\xff\xc2") if (place := content.find(kind)) >= 0]
    if content.startswith(b"\xff\xd8\xff") and places:
        start = places[0] + 5
        return content[:start] + struct.pack(">HH", height % 2**16, width % 2**16) + content[start + 4 :]
    return _overwrite(content, generator)


def _kind_of_pixels(content: bytes, generator: np.random.Generator) -> bytes:
    """Another depth, colour type, filter or interlacing in a PNG's header; other components in a JPEG's."""
    if content.startswith(_PNG):
        header = bytearray(content[16:29])
        header[8 + int(generator.integers(5))] = int(generator.choice([0, 1, 2, 3, 4, 6, 8, 16, 255]))
        return content[:8] + chunk(b"IHDR", bytes(header)) + content[_HEADER_END:]
    place = content.find(b"\xff\xc0")
    place = place + int(generator.integers(4, 19)) if place >= 0 else _position(content, generator)
    return content[:place] + bytes([int(generator.choice([0, 1, 2, 3, 4, 17, 33, 34, 255]))]) + content[place + 1 :]


def _metadata(content: bytes, generator: np.random.Generator) -> bytes:
    """Broken EXIF, profile, text or animation, in a chunk or segment that is itself whole."""
    data = b"MM\0\x2a\0\0\0\x08" + generator.bytes(int(generator.choice([0, 2, 40, 60_000])))
    if content.startswith(_PNG):
        kinds = [b"eXIf", b"iCCP", b"tEXt", b"zTXt", b"acTL", b"fcTL", b"tRNS", b"gAMA", b"PLTE", b"abCD", b"ABCD"]
        return content[:_HEADER_END] + chunk(kinds[int(generator.integers(len(kinds)))], data) + content[_HEADER_END:]
    if content.startswith(b"\xff\xd8\xff"):
        marker = bytes([0xFF, int(generator.choice([0xE0, 0xE1, 0xE2, 0xED, 0xEE, 0xFE, 0xDD, 0xDB, 0xC4]))])
        data = b"Exif\0\0" + data
        length = struct.pack(">H", (len(data) + 2 + int(generator.choice([0, 0, -5, 5]))) % 2**16)
        return content[:2] + marker + length + data + content[2:]
    return _insert(content, generator)


def _data(content: bytes, generator: np.random.Generator) -> bytes:
    """A PNG's packed rows changed, with a checksum that says they are right; else any bits."""
    place = content.find(b"IDAT")
    if not content.startswith(_PNG) or place < 0:
        return _flip(content, generator)
    length = struct.unpack(">I", content[place - 4 : place])[0]
    packed = _flip(content[place + 4 : place + 4 + length], generator)
    return content[: place - 4] + chunk(b"IDAT", packed) + content[place + 8 + length :]


MUTATIONS: dict[str, Callable[[bytes, np.random.Generator], bytes]] = {
    "none": lambda content, generator: content,
    "bits": _flip,
    "cut": _cut,
    "end cut": _cut_end,
    "zeros to the end": _zero_end,
    "bytes removed": _remove,
    "bytes inserted": _insert,
    "bytes overwritten": _overwrite,
    "part repeated": _repeat,
    "two spliced": _splice,
    "two in one": _two_in_one,
    "prefixed": _prefix,
    "size": _size,
    "kind of pixels": _kind_of_pixels,
    "metadata": _metadata,
    "packed rows": _data,
}


def _any_sound(generator: np.random.Generator) -> tuple[str, bytes]:
    name, content = list(sound_images().items())[int(generator.integers(len(sound_images())))]
    return name, content


def mutated_image(seed: int, number: int) -> tuple[str, bytes]:
    """What was done to which file, and the file that it became.

    Example:
        >>> name, content = mutated_image(0, 0)
        >>> mutated_image(0, 0) == (name, content)
        True
    """
    generator = np.random.default_rng([seed, number])
    kind, content = _any_sound(generator)
    names = list(MUTATIONS)
    done = []
    for _ in range(int(generator.choice([1, 1, 1, 2]))):
        done.append(names[int(generator.integers(len(names)))])
        content = MUTATIONS[done[-1]](content, generator) if content else content
    return f"{kind}: {', '.join(done)}", content


# Small files of many pixels: who reads one by its header alone allocates gigabytes.
BOMBS: dict[str, Callable[[], bytes]] = {
    "png of 2**28 pixels, a bit each": lambda: png(2**14, 2**14, depth=1, colours=0),
    "png of 2**28 pixels, 48 bits each": lambda: png(2**14, 2**14, depth=16, colours=2, rows=bytes(99)),
    "png of 23,000 x 23,000": lambda: png(23_000, 23_000, depth=1, colours=0),
    "png of 2**31 - 1 columns": lambda: png(2**31 - 1, 1, depth=1, colours=0, rows=bytes(99)),
    "jpeg of 13,000 x 13,000 by its header": lambda: _of_size(sound_images()["jpeg"], 13_000),
    "jpeg of 65,500 x 65,500 by its header": lambda: _of_size(sound_images()["jpeg"], 65_500),
    "progressive jpeg of 13,000 x 13,000 by its header": lambda: _of_size(sound_images()["jpeg progressive"], 13_000),
    "grey jpeg of 13,000 x 13,000": lambda: _encoded(PIL.Image.new("L", (13_000, 13_000)), "JPEG"),
    "progressive jpeg of 16,384 x 16,384": lambda: _encoded(
        PIL.Image.new("L", (2**14, 2**14)), "JPEG", progressive=True
    ),
    "progressive jpeg of 20,000 x 20,000": lambda: _encoded(
        PIL.Image.new("L", (20_000, 20_000)), "JPEG", progressive=True
    ),
}


def _of_size(jpeg: bytes, side: int) -> bytes:
    place = max(jpeg.find(b"\xff\xc0"), jpeg.find(b"\xff\xc2")) + 5
    return jpeg[:place] + struct.pack(">HH", side, side) + jpeg[place + 4 :]
