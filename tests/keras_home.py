"""Where Keras looks for Fashion-MNIST: Debian's package has the same files as its download. To import this names it."""

import os
import pathlib
import tempfile

PACKAGE = pathlib.Path("/usr/share/datasets/fashion-mnist")
FILE = pathlib.Path("datasets", "fashion-mnist", "train-images-idx3-ubyte.gz")
REASON = "Fashion-MNIST is neither in Keras' folder nor installed as Debian's dataset-fashion-mnist"


def has_fashion_mnist() -> bool:
    home = pathlib.Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser()
    return (home / FILE).is_file()


def _provide() -> tempfile.TemporaryDirectory | None:
    """Before Keras is imported: a folder for it with the package's files, unless it has them or there are none."""
    if has_fashion_mnist() or not PACKAGE.is_dir():
        return None
    folder = tempfile.TemporaryDirectory(prefix="keras_home_")
    link = pathlib.Path(folder.name) / FILE.parent
    link.parent.mkdir()
    link.symlink_to(PACKAGE, target_is_directory=True)
    os.environ["KERAS_HOME"] = folder.name
    return folder


_PROVIDED = _provide()  # is removed when the process ends
