"""What the doctor could have found."""

import shlex

import numpy as np

from configs import image_folder
from cskd_tf.runs.config import Config
from cskd_tf.runs.doctor import Findings


def findings(
    counts,
    *,
    side=64,
    same_size=False,
    held_out=0,
    tested=500,
    step=0.5,
    steps=10,
    problem="",
    brought=False,
    **changes,
):
    config = image_folder.get_config()
    config.data.source.path = "photos"
    for key, value in changes.items():
        *groups, last = key.split("__")
        group = config
        for name in groups:
            group = group[name]
        group[last] = value
    counts = np.asarray(counts)
    return Findings(
        config=Config.read(config), counts=counts, held_out=held_out, tested=tested,
        sides=np.full(counts.sum(), side), same_size=same_size, steps=steps, step=step, problem=problem,
        brought=brought,
    )  # fmt: skip


def words_of(text):
    """As a shell takes a command of several lines."""
    return shlex.split(text.replace("\\\n", " "))
