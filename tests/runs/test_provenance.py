"""The commit is what git says it is; a run keeps which code trained it, and its card says so where another exports."""

import subprocess

import pytest

from cskd_tf.data.catalogue.datasets import find_dataset
from cskd_tf.runs import model_card, provenance
from cskd_tf.runs.config import OF_NO_RESULT, Config
from cskd_tf.runs.experiment import prepare
from cskd_tf.runs.workdir import Workdir


def git(folder, *arguments):
    identity = ("-c", "user.name=Nobody", "-c", "user.email=nobody@example.org")
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def package(tmp_path):
    """One in a checkout of its own."""
    folder = tmp_path / "checkout" / "package"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "first")
    return folder


def commit(package):
    provenance.commit.cache_clear()
    return provenance.commit(package)


def test_the_commit_is_that_of_git_and_dirty_where_the_package_differs(package):
    (head,) = git(package, "log", "--format=%H").split()
    assert len(commit(package)) >= 7
    assert head.startswith(commit(package))
    (package.parent / "notes.txt").write_text("beside the package")
    assert head.startswith(commit(package))
    (package / "__init__.py").write_text("changed = True")
    assert commit(package).endswith("-dirty")
    assert head.startswith(commit(package).removesuffix("-dirty"))


def test_of_a_package_in_no_checkout_or_in_somebody_elses_it_is_not_known(package, tmp_path):
    installed = package.parent / "site-packages" / "package"
    installed.mkdir(parents=True)
    (installed / "__init__.py").write_text("")
    assert commit(installed) == ""
    assert commit(tmp_path) == ""


def test_a_run_keeps_all_code_that_trained_it(tmp_path, monkeypatch):
    workdir = Workdir(tmp_path)
    assert workdir.trained_by() == []
    for code in ("one", "one", "two", "one"):
        monkeypatch.setattr(provenance, "code", lambda code=code: code)
        workdir.note_code()
    assert workdir.trained_by() == ["one", "two", "one"]


def test_the_card_has_both_where_they_differ(exported_run, exported_folder, monkeypatch):
    said = (exported_folder / "README.md").read_text()
    assert exported_run.trained_by() == [provenance.code()]
    assert f"| trained and exported by | {provenance.code()} |" in said
    experiment = prepare(exported_run.config())
    monkeypatch.setattr(provenance, "code", lambda: "cskd_tf 9, commit 1234567")
    said = model_card._origin(experiment, exported_run)
    assert f"| trained by | {exported_run.trained_by()[0]} |\n| exported by | cskd_tf 9, commit 1234567 |" in said


def test_a_licence_is_the_users_words_and_changes_no_run(exported_run):
    values = exported_run.config().as_dict()
    values["data"]["source"]["licence"] = "CC BY 4.0, with the consent of all photographers"
    config = Config.read(values)
    assert "data.source.licence" in OF_NO_RESULT
    exported_run.check_owner(config)
    experiment = prepare(config)
    assert "- digits: CC BY 4.0, with the consent of all photographers\n" in model_card._data(experiment)


def test_of_images_of_others_the_licence_is_that_of_what_they_were_made_of():
    assert "font files" in find_dataset("fonts").licence
    for name in ("tiny_imagenet", "stanford_dogs"):
        assert find_dataset(name).licence == f"images of ImageNet; {find_dataset('imagenet2012').licence}"


@pytest.fixture
def checkout(tmp_path):
    """With a package in a folder of it; `package` of the other tests is a checkout itself, with nothing beside it."""
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "first")
    return tmp_path


def test_what_changes_beside_the_package_makes_it_not_dirty(checkout):
    (checkout / "notes.txt").write_text("beside the package")
    assert not provenance.commit(checkout / "package").endswith("-dirty")
    (checkout / "package" / "more.py").write_text("")
    provenance.commit.cache_clear()
    assert provenance.commit(checkout / "package").endswith("-dirty")
