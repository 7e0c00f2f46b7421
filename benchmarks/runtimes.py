"""One classifier in every runtime beside TensorFlow: `python -m benchmarks.runtimes`; `make runtimes` installs them.

A network is trained on the digits for a few epochs, so that probabilities mean something, and exported in each format.
Parity: the largest difference from the SavedModel's outputs, and of int8 the ECE and the share of images with the same
class, on the digits that it was not trained on. Latency: batches of 1 and 32 in turns, in one process, of raw images of
the network's size, or pixels where a runtime takes these; the page in Chromium afterwards, by its own clock, on one
thread, as pages run it. What resizing costs outside of the graph: probabilities where OpenCV resizes, beside the graph.
"""

import os
import pathlib
import statistics
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import cskd_tf  # before TensorFlow, whose kernels it chooses

# isort: split
import cv2
import keras
import numpy as np
import tensorflow as tf
from absl import app, flags
from sklearn.datasets import load_digits

from benchmarks import browser
from benchmarks.results import record
from benchmarks.turns import median_ratio, timed_here
from cskd_tf.evaluation.predictions import Predictions
from cskd_tf.serving import saved_model
from cskd_tf.serving.calibration import Calibration
from cskd_tf.serving.functions import Serving
from cskd_tf.serving.runtimes import formats
from cskd_tf.serving.runtimes.base import Material
from cskd_tf.serving.runtimes.numbers import Numbers

NETWORK = flags.DEFINE_string("network", "preact_resnet18", "The network.")
WIDTH = flags.DEFINE_integer("width", 16, "Channels of its first stage.")
SIZE = flags.DEFINE_integer("image", 32, "Pixels of its images.")
EPOCHS = flags.DEFINE_integer("epochs", 6, "Of training.")
BATCHES = flags.DEFINE_multi_integer("batch", [1, 32], "Images per call.")
ROUNDS = flags.DEFINE_integer("rounds", 20, "Calls of each kind that are timed.")
TRAINING, VALIDATION = 1000, 200  # of 1,797 images
MEAN, STD = 0.3, 0.35
IN_THE_PAGE = """
const [pixels, dims, rounds, done] = arguments;
(async () => {
  const input = Uint8Array.from(pixels), seconds = [];
  for (let round = 0; round <= rounds; round++) {
    const start = performance.now();
    await classifier.run(input, dims);
    seconds.push((performance.now() - start) / 1000);
  }
  const {probabilities} = await classifier.run(input, dims);
  done([seconds.slice(1), Array.from(probabilities.data)]);
})().catch(error => done(String(error)));
"""


def trained() -> tuple[Serving, np.ndarray, np.ndarray]:
    """The classifier, and all digits, uint8 `[1797, size, size, 1]`, with their labels."""
    digits, labels = load_digits(return_X_y=True)
    digits = (digits.reshape(-1, 8, 8) * 255 / 16).astype(np.uint8)
    images = np.stack([cv2.resize(each, (SIZE.value,) * 2, interpolation=cv2.INTER_CUBIC) for each in digits])[
        ..., None
    ]
    order = np.random.default_rng(0).permutation(len(labels))
    images, labels = images[order], labels[order].astype(np.int32)
    shape = (SIZE.value, SIZE.value, 1)
    network = cskd_tf.networks.build(NETWORK.value, num_classes=10, input_shape=shape, width=WIDTH.value)
    model = cskd_tf.SelfDistiller(network, [cskd_tf.methods.CSKD()])
    model.compile(cskd_tf.optimizers.SGD(0.05, momentum=0.9))
    pixels = ((images[:TRAINING] / 255 - MEAN) / STD).astype(np.float32)
    data = cskd_tf.data.paired_dataset(
        pixels, labels[:TRAINING], batch_size=50, seed=0, epochs=EPOCHS.value, **model.data_options
    )
    model.fit(data, epochs=EPOCHS.value, verbose=0)
    augmentation = cskd_tf.data.Augmentation(image_size=SIZE.value, crop="none", flip=False, mean=(MEAN,), std=(STD,))
    transform = cskd_tf.data.build_transforms(augmentation)[1]
    names = [str(digit) for digit in range(10)]
    raw = Serving(model, transform, class_names=names)
    validation = slice(TRAINING, TRAINING + VALIDATION)
    logits = raw.features_of_images(tf.constant(images[validation]))["logits"].numpy()
    predictions = Predictions(logits, labels[validation])
    calibration = Calibration.fit(predictions, temperature=True, coverage=0.9)
    return Serving(model, transform, class_names=names, calibration=calibration), images, labels


def in_the_page(driver, images: np.ndarray) -> tuple[list[float], np.ndarray]:
    """Seconds of each call, and probabilities `[N, C]`, of the exported page."""
    answer = driver.execute_async_script(IN_THE_PAGE, images.ravel().tolist(), list(images.shape), ROUNDS.value)
    if isinstance(answer, str):
        raise RuntimeError(answer)
    return answer[0], np.reshape(answer[1], (len(images), -1))


def resized_elsewhere(serving: Serving) -> float:
    """The largest difference of a probability where OpenCV resizes larger images by areas, and not the graph."""
    generator = np.random.default_rng(0)
    digits = load_digits(return_X_y=True)[0][-100:].reshape(-1, 8, 8) * 255 / 16
    larger = [cv2.resize(each, (3 * serving.size,) * 2, interpolation=cv2.INTER_CUBIC) for each in digits]
    larger = np.clip(np.stack(larger) + generator.normal(0, 8, np.shape(larger)), 0, 255).astype(np.uint8)[..., None]
    smaller = [cv2.resize(each, (serving.size,) * 2, interpolation=cv2.INTER_AREA) for each in larger]
    inside, outside = (
        serving.of_images(tf.constant(images))["probabilities"].numpy()
        for images in (larger, np.stack(smaller)[..., None])
    )
    return float(np.abs(inside - outside).max())


def main(argv):
    del argv
    formats.check_installed(list(formats.FORMATS))
    load = os.getloadavg()[0]  # before this process adds to it: what else ran meanwhile
    if reason := browser.missing():
        raise app.UsageError(f"Expected a browser for the page. Received: {reason}")
    keras.utils.set_random_seed(0)
    serving, images, labels = trained()
    rest = slice(TRAINING + VALIDATION, None)
    material = Material(
        numbers=Numbers(serving),
        images=[images[rest][:32]],
        training_pixels=lambda: images[:256].astype(np.float32),
        test_pixels=images[rest].astype(np.float32),
        test_labels=labels[rest],
        ece_bins=20,
        opset=17,
    )
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        saved_model.write(serving, folder / "1")
        served = tf.saved_model.load(str(folder / "1"))
        reports = formats.write_all(list(formats.FORMATS), folder, material)
        size = sum(file.stat().st_size for file in (folder / "1").rglob("*") if file.is_file())
        first = {"benchmark": "runtimes", "network": NETWORK.value, "width": WIDTH.value, "image": SIZE.value}
        runs = {name: form.load(folder / name) for name, form in formats.FORMATS.items() if name != "web"}
        browser.add_library(folder / "web")
        lines: dict[str, dict] = {"saved_model": {"bytes": size}, **reports}
        with browser.served(folder / "web") as address, browser.chromium(seconds=600) as driver:
            driver.get(address)
            browser.wait_until_ready(driver)
            for batch in BATCHES.value:
                own = images[rest][:batch]
                pixels = own.astype(np.float32)
                programs = {"saved_model": lambda own=own: served.serve(own)["probabilities"].numpy()}
                for name, run in runs.items():
                    given = own if formats.FORMATS[name].takes_images else pixels
                    programs[name] = lambda run=run, given=given: run(given)
                seconds = timed_here(programs, rounds=ROUNDS.value)
                seconds["web"], found = in_the_page(driver, own)
                difference = float(np.abs(found - programs["saved_model"]()).max())
                lines["web"]["in_chromium"] = max(difference, lines["web"].get("in_chromium", 0.0))
                for name, line in lines.items():
                    line[f"batch_{batch}_milliseconds"] = round(1000 * statistics.median(seconds[name]), 3)
                    ratio = median_ratio(seconds[name], seconds["saved_model"])
                    line[f"batch_{batch}_over_saved_model"] = round(ratio, 3)
    lines["saved_model"] |= {"load": round(load, 1), "cores": os.cpu_count()}
    lines["saved_model"]["resized_by_opencv"] = resized_elsewhere(serving)
    record("runtimes", [{**first, "runtime": name, **line} for name, line in lines.items()])


if __name__ == "__main__":
    app.run(main)
