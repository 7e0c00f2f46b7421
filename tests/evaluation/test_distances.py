import math

import numpy as np
import pytest

from cskd_tf.evaluation.distances import Entries
from tests.selection import few


@pytest.mark.parametrize("dtype", few([np.float32, np.float64], 1))
def test_errors_of_scores_are_within_the_bound(dtype):
    generator = np.random.default_rng(0)
    for width in (1, 3, 2048):
        embeddings = generator.normal(size=(60, width)) * 10.0 ** generator.integers(-4, 3, (60, 1))
        everything = np.arange(60)
        entries = Entries.of(embeddings, everything, labels=everything, counts=np.ones(60, int))
        scores = entries.scores(everything, dtype).astype(np.float64)
        # math.fsum adds without an error.
        exact = np.array(
            [
                [math.fsum(np.square(one - other, dtype=np.longdouble)) for other in entries.exact(everything)]
                for one in entries.exact(everything)
            ]
        )
        off = np.abs(scores + exact * entries.spread**2 / 2)
        bound = [entries.errors(everything, column, dtype) for column in scores.T]
        assert (off <= np.transpose(bound)).all()
        assert off.max() > np.max(bound) / 1e4  # and says something
