"""What every format for another runtime does: it is written, and what was written is run again."""

import abc
import dataclasses
import importlib.util
import pathlib
from collections.abc import Callable
from typing import ClassVar

import numpy as np

from cskd_tf.serving.runtimes.numbers import Numbers

Run = Callable[[np.ndarray], dict[str, np.ndarray]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Material:
    """What files for other runtimes are made of, and judged by.

    Attributes:
        numbers: of the classifier.
        images: batches of raw images, uint8 `[n, H, W, C]`, on which outputs are compared.
        training_pixels: float32 `[n, size, size, C]`, from 0 to 255, of training images, which tell int8 its ranges.
        test_pixels: the same of images that were not trained on, on which probabilities are judged.
        test_labels: int `[n]`, theirs.
        ece_bins: of their ECE.
        opset: of ONNX.
    """

    numbers: Numbers
    images: list[np.ndarray]
    training_pixels: Callable[[], np.ndarray]
    test_pixels: np.ndarray
    test_labels: np.ndarray
    ece_bins: int
    opset: int


class Format(abc.ABC):
    """A file, or several, that another runtime reads.

    Attributes:
        extra: of this package, which installs what the format needs.
        packages: the modules that have to be there to write and check it.
        takes_images: whether the graph takes raw images of any size, uint8; else pixels of the export's size, float32.
        exact: whether outputs are to be the SavedModel's to rounding; else probabilities as good as its.
    """

    extra: ClassVar[str]
    packages: ClassVar[tuple[str, ...]]
    takes_images: ClassVar[bool] = True
    exact: ClassVar[bool] = True

    @abc.abstractmethod
    def write(self, folder: pathlib.Path, material: Material) -> None:
        """Writes its files into a folder that is empty."""

    @abc.abstractmethod
    def load(self, folder: pathlib.Path) -> Run:
        """What was written, as a function from a batch to outputs by name."""

    def missing(self) -> list[str]:
        """Those of `packages` that are not installed."""
        return [package for package in self.packages if importlib.util.find_spec(package) is None]
