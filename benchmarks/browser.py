"""Debian's Chromium without a window, and the npm package that exported pages run in it, for tests and benchmarks."""

import contextlib
import functools
import http.server
import os
import pathlib
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import ClassVar

from cskd_tf.files import partial_mark
from cskd_tf.serving.runtimes.web import NPM_FILES, NPM_PACKAGE, NPM_VERSION

CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "cskd_tf"


def missing() -> str:
    """Why no page can be opened here; empty: it can."""
    for program, package in (("chromium", "chromium"), ("chromedriver", "chromium-driver"), ("npm", "npm")):
        if shutil.which(program) is None:
            return f"no {program}; Debian's package {package} has it"
    try:
        import selenium  # noqa: F401
    except ImportError:
        return "no selenium; requirements-export.txt"
    return ""


def library() -> pathlib.Path:
    """The folder that holds the files which the page needs, fetched by npm once, to a cache outside of the checkout.

    Raises:
        subprocess.CalledProcessError: npm cannot fetch the package.
    """
    folder = CACHE / f"{NPM_PACKAGE}-{NPM_VERSION}"
    if not folder.is_dir():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE, suffix=partial_mark()) as scratch:
            pack = ["npm", "pack", "--silent", f"{NPM_PACKAGE}@{NPM_VERSION}"]
            done = subprocess.run(pack, cwd=scratch, check=True, capture_output=True, text=True)
            shutil.unpack_archive(pathlib.Path(scratch) / done.stdout.split()[-1], scratch)
            with contextlib.suppress(OSError):  # another process has been first
                (pathlib.Path(scratch) / "package" / "dist").rename(folder)
    return folder


def add_library(folder: pathlib.Path) -> None:
    """Puts the files that the README of an exported page names beside it."""
    for name in NPM_FILES:
        shutil.copy(library() / name, folder / name)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    extensions_map: ClassVar = {**http.server.SimpleHTTPRequestHandler.extensions_map, ".mjs": "text/javascript"}

    def log_message(self, *arguments):
        del arguments


@contextlib.contextmanager
def served(folder: pathlib.Path) -> Iterator[str]:
    """The address of a folder on this machine alone."""
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def chromium(seconds: float = 120) -> Iterator:
    """Selenium's driver of a browser of its own, whose scripts may take so long."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    # Sandboxes and shared memory are what containers do not have.
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(argument)
    service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    driver.set_script_timeout(seconds)
    try:
        yield driver
    finally:
        driver.quit()


def wait_until_ready(driver, *, seconds: float = 60) -> None:
    """Waits until an exported page takes images.

    Raises:
        RuntimeError: it does not, with what it says.
    """
    if (said := wait_for(driver, "Ready.", seconds=seconds)) != "Ready.":
        raise RuntimeError(said)


def wait_for(driver, text: str, *, seconds: float = 60) -> str:
    """What an exported page says once it says this, or else after so many seconds."""
    end = time.monotonic() + seconds
    while (said := driver.find_element("id", "status").text) != text and time.monotonic() < end:
        time.sleep(0.05)
    return said
