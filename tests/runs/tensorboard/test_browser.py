"""TensorBoard in a browser without a window: every tab has what belongs there."""

import contextlib
import dataclasses
import importlib.util
import re
import shutil
import subprocess
import sys
import time

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cskd_tf.runs import train
from cskd_tf.runs.workdir import Workdir
from tests.runs.helpers import config_of

selenium = pytest.importorskip("selenium", reason="needs selenium, of requirements-dev.txt")
from selenium import webdriver  # noqa: E402

BROWSERS, DRIVERS = ("chromium", "chromium-browser", "google-chrome"), ("chromedriver",)
PATIENCE = 90  # seconds
# What is written on the page, in the parts of its elements and of its frames too.
WRITTEN = """
const found = [];
const visit = (node) => {
  if (node.nodeType === Node.TEXT_NODE && node.parentElement?.tagName !== "STYLE") found.push(node.textContent);
  if (node.shadowRoot) visit(node.shadowRoot);
  if (node.tagName === "IFRAME" && node.contentDocument) visit(node.contentDocument);
  if (node.tagName === "INPUT") found.push(node.value);
  node.childNodes.forEach(visit);
};
visit(document);
return found.join(" ");
"""
# The sizes of all drawn pictures and canvases.
DRAWN = """
const found = [];
const visit = (node) => {
  if (node.tagName === "IMG" && node.naturalWidth) found.push(node.naturalWidth + "x" + node.naturalHeight);
  if (node.tagName === "CANVAS" && node.width) found.push("canvas");
  if (node.shadowRoot) visit(node.shadowRoot);
  if (node.tagName === "IFRAME" && node.contentDocument) visit(node.contentDocument);
  node.childNodes.forEach(visit);
};
visit(document);
return found;
"""
# The addresses of all that the page and its frames fetched, and that came.
FETCHED = """
const found = [];
const visit = (view) => {
  const entries = view.performance.getEntriesByType("resource");
  entries.forEach((entry) => { if (entry.responseStatus === 200) found.push(entry.name); });
  Array.from(view.frames).forEach(visit);
};
visit(window);
return found;
"""
PICTURES = ("calibration/reliability", "quality/confusion", "quality/mistakes")

pytestmark = pytest.mark.slow


def program(names):
    """The first of some programs that is installed."""
    found = next(filter(None, map(shutil.which, names)), None)
    return found or pytest.skip(f"needs one of {names}, as Debian's packages chromium and chromium-driver bring them")


@pytest.fixture(scope="module")
def logdir(tmp_path_factory):
    """The runs of a sweep over the weight, each beside cross-entropy."""
    folder = tmp_path_factory.mktemp("sweep")
    for weight in (1.0, 2.0):
        methods = ({"name": "CSKD", "temperature": 4.0, "weight": weight},)
        changes = {"network.name": "tests.runs.helpers:small_network", "methods": methods, "export.enabled": False}
        train.train(
            config_of({**changes, "baseline": weight == 1, "epochs": 3, "profile_steps": 2}),
            Workdir(folder / f"weight={weight:g}"),
        )
    return folder


@dataclasses.dataclass
class Page:
    """TensorBoard in a browser."""

    driver: webdriver.Chrome
    address: str

    def open(self, tab):
        self.driver.get("about:blank")
        self.driver.get(f"{self.address}#{tab}")

    def wait_for(self, *words, pictures=()):
        """What is written on the page, once all words and pictures are there."""
        deadline = time.monotonic() + PATIENCE
        while True:
            written = " ".join(self.driver.execute_script(WRITTEN).split())
            drawn = self.driver.execute_script(DRAWN)
            missing = [word for word in words if word not in written]
            missing += [size for size in set(pictures) if drawn.count(size) < list(pictures).count(size)]
            if not missing:
                return written
            assert time.monotonic() < deadline, f"missing {missing} of {drawn} in: {written[-3000:]}"
            time.sleep(0.5)

    def wait_for_fetched(self, part):
        """Until something was fetched whose address has this part."""
        deadline = time.monotonic() + PATIENCE
        while part not in (fetched := " ".join(self.driver.execute_script(FETCHED))):
            assert time.monotonic() < deadline, f"missing {part} of {fetched}"
            time.sleep(0.5)


@pytest.fixture(scope="module")
def page(logdir):
    options = webdriver.ChromeOptions()
    options.binary_location = program(BROWSERS)
    for flag in ("headless=new", "no-sandbox", "enable-unsafe-swiftshader", "window-size=1500,1100"):
        options.add_argument(f"--{flag}")
    service = webdriver.ChromeService(program(DRIVERS))
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(logdir), "--host", "127.0.0.1", "--port", "0"]
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
        stack.callback(server.terminate)
        said = iter(server.stderr.readline, "")
        address = next(match[0] for line in said if (match := re.search(r"http://127.0.0.1:\d+/", line)))
        driver = webdriver.Chrome(options=options, service=service)
        stack.callback(driver.quit)
        yield Page(driver, address)


RUNS = [
    f"{folder}/tensorboard/{run}/{split}"
    for folder, run in (("weight=1", "cskd"), ("weight=1", "cross_entropy"), ("weight=2", "cskd"))
    for split in ("train", "val", "test")
]


def test_scalars_are_in_sections_with_training_and_validation_on_one_chart(page):
    page.open("scalars")
    written = page.wait_for("loss", "quality", "calibration", "training", "loss/cross_entropy", *RUNS)
    assert len(re.findall(r"\bloss/cross_entropy\b", written)) < len(RUNS)  # a chart for all runs, not one for each


def test_time_series_have_cards_of_charts_and_pictures(page):
    page.open("timeseries")
    page.wait_for("calibration", "loss", "quality", "training", " cards", RUNS[0], pictures=["canvas", "440x540"])


def test_pictures_are_reliability_confusion_and_mistakes(page, logdir):
    events = EventAccumulator(str(logdir / "weight=2" / "tensorboard" / "cskd" / "val")).Reload()
    logged = [events.Tensors(tag)[-1].tensor_proto.string_val[:2] for tag in PICTURES]  # width and height come first
    sizes = ["x".join(map(bytes.decode, size)) for size in logged]
    assert len(set(sizes)) == len(PICTURES)
    page.open("images")
    page.wait_for(*PICTURES, "weight=2/tensorboard/cskd/val", pictures=sizes)


def test_the_config_is_there_as_text(page):
    page.open("text")
    page.wait_for("config", "CSKD(temperature=4, weight=2)", "learning_rate")


def test_the_graph_is_that_of_the_network(page):
    page.open("graphs")
    page.wait_for("weight=1/tensorboard/cskd", "functional")


def test_the_sweep_is_a_table_of_hyperparameters_and_metrics(page):
    page.open("hparams")
    page.wait_for("methods[0].weight", "val.quality/top1_error", "test.calibration/ece", "weight=2 in ")


def test_the_projector_has_embeddings_with_classes_and_thumbnails(page):
    page.open("projector")
    page.wait_for("test images", "Points: 256", "class", "predicted", pictures=["canvas"])
    page.wait_for_fetched("/data/plugin/projector/sprite_image")


@pytest.mark.loggers
@pytest.mark.skipif(
    importlib.util.find_spec("tensorboard_plugin_profile") is None,
    reason="requirements-loggers.txt",
)
def test_the_profile_has_the_time_of_a_step(page):
    page.open("profile")
    page.wait_for("Sessions (3)", "Overview Page", "Performance Summary", "Host Compute Time", " ms")
