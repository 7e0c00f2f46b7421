"""LiteRT, formerly TensorFlow Lite: for phones and small machines, in float32 and in int8."""

import os
import pathlib
import tempfile
import warnings
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cskd_tf.serving.functions import PIXELS
from cskd_tf.serving.runtimes.base import Format, Material, Run

MODEL = "model.tflite"
SIGNATURE = "serve"
# What follows the logits stays in float32: in int8 a probability would be a multiple of 1 / 256.
AFTER_THE_LOGITS = ("SOFTMAX", "TOPK_V2", "STRIDED_SLICE", "GREATER_EQUAL")


class LiteRt(Format):
    """One file, from pixels of the export's size to numbers: LiteRT has no operation that resizes to any box."""

    extra = "litert"
    packages = ("ai_edge_litert",)
    takes_images = False

    def write(self, folder: pathlib.Path, material: Material) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            archive = keras.export.ExportArchive()
            spec = material.numbers.pixels_spec
            archive.add_endpoint(SIGNATURE, lambda pixels: material.numbers.of_pixels(_of_size(pixels, spec)), [spec])
            archive.write_out(scratch, verbose=False)
            converter = tf.lite.TFLiteConverter.from_saved_model(scratch, signature_keys=[SIGNATURE])
            (folder / MODEL).write_bytes(self._convert(converter, material))

    def load(self, folder: pathlib.Path) -> Run:
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(model_path=str(folder / MODEL), num_threads=os.cpu_count())
        signature = interpreter.get_signature_runner(SIGNATURE)

        def run(pixels: np.ndarray) -> dict[str, np.ndarray]:
            return signature(**{PIXELS: pixels})

        return run

    def _convert(self, converter: Any, material: Material) -> bytes:
        del material
        return converter.convert()


def _of_size(pixels: tf.Tensor, spec: tf.TensorSpec) -> tf.Tensor:
    """The same pixels, by operations that fail on those of another size: LiteRT would resize its input, and go on."""
    for axis in (1, 2):
        shape = [spec.shape[axis] if each == axis else 1 for each in range(4)]
        pixels = tf.minimum(pixels, tf.constant(255.0, shape=shape))
    return pixels


class LiteRtInt8(LiteRt):
    """The same with weights and activations of 8 bits, in ranges that training images had: a quarter of the size."""

    exact = False

    def _convert(self, converter: Any, material: Material) -> bytes:
        def batches() -> Iterator[list[np.ndarray]]:
            for pixels in material.training_pixels():
                yield [pixels[None]]

        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = batches
        options = tf.lite.experimental.QuantizationDebugOptions(denylisted_ops=list(AFTER_THE_LOGITS))
        with warnings.catch_warnings():
            # It makes one of TensorFlow's interpreters, which says that it will be removed.
            warnings.filterwarnings("ignore", message=r"\s*Warning: tf.lite.Interpreter is deprecated")
            debugger = tf.lite.experimental.QuantizationDebugger(
                converter=converter, debug_dataset=batches, debug_options=options
            )
            return debugger.get_nondebug_quantized_model()
