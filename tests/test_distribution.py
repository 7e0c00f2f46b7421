"""`make dist`: what wheel and source distribution hold, and that the wheel runs where nothing else of ours is."""

import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import zipfile

import pytest

import cskd_tf
from tests.helpers import ROOT

PAGE = "cskd_tf/serving/runtimes/page.html"
LARGEST = 1_000_000  # bytes of either


def run(*command, folder, codes=(0,)):
    done = subprocess.run(list(map(str, command)), cwd=folder, capture_output=True, text=True)
    assert done.returncode in codes, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_wheel_and_source_install_into_a_clean_environment_and_train(repository, tmp_path):
    recipe = run("make", "-n", "-o", ".venv/test", f"BIN={os.path.dirname(sys.executable)}", "dist", folder=repository)
    (build,) = re.findall(r".*-m build .*", recipe)
    run(*build.split(), folder=repository)
    (wheel,), (source,) = (list((repository / "dist").glob(kind)) for kind in ("*.whl", "*.tar.gz"))
    print(f"wheel {wheel.stat().st_size:,} bytes, source distribution {source.stat().st_size:,} bytes")
    assert max(wheel.stat().st_size, source.stat().st_size) < LARGEST

    with tarfile.open(source) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    kept = {str(path.relative_to(ROOT)) for folder in ("cskd_tf", "configs") for path in (ROOT / folder).rglob("*.py")}
    assert kept | {"train_main.py", "pyproject.toml", "LICENSE", "README.md", "CHANGELOG.md", "CITATION.cff"} <= held
    with zipfile.ZipFile(wheel) as archive:
        assert kept | {"train_main.py", "cskd_tf/py.typed"} <= set(archive.namelist())
        for name in {*held, *archive.namelist()}:
            assert not name.startswith(("tests/", "benchmarks/", "docs/", "results/", "examples/")), name

    environment = tmp_path / "environment"
    run(sys.executable, "-m", "venv", environment, folder=tmp_path)
    python = environment / "bin" / "python"
    inside = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", folder=tmp_path).strip()
    # The packages that are needed are those under test; ours is the wheel's.
    with open(os.path.join(inside, "packages.pth"), "w") as file:
        file.write(sysconfig.get_path("purelib") + "\n")
    alone = ("--no-index", "--no-deps", "--quiet")
    run(sys.executable, "-m", "pip", "wheel", *alone, "--no-build-isolation", source, folder=tmp_path)
    for built in (tmp_path / wheel.name, wheel):  # the one of the source distribution first
        run(python, "-m", "pip", "install", *alone, "--force-reinstall", built, folder=tmp_path)
        assert PAGE in run(python, "-m", "pip", "show", "--files", "cskd_tf", folder=tmp_path)
    where = run(python, "-c", "import cskd_tf; print(cskd_tf.__version__, cskd_tf.__file__)", folder=tmp_path)
    assert where.startswith(f"{cskd_tf.__version__} {inside}")
    command = environment / "bin" / "cskd-tf"
    assert "--workdir" in run(command, "--help", folder=tmp_path, codes=(0, 1))  # absl leaves with 1
    small = ("--config.epochs=1", "--config.data.split.train_per_class=4", "--config.network.width=2")
    quiet = ("--config.verbose=0", "--config.export.enabled=False", "--workdir=run")
    printed = run(command, *small, *quiet, folder=tmp_path)
    assert "CSKD(temperature=4, weight=1)" in printed
    assert (tmp_path / "run" / "metrics.json").is_file()
