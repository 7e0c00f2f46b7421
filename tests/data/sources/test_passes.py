"""A pass over all images: its progress bar, and the graph that is left as it is."""

import io
import sys

import tensorflow as tf

from cskd_tf.data.sources.passes import track, without_graph_rewriting


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_is_shown_on_a_terminal_alone(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    for stream, is_shown in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stderr", stream)
        assert list(track(iter("abc"), total=3, description="Reading letters")) == ["a", "b", "c"]
        assert ("Reading letters" in stream.getvalue()) == is_shown


def test_the_graph_is_not_rewritten():
    dataset = without_graph_rewriting(tf.data.Dataset.range(3))
    assert dataset.options().experimental_optimization.apply_default_optimizations is False
    assert list(dataset.as_numpy_iterator()) == [0, 1, 2]
