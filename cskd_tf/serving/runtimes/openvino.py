"""OpenVINO, Intel's runtime for CPUs and their graphics."""

import pathlib
import tempfile

import numpy as np

from cskd_tf.serving.runtimes.base import Format, Material, Run
from cskd_tf.serving.runtimes.onnx import MODEL as ONNX_MODEL
from cskd_tf.serving.runtimes.onnx import converted

MODEL = "model.xml"  # and beside it model.bin, the weights
# Else CPUs that multiply bfloat16 faster do, and probabilities differ in the third digit.
FLOAT32 = {"INFERENCE_PRECISION_HINT": "f32"}


class OpenVino(Format):
    """OpenVINO's two files, from raw images of any size to numbers; read from ONNX, as its reader of it is complete."""

    extra = "openvino"
    packages = ("onnx", "tf2onnx", "openvino")

    def write(self, folder: pathlib.Path, material: Material) -> None:
        import openvino

        with tempfile.TemporaryDirectory() as scratch:
            source = pathlib.Path(scratch) / ONNX_MODEL
            source.write_bytes(converted(material))
            # Not convert_model, which reports to Intel that it was called.
            openvino.save_model(openvino.Core().read_model(source), folder / MODEL, compress_to_fp16=False)

    def load(self, folder: pathlib.Path) -> Run:
        import openvino

        model = openvino.Core().compile_model(folder / MODEL, "CPU", FLOAT32)

        def run(images: np.ndarray) -> dict[str, np.ndarray]:
            results = model(images)
            return {output.get_any_name(): results[output] for output in model.outputs}

        return run
