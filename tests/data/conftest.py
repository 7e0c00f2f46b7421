import itertools

import pytest
import requests
from tensorflow_datasets.core.download import downloader

from tests.data.catalogue.layouts import write_tiny_imagenet
from tests.data.grey_images import THIRDS
from tests.data.helpers import write


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(url, **_):
        raise requests.ConnectionError(f"no network for {url}")

    monkeypatch.setattr(downloader, "_open_url", refuse)


@pytest.fixture
def two_classes(tmp_path):
    """A folder of two classes, two images each."""
    for name, number in itertools.product(("cat", "dog"), (1, 2)):
        write(tmp_path / "two" / name / f"{number}.jpg")
    return tmp_path / "two"


@pytest.fixture
def tiny(tmp_path):
    """The arguments with which a small TinyImageNet is loaded, and its class names."""
    names = write_tiny_imagenet(tmp_path)
    return {"path": str(tmp_path / "data"), "archive": str(tmp_path / "tiny-imagenet-200.zip"), **THIRDS}, names
