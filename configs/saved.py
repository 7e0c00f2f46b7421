"""The config of a run as its folder holds it, `config.json`; a sweep starts its runs by it.

python train_main.py --config=configs/saved.py:workdirs/digits/config.json --workdir=workdirs/again
"""

import json
import pathlib

from ml_collections import ConfigDict


def get_config(file: str = ""):
    """The config in a JSON file."""
    if not pathlib.Path(file).is_file():
        raise ValueError(f"Expected --config=configs/saved.py:FILE.json, a run's config. Received: {file!r}")
    return ConfigDict(json.loads(pathlib.Path(file).read_text()))
