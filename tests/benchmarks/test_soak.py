"""When the long run counts as one that keeps too much, by made numbers; test_commands.py makes a short one."""

import json

import pytest


@pytest.fixture
def soak(imported):
    return imported("soak")[0]


def verdict(soak, *, memory=(), threads=(), files=(), every=500):
    """Of ten measurements, which begin at 840 MiB, 15 threads and 9 files and change by these."""
    changes = {"rss_mib": (840, memory), "threads": (15, threads), "open_files": (9, files)}
    lines = [
        {
            "step": every * (number + 1),
            **{name: start + (change[number] if change else 0) for name, (start, change) in changes.items()},
        }
        for number in range(10)
    ]
    return soak.judged(soak.growth(lines), steps=lines[-1]["step"] - lines[0]["step"])


def test_what_goes_up_and_down_is_sound(soak):
    # As a run of 5,000 steps that keeps nothing was measured.
    memory = [-2.0, 1.1, 1.3, 2.2, 3.9, -8.0, -11.3, 3.0, 2.9, 5.2]
    assert verdict(soak, memory=memory) == {
        "limits_per_1000_steps": {"rss_mib": 4.0, "threads": 0.0, "open_files": 0.0}, "beyond": [], "too_short_for": [],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "beyond"),
    [
        # Per 500 steps; an evaluation's logits and embeddings kept each epoch are 2.5 MiB.
        ({"memory": [2.5 * number for number in range(10)]}, ["rss_mib"]),
        ({"memory": [1.9 * number for number in range(10)]}, []),
        ({"memory": [-9.0 * number for number in range(10)]}, []),
        ({"threads": [0] * 9 + [1]}, ["threads"]),
        ({"threads": [1] * 5 + [0] * 5}, []),
        ({"files": [number // 5 for number in range(10)]}, ["open_files"]),
        (
            {name: [9 * number for number in range(10)] for name in ("memory", "threads", "files")},
            ["rss_mib", "threads", "open_files"],
        ),
    ],
)
def test_what_grows_steadily_is_beyond_its_limit(changes, beyond, soak):
    assert verdict(soak, **changes)["beyond"] == beyond


def test_memory_is_not_judged_by_a_few_steps(soak):
    few = verdict(
        soak, memory=[5 * number for number in range(10)], files=[number // 9 for number in range(10)], every=20
    )
    assert (few["beyond"], few["too_short_for"]) == (["open_files"], ["rss_mib"])


@pytest.mark.slow
def test_a_run_that_keeps_files_open_ends_with_1(imported, monkeypatch, tmp_path):
    soak, rest = imported("soak", "--steps=20", "--every=10", "--width=2")
    opened = []
    measure = soak.measure

    def keep_one():
        opened.append(open(tmp_path / "kept", "a"))  # noqa: SIM115, it is what is to be noticed
        return measure()

    monkeypatch.setattr(soak, "measure", keep_one)
    with pytest.raises(SystemExit) as leaving:
        soak.main(rest)
    for file in opened:
        file.close()
    assert leaving.value.code == 1
    assert json.loads((tmp_path / "results" / "soak.json").read_text())[-1]["beyond"] == ["open_files"]
