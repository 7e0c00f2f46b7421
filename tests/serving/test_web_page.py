"""The exported page in a real browser: Debian's Chromium, with onnxruntime-web from npm, and nothing from elsewhere."""

import subprocess

import keras
import numpy as np
import pytest
import tensorflow as tf

import cskd_tf
from benchmarks import browser
from cskd_tf.serving.runtimes import formats
from tests.serving.test_runtimes import material_of, serving_around

pytestmark = [pytest.mark.runtimes, pytest.mark.filterwarnings("default::DeprecationWarning")]
RUN = """
const [pixels, dims, done] = arguments;
classifier.run(Uint8Array.from(pixels), dims).then(
  outputs => {
    const plain = Object.entries(outputs).map(([name, {data}]) => [name, Array.from(data, Number)]);
    done(Object.fromEntries(plain));
  },
  error => done(String(error)));
"""


@pytest.fixture(scope="module")
def material():
    keras.utils.set_random_seed(0)
    network = cskd_tf.networks.build("preact_resnet10", num_classes=7, input_shape=(8, 8, 3), width=4)
    return material_of(serving_around(network))


@pytest.fixture(scope="module")
def folder(material, tmp_path_factory):
    if reason := browser.missing() or ", ".join(formats.FORMATS["web"].missing()):
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("export")
    formats.write_all(["web"], folder, material)
    try:
        browser.library()
    except subprocess.CalledProcessError as error:
        pytest.skip(f"npm fetches nothing here: {error.stderr.strip()[-200:]}")
    return folder / "web"


@pytest.fixture(scope="module")
def page(folder):
    """The page, once it is ready."""
    browser.add_library(folder)
    with browser.served(folder) as address, browser.chromium() as driver:
        driver.get(address)
        browser.wait_until_ready(driver)
        yield driver


def test_its_probabilities_are_those_of_the_classifier(page, material):
    for images in material.images:
        outputs = page.execute_async_script(RUN, images.ravel().tolist(), list(images.shape))
        expected = material.numbers.expected(images)
        assert set(outputs) == set(expected)
        for name in ("probabilities", "embedding", "logits", "top_probabilities", "confidence"):
            found = np.reshape(outputs[name], expected[name].shape)
            np.testing.assert_allclose(found, expected[name], atol=1e-5)
        for name in ("top_classes", "conformal_set"):
            np.testing.assert_array_equal(np.reshape(outputs[name], expected[name].shape), expected[name])


def shown(page):
    rows = page.find_elements("css selector", "#results tbody tr")
    return [[cell.text for cell in row.find_elements("css selector", "td")] for row in rows]


@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_a_file_is_classified_as_the_saved_model_does(page, material, tmp_path, kind):
    serving = material.numbers.serving
    coarse = np.random.default_rng(1).uniform(0, 255, (6, 9, 3))
    image = tf.cast(tf.clip_by_value(tf.image.resize(coarse, (40, 61), "bicubic"), 0, 255), tf.uint8)
    encode = tf.io.encode_png if kind == "png" else tf.io.encode_jpeg
    file = tmp_path / f"photo.{kind}"
    file.write_bytes(encode(image).numpy())
    page.find_element("id", "file").send_keys(str(file))
    assert browser.wait_for(page, "Done.") == "Done."
    outputs = serving.of_bytes(tf.constant([file.read_bytes()]))
    rows = shown(page)
    assert [row[0] for row in rows] == [name.decode() for name in outputs["top_names"][0].numpy()]
    probabilities = [float(row[1].removesuffix(" %")) / 100 for row in rows]
    # PNG is exact to the digits shown; JPEG decoders may differ by a pixel's last digits.
    tolerance = 1e-4 if kind == "png" else 2e-3
    np.testing.assert_allclose(probabilities, outputs["top_probabilities"][0], atol=tolerance)
    sets = outputs["conformal_set"].numpy()[0][outputs["top_classes"].numpy()[0]]
    assert [row[2] for row in rows] == ["yes" if each else "no" for each in sets]


def test_an_image_whose_colours_a_page_cannot_see_is_refused(page, tmp_path):
    pixels = np.full((8, 8, 4), (200, 150, 100, 255), np.uint8)
    pixels[2, 3, 3] = 0
    file = tmp_path / "clear.png"
    file.write_bytes(tf.io.encode_png(pixels).numpy())
    page.find_element("id", "file").send_keys(str(file))
    expected = "Expected an image without transparency, of which a page cannot see the colours as they are"
    assert browser.wait_for(page, expected) == expected


def test_what_is_no_image_is_refused_by_name(page, tmp_path):
    file = tmp_path / "notes.png"
    file.write_text("no image")
    page.find_element("id", "file").send_keys(str(file))
    expected = "Expected a JPEG or PNG image. Received: notes.png"
    assert browser.wait_for(page, expected) == expected
    assert page.find_element("id", "results").is_displayed() is False


def test_without_the_library_the_page_says_what_is_missing(folder, page, tmp_path):
    """`page` has put the files there, which this folder lacks."""
    for file in ("index.html", "model.onnx", "classes.json"):
        (tmp_path / file).write_bytes((folder / file).read_bytes())
    with browser.served(tmp_path) as address, browser.chromium() as driver:
        driver.get(address)
        expected = "Expected ort.wasm.bundle.min.mjs beside this page, and a server; README.md says where it is from."
        assert browser.wait_for(driver, expected) == expected


def test_nothing_is_fetched_from_elsewhere(page):
    fetched = page.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert len(fetched) >= 4
    assert all(name.startswith(("http://127.0.0.1:", "blob:http://127.0.0.1:")) for name in fetched)
