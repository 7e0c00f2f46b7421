"""What becomes of an image file at every door by which training takes it, and what the doctor says of it."""

import functools
import pathlib
from collections.abc import Callable

import tensorflow as tf

from cskd_tf.data import ImageFolder, in_memory
from cskd_tf.data.images.decode import decode_batch, reason
from cskd_tf.data.images.transforms import CentreCrop, RandomResizedCrop
from cskd_tf.data.sources.inspection import inspect
from cskd_tf.errors import UserError

SIZE = 8  # pixels, of what training makes of them
FEW_PIXELS = 2**24
WHOLE = "whole images"


@functools.cache
def _batch_of(channels: int, crop: str) -> Callable[[tf.Tensor], tf.Tensor]:
    """Decodes one image as the training pipeline does, in a graph of its own."""
    transform = {"": None, "centre": CentreCrop(SIZE, SIZE), "random": RandomResizedCrop(SIZE)}[crop]

    @tf.function(input_signature=[tf.TensorSpec([1], tf.string)])
    def batch(contents):
        return decode_batch(contents, tf.constant([[1, 2]]), transform=transform, channels=channels)

    return batch


def _outcome(work: Callable[[], object]) -> str:
    """Why something cannot be done; empty if it can."""
    try:
        work()
    except tf.errors.OpError as error:
        return reason(error)
    except UserError as error:
        return str(error)
    return ""


def judge(content: bytes, folder: pathlib.Path, *, channels: int, in_whole_set: bool) -> dict:
    """What the doctor says, and why it would be wrong.

    Args:
        content: of the file.
        folder: to write it to, twice, as an image folder of two classes.
        channels: 3 or 1.
        in_whole_set: whether to hold the set in memory too, which takes longer than all else.

    Returns:
        `problem`, why the doctor refuses it; and `faults`, a list of what should not be.
    """
    paths = [folder / name / "1.jpg" for name in ("cat", "dog")]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    source = ImageFolder(folder, channels=channels, check_files=False)
    looked_at = inspect(source.subset([0]), name="image")
    problem = looked_at.unreadable.get(0, "")
    # Without a transform, which no run is, an image becomes four times as large.
    crops = ("centre", "random") if looked_at.extents.prod(initial=1) > FEW_PIXELS else ("", "centre", "random")
    contents = tf.constant([content])
    doors = {crop or WHOLE: _outcome(functools.partial(_batch_of(channels, crop), contents)) for crop in crops}
    # What passes there may have been too large to be decoded at once.
    if in_whole_set and (said := _outcome(lambda: in_memory(source, budget=2**30, name="train"))):
        doors["memory"] = said
    # A crop may leave out what is damaged; what is used of an image must never be worse than the doctor says.
    faults = [
        f"the doctor says {problem or 'sound'!r}, and training by {door} says {said or 'sound'!r}"
        for door, said in doors.items()
        if bool(said) != bool(problem) and (said or door == WHOLE)
    ]
    loaded = _outcome(lambda: ImageFolder(folder, channels=channels))
    if loaded and not problem:
        faults.append(f"the doctor says 'sound', and an image folder refuses it: {loaded}")
    if looked_at.unreadable and (not problem or "\n" in problem or len(problem) > 200):
        faults.append(f"the doctor's reason is no clear line: {problem!r}")
    return {"problem": problem, "faults": faults}
