"""Which images a run was begun with, so that it goes on, is evaluated and exported with these and no others.

Of a folder without splits of its own, the splits follow from the seed and from how many images each class has: with
another image in it, some that were trained on would be tested. And classes are numbered by their names.
"""

from collections.abc import Mapping
from typing import Any

from cskd_tf.data.sources.base import Source
from cskd_tf.errors import UserError
from cskd_tf.runs.json_files import read_json, write_json
from cskd_tf.runs.workdir import IMAGES, Workdir

SHOWN = 5  # classes that are named


def note_images(workdir: Workdir, splits: Mapping[str, Source]) -> None:
    """Notes the images of a run that begins, in `images.json`; those of one that goes on were checked before."""
    if not (workdir.path / IMAGES).exists():
        write_json(workdir.path / IMAGES, described(splits))


def noted_images(workdir: Workdir) -> dict[str, Any] | None:
    """What `note_images` wrote: the names of the classes, and of each split how many images, and their checksum.

    None for a run of a version that noted none.
    """
    path = workdir.path / IMAGES
    again = "; removed, it is written again of the images that there are now"
    return read_json(path, advice=again) if path.exists() else None


def check_images(workdir: Workdir, splits: Mapping[str, Source]) -> None:
    """Compares the images that there are now with those that a run was begun with.

    A run of a version that noted none is compared by the names of its classes, where it has finished.

    Args:
        workdir: of the run, which may have nothing in it yet.
        splits: of its config, now.

    Raises:
        UserError: other classes, or another number of images, or other images, by their labels and bytes.
    """
    now, then = described(splits), noted_images(workdir)
    if then is None:
        noted = workdir.classes()
        then = {**now, "classes": noted[0]} if noted else now
    classes, before = then.get("classes"), then.get("splits")
    if not (isinstance(classes, list) and isinstance(before, dict) and all(map(_is_described, before.values()))):
        path = workdir.path / IMAGES
        raise UserError(f"Expected the images that a run was begun with in {path}. Received: {str(then)[:60]}")
    if classes != now["classes"]:
        gone, new = (sorted({*one} - {*other}) for one, other in ((classes, now["classes"]), (now["classes"], classes)))
        differ = [f"classes {gone[:SHOWN]} then, {new[:SHOWN]} now" if gone or new else "classes in another order"]
    else:
        names = sorted({*before, *now["splits"]})
        differ = [_change(split, before.get(split), now["splits"].get(split)) for split in names]
        differ = [each for each in differ if each]
    if differ:
        exported = workdir.metrics().get("saved_model")
        predicts = f", or --workdir={exported}, its SavedModel, which predicts any" if exported else ""
        raise UserError(
            f"Expected the images that the run in {workdir.path} was begun with; others need another --workdir"
            f"{predicts}. Received: {'; '.join(differ)}"
        )


def described(splits: Mapping[str, Source]) -> dict[str, Any]:
    """What tells the images of these splits from others."""
    return {
        "classes": list(splits["train"].class_names),
        "splits": {
            split: {"images": len(source.labels), "sha256": source.fingerprint()} for split, source in splits.items()
        },
    }


def _is_described(split: Any) -> bool:
    return isinstance(split, dict) and isinstance(split.get("images"), int) and isinstance(split.get("sha256"), str)


def _change(split: str, before: Mapping[str, Any] | None, now: Mapping[str, Any] | None) -> str:
    """What changed in a split; empty where nothing did."""
    if before == now:
        return ""
    counts = [each["images"] if each else 0 for each in (before, now)]
    said = f"{counts[0]} images then, {counts[1]} now" if counts[0] != counts[1] else f"{counts[0]} images, but others"
    return f"{split}: {said}"
