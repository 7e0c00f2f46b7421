"""What the tutorial could have trained on instead of glyphs: Fashion-MNIST, by the same config, on as few images.

`python -m benchmarks.fashion` writes 200 images of each class that Debian's `dataset-fashion-mnist` has into
`workdirs/fashion/images`, trains `configs/fonts.py` on 5 and on 25 of each, once per seed, and writes
`results/fashion.json`: 5 are as many of each class as of the glyphs, 25 as many in all. Runs that are there already are
not trained again. What stands behind `--` goes to `train_main.py`.
"""

import gzip
import pathlib

import numpy as np
from absl import app, flags
from PIL import Image

from benchmarks.results import record
from benchmarks.seeded_runs import by_method, train

SEEDS = flags.DEFINE_integer("seeds", 3, "How many, from 0.")
PACKAGE = flags.DEFINE_string("package", "/usr/share/datasets/fashion-mnist", "Where the package put its files.")
WORKDIR = flags.DEFINE_string("workdir", "workdirs/fashion", "Where the images and the runs lie.")
OF_EACH = 200  # images of each class, of which half are tested on
PER_CLASS = (5, 25)


def write_images(package: pathlib.Path, folder: pathlib.Path) -> None:
    """The first images of each class of the training set as `folder/CLASS/NUMBER.png`, 28 x 28 pixels."""
    images, labels = (_numbers(package / f"train-{name}-ubyte.gz") for name in ("images-idx3", "labels-idx1"))
    for label in np.unique(labels):
        of_class = folder / str(label)
        of_class.mkdir(parents=True, exist_ok=True)
        for number in np.flatnonzero(labels == label)[:OF_EACH]:
            Image.fromarray(images[number]).save(of_class / f"{number}.png")


def _numbers(path: pathlib.Path) -> np.ndarray:
    """An IDX file of bytes: two zeros, the type (8), the number of dimensions, their sizes (32 bit), and the values."""
    if not path.is_file():
        raise SystemExit(
            f"Expected the files of Debian's dataset-fashion-mnist, or --package=FOLDER. Received: no {path}"
        )
    content = gzip.decompress(path.read_bytes())
    if content[:3] != b"\0\0\x08":
        raise SystemExit(f"Expected an IDX file of bytes. Received: {path}")
    end = 4 + 4 * content[3]
    return np.frombuffer(content, np.uint8, offset=end).reshape(np.frombuffer(content[4:end], ">u4"))


def main(argv):
    folder = pathlib.Path(WORKDIR.value)
    write_images(pathlib.Path(PACKAGE.value), folder / "images")
    source = ["name=image_folder", "channels=1", f"path={folder / 'images'}"]
    lines = []
    for per_class in PER_CLASS:
        data = [f"split.train_per_class={per_class}", "augment.image_size=28", *(f"source.{each}" for each in source)]
        options = [f"--config.data.{each}" for each in data]
        for seed in range(SEEDS.value):
            train(folder / f"{per_class}/{seed}", *options, *argv[1:], seed=seed, config="fonts")
        lines += by_method(folder / str(per_class), benchmark="fashion", per_class=per_class)
    record("fashion", lines)


if __name__ == "__main__":
    app.run(main)
