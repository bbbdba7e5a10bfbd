"""Random numbers of a training step under TensorFlow, as functions of (seed, step).

There is no generator state, so a step draws the same numbers whatever ran before it.
Every draw is for the whole global batch.
"""

import numpy as np
import tensorflow as tf


def number(step):
    """Returns the number of a step as an array, for compiled functions.

    TensorFlow caches every Python number that it converts to a tensor, which would
    leak 750 bytes a step.
    """
    return np.array(step, np.int64)


def gumbel(shape, seed, step, stream):
    """Standard Gumbel noise: argmax(logits + noise) is a sample of softmax(logits).

    Args:
        shape: list of integers or integer tensors.
        seed: integer, the run's.
        step: integer or scalar tensor, the number of the training step.
        stream: integer, different for each draw of a step.

    Returns:
        float32 tensor of `shape`.
    """
    # Below the spacing of the draws: it only prevents log(0).
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


def zoneout_mask(shape, rate, seed, step, stream):
    """1 with probability `rate`, where a unit keeps its value, else 0.

    Args and result: see `dropout_mask`.
    """
    return tf.cast(_uniform(shape, seed, step, stream) < rate, tf.float32)


def _uniform(shape, seed, step, stream):
    key = tf.stack([tf.cast(seed, tf.int64), tf.cast(step, tf.int64)])
    key = tf.random.experimental.stateless_fold_in(key, stream, alg="philox")
    bits = tf.random.stateless_uniform(
        shape, key, minval=None, maxval=None, dtype=tf.uint32, alg="philox"
    )
    # Explicit conversion: XLA would make other floats of the same bits.
    return tf.cast(tf.bitwise.bitwise_and(bits, 2**23 - 1), tf.float32) * 2.0**-23
