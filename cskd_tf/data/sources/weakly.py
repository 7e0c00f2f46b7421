"""Methods that TensorFlow may call and must not keep alive."""

import weakref
from collections.abc import Callable
from typing import Any


def weakly(method: Callable[..., Any]) -> Callable[..., Any]:
    """A function that calls a bound method as long as the object is there.

    What `tf.numpy_function` is given for a data set that is made outside of a graph stays in TensorFlow's default graph
    until the process ends, and with it all that it leads to: a model, the images of a class, the index of a data set.
    Whoever reads the data set has to hold the object, such as in a function that is mapped over it.

    Example:
        >>> import collections
        >>> counts = collections.Counter("abb")
        >>> weakly(counts.most_common)(1)
        [('b', 2)]

    Raises:
        ReferenceError: of the function, when the object is gone.
    """
    reference, name = weakref.WeakMethod(method), method.__name__

    def call(*arguments):
        if (there := reference()) is None:
            raise ReferenceError(f"Expected the data set that {name} is of to be held by whoever reads it")
        return there(*arguments)

    return call
