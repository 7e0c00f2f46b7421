"""Some hundred images and command lines as nobody means them; and that what is wrong would be noticed."""

import json
import sys

import pytest

from benchmarks import judged_settings, workers
from benchmarks.mutated_images import BOMBS, MUTATIONS, mutated_image, png, sound_images
from benchmarks.mutated_settings import EXPORTED, KEYS, SHORT, mutated_settings
from configs import base
from configs.command_line import TRACEBACK
from cskd_tf.data.images.decode import decode
from cskd_tf.runs import export
from cskd_tf.runs.json_files import flatten
from tests.benchmarks.crashing import crashing_tester

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is asked of /proc")


@pytest.mark.slow
def test_images_and_settings_in_bulk(imported, tmp_path):
    images, settings = 300, 60
    module, rest = imported("mutations", f"--images={images}", f"--settings={settings}", "--nobombs")
    with pytest.raises(SystemExit) as leaving:
        module.main(rest)
    assert not leaving.value.code
    for kind, cases in (("images", images), ("settings", settings)):
        (line,) = json.loads((tmp_path / "results" / f"mutations_{kind}.json").read_text())
        assert (line["of"], line["cases"], line["failed"]) == (kind, cases, 0)
        assert line["refused"] > line["accepted"] > 0
        assert line["reasons"] > 5


@pytest.mark.thorough
def test_the_same_number_gives_the_same_case():
    for number in range(50):
        assert mutated_image(1, number) == mutated_image(1, number)
        assert mutated_settings(1, number) == mutated_settings(1, number)
    assert len({mutated_image(1, number)[1] for number in range(50)}) > 40
    assert {mutated_settings(1, number)[0] for number in range(100)} >= {"a value", "a config file", "a workdir"}
    assert set(KEYS) == set(flatten(base.get_config().to_dict()))
    assert {
        change for number in range(500) for change in mutated_image(0, number)[0].split(": ")[1].split(", ")
    } == set(MUTATIONS)


@pytest.mark.parametrize(
    "name", [name for name in sound_images() if name.startswith(("jpeg", "png")) and "2000" not in name]
)
def test_the_sound_images_are_sound(name):
    assert decode(sound_images()[name], channels=3).shape == (31, 23, 3)


def test_a_bomb_is_a_small_file_of_many_pixels():
    assert decode(png(300, 200, depth=1, colours=0), channels=1).shape == (200, 300, 1)
    content = BOMBS["jpeg of 13,000 x 13,000 by its header"]()
    assert len(content) < 2000


@pytest.mark.slow
def test_crashes_hangs_and_memory_are_noticed():
    cases = ["sound", "abort", "memory", "hang", "too much", "sound"]
    results = list(workers.try_all(crashing_tester, cases, seconds=5, most_bytes=2**29))
    assert results[0] == {"case": "sound", "bytes": results[0]["bytes"]}
    assert results[1] == {"crash": "SIGABRT: what C++ says"}
    assert 0.9 * 2**27 < results[2]["bytes"] < 2**28
    assert results[3] == {"crash": "took more than 5 s"}
    assert "MemoryError" in results[4]["crash"]
    assert results[5]["case"] == "sound"
    assert results[5]["bytes"] < 2**26


@pytest.mark.thorough
def test_some_settings_go_on_with_export_and_some_to_the_end():
    cases = [mutated_settings(0, number)[1] for number in range(200)]
    whole = [case for case in cases if case.get("to_the_end")]
    assert len(whole) == 8
    of_command = [case["arguments"] for case in cases if "--config.network.width=2" in case["arguments"]]
    exported = [arguments for arguments in of_command if "--config.export.enabled=False" not in arguments[:7]]
    changed = [arguments for arguments in of_command if any("--config.export" in each for each in arguments[7:])]
    assert len(exported) > 20
    assert all(arguments in exported for arguments in changed)


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        ("error: Expected a seed. Received: x\n", ""),
        (f"error: Expected a seed. Received: x\n{TRACEBACK}\n", ""),
        (f'error: Expected a seed. Received: x\nDid you mean "y"?\n{TRACEBACK}\n', ""),
        ("error: Expected a seed.\nReceived: x\n", "not one clear line"),
        ("FATAL: flags\nerror: Expected a seed. Received: x\n", "not one clear line"),
        ("error: Expected a seed. Received: x\n\n", "not one clear line"),
        (f"error: Expected a seed. Received: x\n{TRACEBACK}\n{TRACEBACK}\n", "not one clear line"),
        ("error: no\n", "not one clear line"),
        ("Expected a seed. Received: x\n", "not one clear line"),
        ("", "not one clear line"),
        ("Traceback (most recent call last):\n", "a traceback"),
    ],
)
def test_one_clear_line_is_all_that_a_refused_command_may_print(said, fault):
    assert judged_settings._unclear(said).partition(":")[0] == fault


@pytest.mark.slow
@pytest.mark.parametrize("fails", [False, True])
def test_an_export_that_fails_behind_its_training_is_noticed(fails, monkeypatch):
    if fails:
        monkeypatch.setattr(export, "_publish", lambda folder, root: root.joinpath("x/y").mkdir())
    arguments = ["--workdir=run", *EXPORTED, *SHORT]
    result = judged_settings.judge(arguments, {}, as_command=False, to_the_end=True)
    written = [fault for fault in result["faults"] if "refused, but it has written" in fault]
    assert bool(written) == fails, result
    assert ("could not be written" in result["problem"]) == fails, result
