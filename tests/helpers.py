"""What several test files build."""

from cskd_tf.distiller import SelfDistiller
from cskd_tf.optimizers import SGD


def compiled(network, methods=(), *, learning_rate=0.1, momentum=0.0, weight_decay=0.0, **kwargs):
    """A `SelfDistiller` around `network` with plain SGD."""
    model = SelfDistiller(network, methods, **kwargs)
    model.compile(SGD(learning_rate, momentum=momentum, weight_decay=weight_decay))
    return model
