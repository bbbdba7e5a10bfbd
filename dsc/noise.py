"""The random numbers of a training step: pure functions of (seed, step).

No generator keeps a state, so a step draws the same numbers whatever ran before it.
Every draw is made for the whole batch at once.
"""

import numpy as np
import tensorflow as tf


def number(step):
    """A step's number as the compiled functions take it.

    An array, since TensorFlow keeps each Python number that it ever makes a tensor of:
    750 bytes a step.
    """
    return np.array(step, np.int64)


def gumbel(shape, seed, step, stream):
    """Standard Gumbel noise: argmax(logits + noise) is a sample of softmax(logits).

    Args:
        shape: list of integers or integer tensors.
        seed: integer, the run's.
        step: integer or scalar tensor, the number of the training step.
        stream: integer that tells the draws of one step apart.

    Returns:
        float32 tensor of `shape`.
    """
    # Less than the spacing of the draws: only log(0) is kept from occurring.
    uniform = tf.maximum(_uniform(shape, seed, step, stream), 2.0**-24)
    return -tf.math.log(-tf.math.log(uniform))


def dropout_mask(shape, rate, seed, step, stream):
    """Inverted dropout: each factor is 0 with probability `rate`, else 1 / (1 - rate).

    Args:
        shape, seed, step, stream: see `gumbel`.
        rate: between 0 and 1, 1 excluded.

    Returns:
        float32 tensor of `shape`.
    """
    kept = _uniform(shape, seed, step, stream) >= rate
    return tf.cast(kept, tf.float32) / (1.0 - rate)


def _uniform(shape, seed, step, stream):
    key = tf.stack([tf.cast(seed, tf.int64), tf.cast(step, tf.int64)])
    key = tf.random.experimental.stateless_fold_in(key, stream, alg="philox")
    bits = tf.random.stateless_uniform(
        shape, key, minval=None, maxval=None, dtype=tf.uint32, alg="philox"
    )
    # Bits to floats by ourselves: XLA makes other floats of the same bits.
    return tf.cast(tf.bitwise.bitwise_and(bits, 2**23 - 1), tf.float32) * 2.0**-23
