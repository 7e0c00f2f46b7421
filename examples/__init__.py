"""Uses of the package beyond image classification, as commands: `python -m examples.translation`."""

import cskd_tf  # noqa: F401, chooses TensorFlow's kernels before Keras loads it
