"""The rows of a batch that each worker makes."""

import numpy as np
import pytest
import tensorflow as tf

from cskd_tf.data.batches.maker import part_of


@pytest.mark.parametrize("size", [1, 5, 6, 7, 8])
@pytest.mark.parametrize("parts", [1, 2, 3])
@pytest.mark.parametrize("is_static", [True, False])
def test_parts_are_as_even_as_they_can_be(size, parts, is_static):
    spec = tf.TensorSpec([size if is_static else None, 2], tf.int32)
    rows = np.arange(2 * size, dtype=np.int32).reshape(size, 2)
    for part, expected in enumerate(np.array_split(rows, parts)):
        cut = tf.function(lambda rows, part=part: part_of(rows, part, parts), input_signature=[spec])
        np.testing.assert_array_equal(cut(tf.constant(rows)), expected)
        assert cut.get_concrete_function().output_shapes == ([len(expected) if is_static else None, 2])


def test_a_part_of_seven_rows():
    assert [part_of(tf.range(7), part, 3).numpy().tolist() for part in range(3)] == [[0, 1, 2], [3, 4], [5, 6]]
