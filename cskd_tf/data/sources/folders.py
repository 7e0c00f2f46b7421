"""Folders of image files, one folder per class."""

import collections
import os
import pathlib
import unicodedata
from collections.abc import Iterator, Sequence

import numpy as np
from absl import logging

from cskd_tf.data.sources.encoded import Files
from cskd_tf.data.sources.image_files import check_image_files, sizes_of_files
from cskd_tf.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".png")
OF_RUNS = ({"config.json", "log.jsonl"}, {"saved_model.pb"})  # what lies in a run's folder, and in a SavedModel's


class ImageFolder(Files):
    """JPEG and PNG files in one folder per class; the classes are numbered in the order of their sorted names.

    Links are followed, but never in a circle. Other files are left out, which is logged.

    Example:
        >>> pixels = tf.zeros([2, 2, 3], tf.uint8)
        >>> for name in ("dog", "cat"):
        ...     (pathlib.Path("photos") / name).mkdir(parents=True)
        ...     tf.io.write_file(f"photos/{name}/1.png", tf.io.encode_png(pixels))
        >>> source = ImageFolder("photos")
        >>> source.class_names, source.labels.tolist(), source.locate(1)
        (['cat', 'dog'], [0, 1], 'photos/dog/1.png')

    Args:
        folder: holds one folder per class; what lies deeper belongs to the class, as in torchvision.
        channels: 3 (colour) or 1 (grey); files of the other kind are converted.
        class_names: the expected classes, where another split has set them.
        levels: how many levels of folders make a class; with 2, classes are called like `alphabet/character`, and the
            upper level is the group of the class.
        check_files: whether to refuse files that are no images.

    Raises:
        UserError: a missing folder, a class without images, other classes than expected, classes that differ only by
            case or whose names are no Unicode, or files that are not images (named).
    """

    def __init__(
        self,
        folder: str | pathlib.Path,
        *,
        channels: int = 3,
        class_names: Sequence[str] | None = None,
        levels: int = 1,
        check_files: bool = True,
    ):
        folder = pathlib.Path(folder)
        if not folder.is_dir():
            raise UserError(f"Expected a folder with one folder of images per class. Received: no folder {folder}")
        names = _class_names(folder, levels=levels)
        if class_names is not None and names != list(class_names):
            raise UserError(
                f"Expected the classes of the training images in {folder}. Received: {_difference(names, class_names)}"
            )
        _refuse_similar_names(names, folder)
        images = _images_by_class(folder, names)
        paths = [path for paths_of_class in images for path in paths_of_class]
        super().__init__(
            paths,
            np.repeat(np.arange(len(names)), [len(paths_of_class) for paths_of_class in images]),
            class_names=names,
            class_groups=[name.split("/")[0] for name in names] if levels > 1 else None,
            channels=channels,
            sizes=check_image_files(paths, channels=channels) if check_files else sizes_of_files(paths),
        )


def _class_names(folder: pathlib.Path, *, levels: int) -> list[str]:
    """The sorted names of the folders that are classes, as paths below `folder`."""
    names = [""]
    for _ in range(levels):
        _tell_of_images_beside([folder / parent for parent in names])
        names = sorted(f"{parent}/{name}".lstrip("/") for parent in names for name in _folders(folder / parent))
    if not names:
        level = "folders" if levels == 1 else f"{levels} levels of folders"
        raise UserError(f"Expected one folder per class. Received: {folder}, without {level}")
    if wrong := [name for name in names if os.fsencode(name).decode(errors="replace") != name]:
        raise UserError(f"Expected names of classes in UTF-8. Received: {wrong[:10]} in {folder}")
    return names


def _difference(names: Sequence[str], expected: Sequence[str]) -> str:
    r"""How names of classes differ from others.

    Example:
        >>> _difference(["cat", "cow"], ["cat", "dog"]), _difference(["e\u0301"], ["\u00e9"])
        ("without ['dog'], and with ['cow'] more", "['e\\u0301'] in place of ['\\xe9'], which look alike: rename one")
    """
    lacking, more = (sorted({*one} - {*other}) for one, other in ((expected, names), (names, expected)))
    if lacking and {_folded(name) for name in lacking} == {_folded(name) for name in more}:
        return f"{more[:10]!a} in place of {lacking[:10]!a}, which look alike: rename one"
    parts = [f"without {lacking[:10]}"] * bool(lacking) + [f"with {more[:10]} more"] * bool(more)
    return ", and ".join(parts) or "them in another order"


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold()


def _tell_of_images_beside(folders: Sequence[pathlib.Path]) -> None:
    """Logs which images lie where the folders of the classes do, and are therefore of no class."""
    paths = sorted(path for folder in folders for path in folder.iterdir() if path.is_file() and _is_image(path.name))
    if paths:
        logging.warning(
            "Images beside the folders of the classes are left out: %d, such as %s", len(paths), paths[0]
        )  # fmt: skip


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def _images_by_class(folder: pathlib.Path, class_names: Sequence[str]) -> list[list[str]]:
    """The sorted paths of the images of each class. Whatever else is there is left out, which is logged."""
    paths_by_class: list[list[str]] = []
    left_out: collections.Counter[str] = collections.Counter()  # files by suffix
    deeper = []  # classes whose images all lie in several folders of theirs
    for name in class_names:
        files = sorted(files_below(folder / name))
        _refuse_runs(files, folder / name)
        images = [path for path in files if path.lower().endswith(SUFFIXES)]
        left_out.update(os.path.splitext(path)[1].lower() for path in set(files) - set(images))
        if not images:
            raise UserError(
                f"Expected at least one image ({', '.join(SUFFIXES)}) per class. Received: none in {folder / name}"
            )
        paths_by_class.append(images)
        inner = {os.path.dirname(path) for path in images}
        if len(inner) > 1 and str(folder / name) not in inner:
            deeper.append(name)
    if deeper:
        logging.warning(
            "%s: the images of %d classes, such as %s, lie in several folders each. All of them are one class, but "
            "where data.source.class_levels=2 makes a class of each folder", folder, len(deeper), deeper[0],
        )  # fmt: skip
    if left_out:
        kinds = ", ".join(f"{count} {suffix or 'without a suffix'}" for suffix, count in sorted(left_out.items()))
        logging.warning("%s: files that are neither JPEG nor PNG are left out: %s", folder, kinds)
    return paths_by_class


def _refuse_runs(files: Sequence[str], folder: pathlib.Path) -> None:
    """Figures that a training wrote are no images of a class."""
    names = collections.defaultdict(set)
    for path in files:
        names[os.path.dirname(path)].add(os.path.basename(path))
    if written := [place for place, found in names.items() if any(found >= kind for kind in OF_RUNS)]:
        raise UserError(
            "Expected folders of images as classes; runs and exports belong somewhere else (--workdir, "
            f"config.export.directory). Received: {folder}, in which is one: {written[0]}"
        )


def _folders(folder: pathlib.Path) -> list[str]:
    """The sorted names of the folders in `folder`."""
    listed = sorted(os.listdir(folder))
    for name in listed:
        if name.startswith("."):
            _tell_of_hidden(folder / name)
        if os.path.islink(folder / name) and not os.path.exists(folder / name) and not _is_image(name):
            raise UserError(
                f"Expected links to folders that are there. Received: {folder / name}, to {os.readlink(folder / name)}"
            )
    names = [name for name in listed if not name.startswith(".")]
    place = pathlib.Path(os.path.realpath(folder))
    return [name for name in names if _target(folder / name, below=place / name) and (folder / name).is_dir()]


def _tell_of_hidden(folder: pathlib.Path) -> None:
    if any(_is_image(name) for _, _, names in os.walk(folder) for name in names):
        logging.warning("%s: a folder whose name begins with a dot is left out, with its images", folder)


def _target(path: str | pathlib.Path, *, below: str | pathlib.Path) -> str:
    """Where a path leads. Refuses a link to itself, and one to a folder that holds `below`."""
    target = os.path.realpath(path)
    if os.path.islink(target) or pathlib.Path(target) in pathlib.Path(below).parents:
        raise UserError(f"Expected no link to a folder that holds it. Received: {path}, to {target}")
    return target


def _raise(error: OSError) -> None:
    raise error


def files_below(folder: pathlib.Path) -> Iterator[str]:
    """All files below `folder`, each folder once, but for those whose own or whose folder's name begins with a dot."""
    seen = {os.path.realpath(folder)}
    for path, folders, names in os.walk(folder, followlinks=True, onerror=_raise):
        for name in list(folders):
            if name.startswith("."):  # of thumbnails, or a wastebasket
                folders.remove(name)
                _tell_of_hidden(pathlib.Path(path, name))
                continue
            target = _target(os.path.join(path, name), below=os.path.realpath(folder))
            if target in seen:
                folders.remove(name)
            seen.add(target)
        yield from (os.path.join(path, name) for name in names if not name.startswith("."))


def _refuse_similar_names(names: Sequence[str], folder: pathlib.Path) -> None:
    if similar := similar_names(names):
        raise UserError(
            f"Expected class names in {folder} that differ by more than case, or they are one folder on other systems. "
            f"Received: {similar[:10]}"
        )


def similar_names(names: Sequence[str]) -> list[list[str]]:
    """Names that are one where case, or how an accent is written, makes no difference.

    Example:
        >>> similar_names(["cat", "dog", "Cat"])
        [['cat', 'Cat']]
    """
    spellings = collections.defaultdict(list)
    for name in names:
        spellings[_folded(name)].append(name)
    return [same for same in spellings.values() if len(same) > 1]
