"""Blocks that need folders: on images that are written here, and on runs of seconds that stand for finished ones."""

import pathlib
import re
import shutil

import numpy as np
import pytest
import tensorflow as tf

from tests import pages
from tests.helpers import ALONE, ROOT, SMALL

REASON = "on folders of a test"
BRIEF = ("--config.epochs=1", "--config.network.name=preact_resnet10", *SMALL, *ALONE)
TRAINING = ("train", "sweep", "doctor")  # verbs that are made brief
PHOTOS = ("--config=configs/image_folder.py", "--config.data.source.path=photos")
FEW = "--config.batch_size=4"  # of 8 photographs
BLOCKS = [block for block in pages.all_blocks() if block.reason == REASON]

pytestmark = pytest.mark.newcomer


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Where folders are kept that several tests need."""
    return tmp_path_factory.mktemp("made")


class Workspace:
    """An empty folder with the repository's program and photographs, in which the words of the pages are run."""

    def __init__(self, command, made):
        self._command, self._made = command, made

    def run(self, words):
        program, *arguments = words
        assert (program, arguments[0]) == ("python", "train_main.py")
        code, printed = self._command(*arguments[1:])
        assert code == 0, printed[-3000:]

    def provide(self, folder, *arguments):
        """A folder that a command makes, or made before."""
        if not (self._made / folder).exists():
            self.run(["python", "train_main.py", *arguments])
            shutil.copytree(folder, self._made / folder)
        elif not pathlib.Path(folder).exists():
            shutil.copytree(self._made / folder, folder)

    def provide_for(self, words):
        """The finished runs that these words name, and the SavedModel."""
        text = " ".join(words)
        for seed, name in enumerate(("DIR", "DIR2", "DIR3", "saved_models/digits")):
            if re.search(rf"[=,]{name}\b", text):
                name = name.removeprefix("saved_models/")
                self.provide(name, f"--workdir={name}", f"--config.seed={seed}", *BRIEF)
        if "saved_models/digits" in text:
            self.provide("saved_models/digits", "--workdir=digits", "--mode=export")
        if "of_photos" in text:
            self.provide("of_photos", *PHOTOS, "--workdir=of_photos", *BRIEF, FEW)


@pytest.fixture
def workspace(command, image_folder, made, monkeypatch):
    folder = image_folder.parent
    for name in ("train_main.py", "configs"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "more").mkdir()
    shutil.copy(image_folder / "test" / "cat" / "1.jpg", folder / "more" / "one.jpg")
    paths = sorted(path.relative_to(folder) for path in image_folder.rglob("*.*"))
    rows = [f"{path},{path.parts[2]},{path.parts[1]}" for path in paths]
    (folder / "list.csv").write_text("\n".join(["path,label,split", *rows]))
    monkeypatch.chdir(folder)
    return Workspace(command, made)


def given(words):
    """The words of a page with folders for those that it leaves to its reader, and brief where they train."""
    text = "\n".join(words)
    of_photos = any(config in text for config in ("configs/image_folder.py", "configs/csv.py"))
    text = text.replace("=FOLDER", "=photos").replace("=FILE.csv", "=list.csv")
    if of_photos:
        text = text.replace("=DIR", "=of_photos")
    words = text.split("\n")
    with_config = any(word.startswith("--config=") for word in words)  # which has to be that of the run
    if verb(words) in TRAINING or (verb(words) == "export" and with_config):
        words += [*BRIEF, *([FEW] if of_photos else [])]
    return words


def verb(words):
    given = [word.removeprefix("--mode=") for word in words if word.startswith("--mode=")]
    return "predict" if "predict" in words else next(iter(given), "train")


FETCHED = ("--config=configs/cifar100.py", "--config=configs/imagenet2012.py")
OF_FETCHED = [
    (f"{block.page}-{number}", words)
    for block in pages.all_blocks()
    if block.reason == "fetches data" and block.language == "bash"
    for number, words in enumerate(pages.lines_of(block))
    if words[0] == "python" and verb(words) == "train" and set(words) & set(FETCHED)
    if not any("my_networks" in word for word in words)  # which takes images of one size, as photographs are not
]


@pytest.mark.parametrize("words", [words for _, words in OF_FETCHED], ids=[name for name, _ in OF_FETCHED])
def test_the_training_commands_on_fetched_data_run_on_photographs(words, workspace):
    """With all that they ask for but the data and the length."""
    kept = [word for word in words if word not in FETCHED]
    longer = ["--config.epochs=6"] if "warmup_epochs=5" in " ".join(words) else []
    workspace.run([*kept[:2], *PHOTOS, *BRIEF, FEW, *longer, *kept[2:]])


@pytest.mark.parametrize("page", list(dict.fromkeys(block.page for block in BLOCKS if block.language == "bash")))
def test_the_commands_of_a_page_run_on_folders(page, workspace):
    for block in BLOCKS:
        if block.page == page:
            for words in map(given, pages.lines_of(block)):
                if verb(words) not in ("train", "sweep"):  # which make theirs
                    workspace.provide_for(words)
                workspace.run(words)


def test_the_lines_about_a_saved_model_run(workspace):
    (block,) = [block for block in BLOCKS if block.language == "python"]
    workspace.provide_for(["--workdir=saved_models/digits/1"])
    images = np.random.default_rng(0).integers(0, 256, (3, 9, 12, 1), np.uint8)
    pathlib.Path("seven.png").write_bytes(tf.io.encode_png(images[0]).numpy())
    names = {"images": images}
    exec(compile(block.text, block.page, "exec"), names)
    assert names["outputs"]["probabilities"].shape == (3, 10)
