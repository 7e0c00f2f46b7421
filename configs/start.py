"""What a command line of `train_main.py` starts: the workers of a run, tables, a sweep, or one run."""

import sys
from collections.abc import Sequence
from typing import Any

from absl import flags
from ml_collections import config_flags

from configs import command_line, launch, processes, right_names


def main(argv):
    """Starts what the flags say, which were parsed; `argv` are the words between them."""
    words = argv[1:]
    with command_line.one_line():
        right_names.check_words(words, given=[name for name in _NAMES if flags.FLAGS[name].present])
        right_names.check_workdir(flags.FLAGS["workdir"].value)
        for name in ("config", "on", "against"):
            right_names.check_config(flags.FLAGS[name])
    given: dict[str, Any] = {name: flags.FLAGS[name].value for name in _NAMES}
    config: Any = flags.FLAGS["config"]
    workdir = given["workdir"]
    if workdir is None:
        workdir = command_line.default_workdir(config, mode=given["mode"])
    predicts = words[:1] == ["predict"]
    if words == ["launch"] or given["workers"]:
        with command_line.one_line():
            strategy = config.value.get("strategy")
            options = {"workers": given["workers"], "mode": given["mode"], "strategy": strategy}
            sys.exit(launch.run(words, workdir=workdir, **options))
    command_line.leave_at_sigterm(goes_on=not predicts)
    processes.end_with_starter()
    with command_line.one_line():
        if predicts:
            _predict(given, config, workdir, paths=words[1:])
        right_names.check_tables(given["table"])
        right_names.check_grid(given["grid"], config=config.value)
        if given["table"] or given["format"]:
            _make_tables(given, workdir)
        if given["mode"] == "sweep" or given["grid"] or given["choose"]:
            others = [f"--{name}" for name in _NAMES if name not in _OF_SWEEP and flags.FLAGS[name].present]
            if given["mode"] == "sweep" and others:
                raise ValueError(f"Expected of --mode=sweep {_OF_SWEEP} and keys of the config. Received: {others}")
            _sweep(given, config, workdir)
        if flags.FLAGS["jobs"].present:
            raise ValueError(f"Expected --jobs beside --mode=sweep alone. Received: --mode={given['mode']}")
    _run(given, config, workdir)


_NAMES = ("workdir", "mode", "workers", "grid", "choose", "jobs", "table", "format", "split", "with", "checkpoint",
          "on", "against", "output", "check_labels")  # fmt: skip
_OF_SWEEP = ("workdir", "mode", "grid", "choose", "jobs")


def _predict(given: dict[str, Any], config: Any, workdir: str, *, paths: Sequence[str]) -> None:
    with command_line.quiet():
        from cskd_tf.runs import cli
    values = config.value if _is_given(config) else None
    with cli.one_line_for_users():
        sys.exit(cli.predict(paths, values, workdir=workdir, output=given["output"], form=given["format"]))


def _is_given(config: Any) -> bool:
    return bool(config.present or config_flags.get_override_values(config))


def _make_tables(given: dict[str, Any], workdir: str) -> None:
    with command_line.quiet():
        from configs import tables
    tables.run(workdir, mode=given["mode"], names=given["table"], form=given["format"] or "text")
    sys.exit()


def _sweep(given: dict[str, Any], config: Any, workdir: str) -> None:
    with command_line.quiet():
        from configs import sweep
    options: dict[str, Any] = {name: given[name] for name in ("mode", "grid", "choose", "jobs")}
    sys.exit(sweep.run(config, workdir=workdir, **options))


def _run(given: dict[str, Any], config: Any, workdir: str) -> None:
    with command_line.one_line(), command_line.quiet():
        from cskd_tf.runs import cli
    with cli.one_line_for_users():
        question = {"members": given["with"], **{name: given[name] for name in ("split", "on", "against")}}
        more: Any = {name: given[name] for name in ("checkpoint", "check_labels")}
        if given["mode"] == "doctor":
            from configs import advice

            more["advise"] = lambda findings: advice.advise(findings, config)
        cli.run(given["mode"], config.value, workdir=workdir, config_given=_is_given(config), question=question, **more)
