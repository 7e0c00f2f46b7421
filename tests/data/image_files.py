"""Files that are images, and files that are none, as bytes by what they are."""

import numpy as np
import PIL.Image
import tensorflow as tf

from tests.data.helpers import encoded, photo

COLOURS, GREYS = photo(), photo().convert("L")
EXIF = PIL.Image.Exif()
EXIF[0x0112] = 6  # to be turned by 90 degrees
SEPARATIONS = PIL.Image.merge("CMYK", [photo(seed=seed).convert("L") for seed in range(4)])
TRANSPARENT = COLOURS.copy()
TRANSPARENT.putalpha(GREYS)
COLOURED = {
    "jpeg": encoded(COLOURS, quality=95, subsampling=0),
    "jpeg 4:2:2": encoded(COLOURS, subsampling=1),
    "jpeg 4:2:0": encoded(COLOURS, subsampling=2),
    "jpeg progressive": encoded(COLOURS, progressive=True),
    "jpeg with restarts": encoded(COLOURS, restart_marker_rows=1),
    "jpeg cmyk": encoded(COLOURS.convert("CMYK")),
    "jpeg rotated": encoded(COLOURS, exif=EXIF),
    "png": encoded(COLOURS, "PNG"),
    "png palette": encoded(COLOURS.quantize(16), "PNG"),
    "png palette transparent": encoded(COLOURS.quantize(16), "PNG", transparency=3),
    "png rgba": encoded(TRANSPARENT, "PNG"),
    "png animated": encoded(COLOURS, "PNG", save_all=True, append_images=[COLOURS.rotate(180)]),
    "png 16 bits of colour": tf.io.encode_png(np.asarray(COLOURS).astype(np.uint16) * 257).numpy(),
}
GREY = {
    "jpeg grey": encoded(GREYS),
    "png grey": encoded(GREYS, "PNG"),
    "png grey and alpha": encoded(GREYS.convert("LA"), "PNG"),
    "png black and white": encoded(COLOURS.convert("1"), "PNG"),
}
WHOLE = COLOURED | GREY
CUT_JPEG, CUT_PNG = WHOLE["jpeg 4:2:0"], WHOLE["png"]
BROKEN = {
    "empty": b"",
    "a text": b"no image",
    "gif": encoded(COLOURS, "GIF"),
    "animated gif": encoded(COLOURS, "GIF", save_all=True, append_images=[COLOURS.rotate(180)]),
    "bmp": encoded(COLOURS, "BMP"),
    "webp": encoded(COLOURS, "WEBP"),
    "jpeg magic": CUT_JPEG[:3],
    "jpeg header": CUT_JPEG[:150],
    "jpeg without its end": CUT_JPEG[:-2],
    "jpeg half": CUT_JPEG[: len(CUT_JPEG) // 2],
    "jpeg padded with zeros": CUT_JPEG[: len(CUT_JPEG) // 2] + bytes(len(CUT_JPEG) // 2),
    "progressive jpeg half": WHOLE["jpeg progressive"][: len(WHOLE["jpeg progressive"]) // 2],
    "png magic": CUT_PNG[:8],
    "png header": CUT_PNG[:20],
    "png without its end": CUT_PNG[:-12],
    "png half": CUT_PNG[: len(CUT_PNG) // 2],
}
