"""Which images a run was begun with, so that it goes on, is evaluated and exported with these and no others.

Of a folder without splits of its own, the splits follow from the seed and from how many images each class has: with
another image in it, some that were trained on would be tested. And classes are numbered by their names.
"""

from collections.abc import Mapping
from typing import Any

from cskd_tf.data.sources.base import Source
from cskd_tf.errors import UserError
from cskd_tf.runs.json_files import read_json, write_json
from cskd_tf.runs.workdir import Workdir

IMAGES = "images.json"


def note_images(workdir: Workdir, splits: Mapping[str, Source]) -> None:
    """Notes the images of a run that begins, in `images.json`; of one that goes on, errors as of `check_images`."""
    check_images(workdir, splits)
    if not (workdir.path / IMAGES).exists():
        write_json(workdir.path / IMAGES, _described(splits))


def check_images(workdir: Workdir, splits: Mapping[str, Source]) -> None:
    """Compares the images that there are now with those that a run was begun with.

    A run of a version that noted none is compared by the names of its classes, where it has finished.

    Args:
        workdir: of the run, which may have nothing in it yet.
        splits: of its config, now.

    Raises:
        UserError: other classes, or another number of images, or other images, by their labels and bytes.
    """
    path, now = workdir.path / IMAGES, _described(splits)
    noted = workdir.classes()
    then = read_json(path) if path.exists() else {"classes": noted[0]} if noted else now
    if not isinstance(then.get("splits", {}), dict):
        raise UserError(f"Expected the images of each split in {path}. Received: {str(then)[:60]}")
    if then.get("classes") != now["classes"]:
        differ = [f"classes {then.get('classes')} then, {now['classes']} now"]
    else:
        before, here = then.get("splits", now["splits"]), now["splits"]
        differ = [f"{split}: {_change(before.get(split), here.get(split))}" for split in sorted({*before, *here})]
        differ = [each for each in differ if not each.endswith(": ")]
    if differ:
        raise UserError(
            f"Expected the images that the run in {workdir.path} was begun with; others need another --workdir. "
            f"Received: {'; '.join(differ)}"
        )


def _described(splits: Mapping[str, Source]) -> dict[str, Any]:
    return {
        "classes": list(splits["train"].class_names),
        "splits": {
            split: {"images": len(source.labels), "sha256": source.fingerprint()} for split, source in splits.items()
        },
    }


def _change(before: Mapping[str, Any] | None, now: Mapping[str, Any] | None) -> str:
    """What changed in a split; empty where nothing did."""
    if before == now:
        return ""
    counts = [each.get("images", 0) if each else 0 for each in (before, now)]
    return f"{counts[0]} images then, {counts[1]} now" if counts[0] != counts[1] else f"{counts[0]} images, but others"
