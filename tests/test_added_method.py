"""docs/add_a_method.md adds a method: what it says is done here, and the method trains."""

import doctest
import math
import os
import pathlib
import subprocess
import sys
import types

import numpy as np
import pytest
import tensorflow as tf

import cskd_tf
from tests import pages
from tests.helpers import ROOT

PAGE = "docs/add_a_method.md"
FILES = {block.file: block for block in pages.blocks(PAGE, "python")}


def test_every_block_is_a_file_a_change_or_a_command():
    assert set(FILES) == {"cskd_tf/methods/poly.py", "configs/digits_poly.py", "tests/methods/test_poly.py"}
    assert not [name for name in FILES if (ROOT / name).exists()]
    languages = [block.language for block in pages.blocks(PAGE)]
    assert languages == ["python", "diff", "python", "python", "bash"]


def test_the_change_fits_the_package(repository, tmp_path):
    (diff,) = pages.blocks(PAGE, "diff")
    (tmp_path / "names.diff").write_text(diff.text)
    check = ["git", "apply", "-C1", "--check", str(tmp_path / "names.diff")]
    done = subprocess.run(check, cwd=repository, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def executed(name):
    module = types.ModuleType(pathlib.Path(name).stem)
    exec(compile(FILES[name].text, name, "exec"), vars(module))
    return module


def test_the_method_is_what_its_page_and_tests_say(monkeypatch, images_and_labels, linear_network):
    poly = executed("cskd_tf/methods/poly.py")
    (example,) = doctest.DocTestFinder(exclude_empty=True).find(
        poly.Poly, globs={"Poly": poly.Poly, "tf": tf, "math": math}
    )
    assert doctest.DocTestRunner().run(example).failed == 0
    monkeypatch.setattr(cskd_tf.methods, "Poly", poly.Poly, raising=False)
    monkeypatch.setitem(cskd_tf.methods.METHODS, "Poly", poly.Poly)
    tests = executed("tests/methods/test_poly.py")
    for name, test in vars(tests).items():
        if name.startswith("test_"):
            test()
    config = executed("configs/digits_poly.py").get_config()
    model = cskd_tf.SelfDistiller(linear_network(), cskd_tf.methods.build([dict(each) for each in config.methods]))
    model.compile(cskd_tf.optimizers.SGD(0.05))
    images, labels = images_and_labels
    data = cskd_tf.data.paired_dataset(images, labels, batch_size=8, seed=0, **model.data_options)
    history = model.fit(data, epochs=3, verbose=0).history
    assert history["poly"][-1] < history["poly"][0]
    assert np.isfinite(history["loss"]).all()


@pytest.mark.newcomer
def test_following_the_page_adds_the_method(repository):
    for name, block in FILES.items():
        (repository / name).write_text(block.text)
    (diff,) = pages.blocks(PAGE, "diff")
    subprocess.run(["git", "apply", "-C1", "-"], cwd=repository, input=diff.text, text=True, check=True)
    environment = {**os.environ, "PATH": f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    printed = []
    for words in [words for block in pages.blocks(PAGE, "bash") for words in pages.lines_of(block)]:
        done = subprocess.run(words, cwd=repository, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        printed.append(done.stdout)
    assert "passed" in printed[0]
    assert "Poly(epsilon=2)" in printed[1]
    assert "cross-entropy" in printed[1]
