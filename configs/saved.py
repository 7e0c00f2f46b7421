"""The config of a run as its folder holds it, `config.json`; a sweep starts its runs by it.

python train_main.py --config=configs/saved.py:workdirs/digits/config.json --workdir=workdirs/again

Keys that are changed in a run's folder, without another `--config`, are changed of this one.
"""

import json
import pathlib

from configs import base


def get_config(file: str = ""):
    """The config in a JSON file, with the types that keys have, so that each can be changed."""
    if not pathlib.Path(file).is_file():
        raise ValueError(f"Expected --config=configs/saved.py:FILE.json, a run's config. Received: {file!r}")
    config, values = base.get_config(), json.loads(pathlib.Path(file).read_text())
    if {*values} != {*config} or any({*values[key]} != {*config[key]} for key in ("data", "export")):
        from cskd_tf.runs.earlier_configs import upgraded

        values = upgraded(values)
    config.update(values)
    return config
