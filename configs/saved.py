"""The config of a run as its folder holds it, `config.json`; a sweep starts its runs by it.

python train_main.py --config=configs/saved.py:workdirs/digits/config.json --workdir=workdirs/again

It is also what is trained, or what keys are changed of, in a run's folder without another `--config`.
"""

import json
import pathlib

from configs import base
from configs.right_names import flat

OPEN = ("methods", "optimizer.arguments")  # keys of their own below


def get_config(file: str = ""):
    """The config in a JSON file, with the types that keys have, so that each can be changed.

    Raises:
        ValueError: no such file, or one that is not a whole config.
    """
    if not pathlib.Path(file).is_file():
        raise ValueError(f"Expected --config=configs/saved.py:FILE.json, a run's config. Received: {file!r}")
    config = base.get_config()
    try:
        values = json.loads(pathlib.Path(file).read_text())
        if _keys(values) != _keys(config):
            from cskd_tf.runs.earlier_configs import upgraded

            values = upgraded(values)
        if differ := sorted(_keys(values) ^ _keys(config)):
            raise ValueError(f"other keys than those of configs/base.py: {differ[:5]}")
        config.update(values)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"Expected a run's config. Received: {file} ({error})") from error
    return config


def _keys(config) -> set[str]:
    return {key for key in flat(config) if not key.startswith(OPEN)}
