"""A learned baseline of REINFORCE: the return that a step can expect."""

import keras
from keras import ops


class Value(keras.layers.Layer):
    """Predicts the return of each step from what its layer reads.

    It does not see the step's action, so that the expected policy gradient stays the
    same. The prediction is linear in the input, which is scaled to length 1: then
    learning rates up to 1 are stable, as SGD needs for the language model. No gradient
    passes to the input.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.linear = keras.layers.Dense(1, kernel_initializer="zeros", name="linear")

    def build(self, input_shape):
        self.linear.build(input_shape)
        self.built = True

    def call(self, x):
        """Returns `[batch, time]` for x `[batch, time, features]`."""
        return self.linear(ops.normalize(ops.stop_gradient(x)))[..., 0]
