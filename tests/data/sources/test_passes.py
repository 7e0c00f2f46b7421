"""A pass over all images: its progress bar, and the graph that is left as it is."""

import io
import sys

import tensorflow as tf

from cskd_tf.data import ArraySource, evaluation_dataset, paired_dataset
from cskd_tf.data.sources.passes import as_it_is, track


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_is_shown_on_a_terminal_alone(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    for stream, is_shown in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stderr", stream)
        assert list(track(iter("abc"), total=3, description="Reading letters")) == ["a", "b", "c"]
        assert ("Reading letters" in stream.getvalue()) == is_shown


def test_the_graph_is_not_rewritten_and_no_thread_tunes_it():
    dataset = as_it_is(tf.data.Dataset.range(3))
    assert dataset.options().experimental_optimization.apply_default_optimizations is False
    assert dataset.options().autotune.enabled is False
    assert list(dataset.as_numpy_iterator()) == [0, 1, 2]


def test_what_trains_and_evaluates_is_not_tuned(images_and_labels):
    data = paired_dataset(*images_and_labels, batch_size=8, seed=0, epochs=1)
    evaluated = evaluation_dataset(ArraySource(*images_and_labels), batch_size=8)
    for dataset in (data, data.map(lambda *batch: batch), data.opened_at(lambda: 0), evaluated):
        assert dataset.options().autotune.enabled is False
