"""A learned baseline of REINFORCE: what the inputs of a step say about its return."""

import keras
from keras import ops


class Value(keras.layers.Layer):
    """Predicts by how much a step's return differs from that of the other rows.

    It reads what the DSC-LSTM reads, not the action, so that the expected policy
    gradient stays the same. The prediction is linear in the input, which is scaled to
    length 1: with the loss of `dsc.losses.value_advantages`, learning rates up to 1 are
    stable, which SGD has for the language model. No gradient passes to the input.
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
