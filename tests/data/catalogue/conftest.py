import pytest

from tests.data.catalogue.layouts import LAYOUTS


@pytest.fixture
def manual(tmp_path):
    """The folder where TFDS looks for archives that were fetched by hand."""
    folder = tmp_path / "downloads" / "manual"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def by_hand(manual, monkeypatch):
    """Puts a data set's archives into the manual folder, and has their checksums expected; returns class names."""

    def put(name):
        class_names = LAYOUTS[name].write(manual)
        LAYOUTS[name].expect(manual, monkeypatch)
        return class_names

    return put


@pytest.fixture
def prepared_folders(tmp_path):
    """Lists what was prepared, wholly or in part."""

    def found():
        return [path for path in tmp_path.rglob("*") if path.name == "dataset_info.json" or "incomplete" in path.name]

    return found
