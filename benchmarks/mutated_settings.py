"""Command lines, config files and config.json as nobody means them. A number and a seed give the same again."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np

from configs import base, digits

# What makes a run of the default config one of seconds; what is changed comes after it.
SMALL = (
    "--config.data.split.train_per_class=4", "--config.network.width=2", "--config.batch_size=16",
    "--config.baseline=False", "--config.deterministic=False", "--config.export.enabled=False",
)  # fmt: skip
EXPORTED = SMALL[:-1]  # the same, with what an export asks for before training
SHORT = ("--config.epochs=1", "--config.verbose=0", "--config.network.name=benchmarks.small_networks:with_dropout")
# Where a run that is trained to its end is to be exported to.
DIRECTORIES = (
    "", " ", ".", "./", "..", "run", "run/", "./run/.", "RUN", "run/run", "run/1", "run/checkpoints", "run/log.jsonl",
    "run/config.json", "run/metrics.json", "run/classifier.keras", "run/.lock", "run/tensorboard", "run/new/deep",
    "saved/models/deep", "saved_models/../saved_models", "run/../run/config.json", "nowhere/../run/config.json/x",
    "é", "日本", "\U0001f600", "a b", "a\nb", "\t", "~", "~nobody", "$HOME", "*", "%s", "{0}", "'", "-x", "gs://bucket/x",
    "a" * 255, "a" * 256, "a/" * 2000, "/proc", "/proc/self", "/proc/self/fd", "/sys", "/sys/kernel", "/dev/null",
    "/dev/full", "/proc/version", "None", "0", "True", "()", "1e999",
)  # fmt: skip
TO_THE_END = 25  # one case in so many is a whole training, of seconds
VALUES = (
    "", " ", "0", "1", "-1", "2", "3", "7", "0.5", "-0.0", "1e-320", "1e-30", "1e308", "nan", "inf", "-inf", "1_0",
    "0x10", "007", "1e3", "2147483648", "4294967296", "9223372036854775808", "1" * 400, "None", "True", "False", "yes",
    "[]", "()", "{}", "(1,", "(0.5,)", "(0.5, 0.5, 0.5)", "(nan,)", "(1e999,)", "('a',)", "((0.5,),)", "[[1]]",
    "{'name': 'CSKD'}", "({'name': 'CSKD'},)", "'", '"', "\\", "\n", "\t0", "é", "日本", "\U0001f600", "\u0661",
    "\u202e1",
    "..", "/", "/dev/null", "/dev/zero", "/proc/self/mem", "~", "$HOME", "*", "a" * 5000, "a/../b", "lambda: 0",
    "__import__('os').getpid()", "digits", "digits+digits", "+", "tfds:", "tfds:../x", "tfds:a:b:c", "image_folder",
    "preact_resnet18", "os:getpid", "os:nothing", ":", "a:b", "mirrored", "mixed_float16", "pad_crop", "none",
)  # fmt: skip
METHODS = (
    "()", "[]", "({},)", "({'name': 3},)", "({'name': 'CSKD', 'name': 'PSKD'},)", "('CSKD',)", "((),)", "(None,)", "{}",
    "({'name': 'CSKD', 'temperature': 'hot'},)", "({'name': 'CSKD', 'temperature': 1e999},)", "({'temperature': 4},)",
    "({'name': 'CSKD', 'temperature': -1e-320},)", "({'name': 'CSKD', 'weight': None},)", "({'name': 'CSKD', 'x': 1},)",
    "({'name': 'CSKD', 'partners': 10**9},)", "({'name': 'CSKD', 'partners': 0},)",
    "({'name': 'CSKD', 'partners': 2.5},)",
    "({'name': 'CSKD', 'in_batch': 'no'},)", "({'name': 'CSKD', 'form': 'iccv'},)", "({'name': 'CSKD'},) * 3",
    "({'name': 'Distillation', 'teacher': '/dev/zero'},)", "({'name': 'Distillation', 'teacher': 3},)",
    "({'name': 'Distillation'},)", "({'name': 'Mixup', 'alpha': 0},)", "({'name': 'Mixup', 'alpha': 1e300},)",
    "({'name': 'Mixup', 'alpha': 1e-300},)", "({'name': 'Cutout', 'size': -3},)",
    "({'name': 'Cutout', 'size': 10**12},)",
    "({'name': 'CutMix', 'probability': 2},)", "({'name': 'LabelSmoothing', 'epsilon': 1.5},)",
    "({'name': 'BYOT'},) * 2",
    "({'name': 'PSKD', 'alpha': float('nan')},)", "({'name': 'AdaCos'}, {'name': 'VirtualSoftmax'})",
    "({'name': 'TFKD', 'correct': 1e9},)", "({'name': 'MaxEntropy', 'weight': -0.0},)", "({'name': 'DDGSD'}, 'CSKD')",
    "({'name': 'DDGSD', 'temperature': 1e-40},)", "({'name': 'CSKD', 1: 2},)", "({'name': ['CSKD']},)", "'CSKD'", "3",
)  # fmt: skip
FLAGS = (
    "--mode=serve", "--mode=", "--mode", "--mode=evaluate", "--mode=export", "--mode=report", "--mode=import",
    "--mode=doctor", "--mode=TRAIN", "--checkpoint=x.pth", "--checkpoint=", "--checkpoint=/dev/zero",
    "--workdir=", "--workdir=/dev/null", "--workdir=/proc/1/x", "--workdir=" + "d" * 300, "--workdir=a\nb",
    "--workdir=\t",
    "--config", "--config=", "--config=.", "--config=/dev/null", "--config=nowhere.py", "--config=/", "--config=x.txt",
    "--config=digits.py:", "--nonsense", "--nonsense=3", "-", "--", "train", "''", "--config.", "--config..seed=1",
    "--config.=1", "--config[0]=1", "--config.seed", "--noconfig.seed", "--noconfig.baseline=True", "---config.seed=1",
    "--config.methods[0]=3", "--config.methods[-1].weight=2", "--config.methods[1e3].weight=2",
    "--config.methods[].x=2",
    "--config.methods[0].name=PSKD", "--config.methods[0][0]=1", "--config.methods.weight=3", "--config.data=3",
    "--config.data.source=digits", "--config.data={}", "--config.network=None", "--config.seed.x=1",
    "--flagfile=/dev/null",
    "--flagfile=nowhere", "--config.data.source.name.x=1", "--config.methods[0]['weight']=2", "--config.to_json=1",
    "--config.__class__=1", "--config._fields=1", "--config.data.__init__=1", "--config.items=3",
)  # fmt: skip
_RAISED = (
    "SyntaxError", "ValueError('no')", "TypeError", "RuntimeError('no')", "AssertionError", "KeyError('seed')",
    "ZeroDivisionError", "RecursionError", "NameError", "UnicodeDecodeError('utf-8', b'', 0, 1, 'no')",
    "Exception('a\\nb')",
    "OSError(2, 'no')", "StopIteration", "NotImplementedError", "MemoryError",
)  # fmt: skip
_BASE = (
    "from configs import digits\n\n\ndef get_config():\n    config = digits.get_config()\n    {}\n    return config\n"
)
CONFIG_FILES = (
    b"", b"\n", b"\xff\xfe\x00", b"\x00" * 9, b"def", b"def get_config(:\n", b"get_config = 3\n", b"<html>", b"{}",
    b"\x7fELF" + bytes(99), b"import nothing_of_the_kind\n", b"def get_config(): return None\n", b"1/0\n", b"x\n",
    b"def get_config(): return {}\n", b"def get_config(): return 3\n", b"def get_config(a, b): return None\n",
    b"from ml_collections import ConfigDict\ndef get_config(): return ConfigDict()\n", b"get_config = dict\n",
    b"from ml_collections import ConfigDict\ndef get_config():\n    c = ConfigDict()\n    c.c = c\n    return c\n",
    b"def get_config(): return get_config()\n", b"raise SystemExit('left')\n", b"raise SystemExit\n", b"seed = 3\n" * 9,
    *(f"raise {error}\n".encode() for error in _RAISED),
    *(f"def get_config(): raise {error}\n".encode() for error in _RAISED),
    *(_BASE.format(line).encode() for line in (
        "del config.seed", "del config.data", "config.seed = 1.5", "config.seed = None", "config.more = 3",
        "config = None",
        "config.seed = 'a'", "config.seed = True", "config.epochs = 10**400", "config.methods = None",
        "config.methods = 3",
        "config.methods = {}", "config.methods = [[]]", "config.methods = ({'name': print},)",
        "config.methods = (print,)",
        "config.data.augment.mean = 0.5", "config.data.augment.mean = ()", "config.data.augment.mean = [[0.5]]",
        "config.data.augment.std = (0.0,)", "config.data.source = 'digits'", "config.data = [config.data]",
        "config.schedule.milestones = (1.5,)", "config.schedule.milestones = ('a',)", "config.schedule.factor = 1j",
        "import numpy; config.seed = numpy.int64(3)", "import numpy; config.data.augment.mean = numpy.ones(1)",
        "import datetime; config.epochs = datetime.date.today()", "config.network.name = b'resnet18'",
        "import pathlib; config.data.source.path = pathlib.Path('x')", "config.network.width = {1}", "config.lock()",
        "config.data.source.name = None", "config.precision = 16", "config = config.to_dict()", "config = [config]",
        "config = config.copy_and_resolve_references()", "config.seed = config.get_ref('epochs')",
        "config.strategy = ''",
        "config['data.source.name'] = 'digits'", "config[''] = 1", "config.batch_size = float('nan')",
        "config.verbose = 9",
    )),
)  # fmt: skip


def _keys(values: dict[str, Any], prefix: str = "") -> list[str]:
    below = [
        _keys(value, f"{prefix}{key}.") if value and isinstance(value, dict) else [prefix + key]
        for key, value in values.items()
    ]
    return [key for keys in below for key in keys]


KEYS = _keys(base.get_config().to_dict())


def _one_of(items, generator: np.random.Generator):
    return items[int(generator.integers(len(items)))]


def _value(generator: np.random.Generator) -> list[str]:
    return [f"--config.{_one_of(KEYS, generator)}={_one_of(VALUES, generator)}"]


def _values(generator: np.random.Generator) -> list[str]:
    return [argument for _ in range(int(generator.integers(2, 5))) for argument in _value(generator)]


def _number(generator: np.random.Generator) -> list[str]:
    """A number of any size for a key that has one."""
    numbers = [key for key in KEYS if not isinstance(_at(base.get_config(), key), (str, tuple))]
    sign, exponent = _one_of(("", "", "-"), generator), generator.normal(0, 6)
    size = f"{10**exponent:g}" if generator.random() < 0.3 else str(int(10 ** abs(exponent)))
    return [f"--config.{_one_of(numbers, generator)}={sign}{size}"]


def _at(config: Any, key: str) -> Any:
    for part in key.split("."):
        config = config[part]
    return config


def _unknown_key(generator: np.random.Generator) -> list[str]:
    key = _one_of(KEYS, generator)
    place = int(generator.integers(len(key)))
    changes = (
        key[:place] + key[place + 1 :], key[:place] + "é" + key[place:], key.upper(), f"{key}.{key}", f"{key}s",
        f" {key}",
        key.replace(".", "/"), key.rpartition(".")[2], f"{key}[0]", f"x.{key}", key[:place] + "\u200b" + key[place:],
    )  # fmt: skip
    return [f"--config.{_one_of(changes, generator)}=1"]


def _changed_json(generator: np.random.Generator) -> bytes:
    """A `config.json` of the default config after something has happened to it."""
    config = digits.get_config().to_dict()
    if generator.random() < 0.6:
        *groups, last = _one_of(KEYS, generator).split(".")
        group = config
        for name in groups:
            group = group[name]
        value = _one_of(
            (None, 1e999, -1, 10**30, "", [], {}, [[1]], "x", {"a": {}}, True, 1.5, float("nan")), generator
        )
        group[last] = value
        if generator.random() < 0.2:
            del group[last]
        return json.dumps(config).encode()
    content = json.dumps(config).encode()
    whole = (
        b"",
        b"null",
        b"[]",
        b"3",
        b'"x"',
        b"{}",
        b"[" * 100_000,
        b"\xff\xfe",
        b'{"seed": ' + b"9" * 5000 + b"}",
        b"{'a': 1}",
    )
    if generator.random() < 0.5:
        return _one_of(whole, generator)
    place = int(generator.integers(len(content)))
    return content[:place] + _one_of((b"", b"\0", b"}", b'"', b"9"), generator) + content[place + 1 :]


def _in_a_workdir(generator: np.random.Generator) -> dict[str, Any]:
    """A run's folder whose files are not as a run writes them, and what is asked of it."""
    files = {"run/config.json": json.dumps(digits.get_config().to_dict()).encode(), "run/metrics.json": b"{}"}
    files["run/.lock"] = b""  # which every run's folder has
    name = _one_of(("config.json", "config.json", "metrics.json", "log.jsonl", "imported.json"), generator)
    files[f"run/{name}"] = _changed_json(generator)
    mode = _one_of(("train", "evaluate", "export", "report"), generator)
    return {"arguments": ["--workdir=run", f"--mode={mode}"], "files": files}


def _in_a_file(generator: np.random.Generator) -> dict[str, Any]:
    return {"arguments": ["--config=mine.py", "--workdir=run"], "files": {"mine.py": _one_of(CONFIG_FILES, generator)}}


MUTATIONS: dict[str, Callable[[np.random.Generator], Any]] = {
    "a value": _value,
    "a number": _number,
    "several values": _values,
    "an unknown key": _unknown_key,
    "methods": lambda generator: [f"--config.methods={_one_of(METHODS, generator)}"],
    "a flag": lambda generator: [_one_of(FLAGS, generator)],
    "a config file": _in_a_file,
    "a workdir": _in_a_workdir,
}


def mutated_settings(seed: int, number: int) -> tuple[str, dict[str, Any]]:
    """What was done, and `arguments` of `train_main.py` with the `files` that are there, by their names.

    Each tenth case, and each that changes a key of the export, goes on with export; one in `TO_THE_END` is of nothing
    but the export's directory, and says that it is to be trained `to_the_end`.

    Example:
        >>> mutated_settings(0, 1) == mutated_settings(0, 1)
        True
    """
    generator = np.random.default_rng([seed, number])
    if number % TO_THE_END == TO_THE_END - 1:
        directory = f"--config.export.directory={_one_of(DIRECTORIES, generator)}"
        arguments = ["--workdir=run", *EXPORTED, *SHORT, directory]
        return "an export's directory", {"arguments": arguments, "files": {}, "to_the_end": True}
    name = _one_of(list(MUTATIONS), generator)
    made = MUTATIONS[name](generator)
    if isinstance(made, dict):
        return name, made
    with_export = number % 10 == 0 or any(argument.startswith("--config.export") for argument in made)
    return name, {"arguments": ["--workdir=run", *(EXPORTED if with_export else SMALL), *made], "files": {}}
