"""ONNX, which onnxruntime and many others read."""

import pathlib

import numpy as np

from cskd_tf.serving.functions import IMAGES
from cskd_tf.serving.runtimes.base import Format, Material, Run

MODEL = "model.onnx"
OLDEST, NEWEST = 13, 18  # opsets: the resizing needs the first, tf2onnx 1.17 writes no later one


class Onnx(Format):
    """One file, from raw images of any size to numbers."""

    extra = "onnx"
    packages = ("onnx", "tf2onnx", "onnxruntime")

    def write(self, folder: pathlib.Path, material: Material) -> None:
        (folder / MODEL).write_bytes(converted(material))

    def load(self, folder: pathlib.Path) -> Run:
        import onnxruntime

        session = onnxruntime.InferenceSession(str(folder / MODEL), providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]

        def run(images: np.ndarray) -> dict[str, np.ndarray]:
            return dict(zip(names, session.run(names, {IMAGES: images}), strict=True))

        return run


def converted(material: Material) -> bytes:
    """What an ONNX file holds."""
    import tf2onnx

    numbers = material.numbers
    model, _ = tf2onnx.convert.from_function(
        numbers.of_images, input_signature=[numbers.images_spec], opset=material.opset
    )
    return model.SerializeToString()
