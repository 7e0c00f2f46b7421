"""Letters and digits in the fonts that come with Matplotlib: many classes, few images each, drawn and not fetched."""

import pathlib

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cskd_tf.data.sources.arrays import ArraySource
from cskd_tf.errors import UserError

# Digits, capitals, and small letters of another shape than their capital's. I and l look like 1 and each other.
CHARACTERS = "0123456789ABCDEFGHJKLMNOPQRSTUVWXYZabdefghijmnqrty"
FONTS = (
    "DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique",
    "DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSansMono-Oblique", "DejaVuSansMono-BoldOblique",
    "DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "DejaVuSerif-BoldItalic",
    "STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta",
    "cmr10", "cmb10", "cmti10", "cmss10", "cmtt10",
)  # fmt: skip
_SIDE, _HEIGHT = 24, 18  # pixels of an image, and of a font


def glyphs() -> ArraySource:
    """Each of `CHARACTERS` in each of `FONTS`, white on black.

    Example:
        >>> source = glyphs()
        >>> len(source.labels), source.image_shape, source.class_names[10], source.locate(210)
        (1050, (24, 24, 1), 'A', 'A in DejaVuSans')

    Raises:
        UserError: fonts that are not there.
    """
    import matplotlib  # which only users of these images should wait for

    folder = pathlib.Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    if missing := [name for name in FONTS if not (folder / f"{name}.ttf").is_file()]:
        raise UserError(f"Expected Matplotlib with its fonts, as PyPI has it. Received: {folder} without {missing}")
    fonts = [ImageFont.truetype(str(folder / f"{name}.ttf"), _HEIGHT) for name in FONTS]
    images = np.stack([_drawn(character, font) for character in CHARACTERS for font in fonts])
    return ArraySource(
        images[..., None],
        np.repeat(np.arange(len(CHARACTERS)), len(FONTS)),
        class_names=list(CHARACTERS),
        locate=lambda index: f"{CHARACTERS[index // len(FONTS)]} in {FONTS[index % len(FONTS)]}",
    )


def _drawn(character: str, font: ImageFont.FreeTypeFont) -> np.ndarray:
    """One glyph in the middle of an image, uint8 `[24, 24]`."""
    image = Image.new("L", (_SIDE, _SIDE))
    ImageDraw.Draw(image).text((_SIDE / 2, _SIDE / 2), character, font=font, fill=255, anchor="mm")
    return np.asarray(image)
