"""What is seen of training, in a pipe and on terminals of several widths."""

import io
import os
import re
import subprocess
import sys

import pytest
import rich.console
from absl import logging

from cskd_tf.runs import screen
from cskd_tf.runs.screen import Screen, epoch_line
from tests.helpers import ROOT

LOGS = {
    "loss": 2.34, "cross_entropy": 2.3, "class_wise": 0.04, "val_top1_error": 0.8712, "val_top5_error": 0.4,
    "val_nll": 2.2841, "val_ece": 0.0312, "val_recall_at_1": 0.3, "val_aurc": 0.7, "learning_rate": 0.1,
}  # fmt: skip
CODES = re.compile(r"\x1b\[[?0-9;]*[a-zA-Z]")


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (30, "epoch  7/60  loss 2.3400"),
        (60, "epoch  7/60  loss 2.3400  val error 0.8712    1.2s"),
        (80, "epoch  7/60  loss 2.3400  val error 0.8712  nll 2.2841  ece 0.0312    1.2s"),
        (100, "epoch  7/60  loss 2.3400  val error 0.8712  nll 2.2841  ece 0.0312  r@1 0.3000  aurc 0.7000    1.2s"),
        (
            160,
            "epoch  7/60  loss 2.3400  val error 0.8712  nll 2.2841  ece 0.0312  r@1 0.3000  aurc 0.7000  "
            "error@5 0.4000  cross_entropy 2.3000  class_wise 0.0400    1.2s",
        ),
    ],
)
def test_a_line_has_what_matters_most_and_fits(width, expected):
    line = epoch_line(LOGS, epoch=7, epochs=60, seconds=1.2, width=width)
    assert line == expected
    assert len(line) <= width


def test_what_is_undefined_is_said():
    line = epoch_line({**LOGS, "val_ece": float("nan")}, epoch=7, epochs=60, seconds=1.2, width=100)
    assert "ece undefined  " in line
    assert len(line) <= 100


def test_lines_are_aligned():
    other = {name: value * 9 for name, value in LOGS.items()}
    lines = [
        epoch_line(logs, epoch=number, epochs=60, seconds=9, width=100) for logs, number in ((LOGS, 9), (other, 10))
    ]
    places = [[match.start() for match in re.finditer(r"[a-z]\w+", line)] for line in lines]
    assert places[0] == places[1]


def console(width, **options):
    output = io.StringIO()
    made = rich.console.Console(
        file=output, width=width, markup=False, highlight=False, soft_wrap=True, legacy_windows=False, **options
    )
    return made, output


def follow(made, *, verbose, epochs=2, steps=3):
    """What two runs of some epochs show, of which the second logs a warning in its second epoch."""
    with Screen(verbose, epochs=2 * epochs, console=made) as shown:
        for name in ("cross_entropy", "digits"):
            callback = shown.following(name)
            callback.set_params({"epochs": epochs, "steps": steps})
            for epoch in range(epochs):
                callback.on_epoch_begin(epoch)
                for step in range(steps):
                    callback.on_train_batch_end(step)
                if name == "digits" and epoch:
                    logging.warning("the disk is nearly full")
                callback.on_epoch_end(epoch, dict(LOGS))
            shown.epochs_before += epochs  # as train.py has it, also of a run that had all its epochs before


@pytest.mark.parametrize(("verbose", "count"), [(0, 0), (1, 4), (2, 4)])
def test_a_pipe_gets_plain_lines(verbose, count):
    made, output = console(60)
    follow(made, verbose=verbose)
    printed = output.getvalue()
    assert printed.count("\n") == printed.count("epoch ") == count
    assert "\x1b" not in printed
    assert "\r" not in printed
    assert len(re.findall(r"aurc 0\.7000 +\d+\.\ds\n", printed)) == count  # not cut to 60
    assert max(map(len, ["", *printed.splitlines()])) <= 100


@pytest.mark.parametrize("width", [60, 80, 160])
def test_a_terminal_has_one_bar_below_the_lines_and_what_is_logged(width, monkeypatch):
    monkeypatch.setattr(screen, "BETWEEN", 0.0)
    made, output = console(width, force_terminal=True, color_system="truecolor")
    monkeypatch.setattr(sys, "stderr", output)
    monkeypatch.setattr(output, "isatty", lambda: True)
    handler = logging.get_absl_handler().python_handler
    before = handler.stream
    monkeypatch.setattr(logging.get_absl_logger(), "handlers", [logging.get_absl_handler()])
    follow(made, verbose=1)
    assert handler.stream is before
    printed = CODES.sub("", output.getvalue())
    lines = [line.strip("\r").rstrip() for line in printed.splitlines()]
    bars = [line for line in lines if line.endswith("left")]
    assert max(len(line) for line in lines if not line.endswith("full")) <= width
    assert "cross_entropy 0/2" in bars[0]
    assert any(line.startswith("digits 1/2") and "75%" in line for line in bars)
    assert len([line for line in lines if line.startswith("epoch ")]) == 4
    assert any(line.endswith("the disk is nearly full") for line in lines)
    assert output.getvalue().count("\x1b[?25h") == 1  # the cursor is shown again


def test_without_colours_a_terminal_has_the_same_words(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    made, output = console(80, force_terminal=True)
    follow(made, verbose=1)
    codes = set(CODES.findall(output.getvalue()))
    assert not [code for code in codes if re.search(r"\[[\d;]*(3[0-8]|9[0-7])[\d;]*m", code)]


def test_verbose_2_has_no_bar():
    made, output = console(80, force_terminal=True)
    follow(made, verbose=2)
    assert "left" not in output.getvalue()
    assert output.getvalue().count("epoch ") == 4


@pytest.mark.thorough
def test_a_reader_that_leaves_ends_no_training():
    code = (
        "import sys\n"
        "from cskd_tf.runs.screen import Screen\n"
        "with Screen(2, epochs=9) as screen:\n"
        "    for epoch in range(9):\n"
        "        screen.line({'loss': 1.0}, epoch=epoch + 1, epochs=9, seconds=1.0)\n"
        "        sys.stdin.readline()\n"
        "print('trained', file=sys.stderr)\n"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    unbuffered = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=unbuffered, **pipes) as process:
        assert process.stdout.readline().startswith("epoch 1/9")
        process.stdout.close()
        process.stdin.write("\n" * 9)
        process.stdin.close()
        assert process.stderr.read().splitlines()[-1] == "trained"
        assert process.wait(60) == 0
