"""The states of a sequence, each kept once and written without a copy.

A history of h, or of c, is `[blocks, batch * units]`:

    block 0                  the state that step 0 was given
    blocks 1 .. K            the memory before step 0, oldest first
    blocks K+1 .. K+time     the states that the steps made

so the memory of step t is the blocks t+1 .. t+K, and action a means block t+1+a. Seen
as `[blocks * batch, units]`, a row is the state of one row of the batch.

TensorFlow's own executor writes in place by operations that XLA does not have. XLA
writes in place by itself where operations make a copy elsewhere, so each function has a
way for both, and `xla` says which.
"""

import tensorflow as tf


def sizes(x):
    """The first two sizes of a tensor: numbers where they are known."""
    known, found = x.shape[:2], tf.shape(x)
    return [found[n] if known[n] is None else known[n] for n in range(2)]


def new_history(first, n_blocks, xla):
    """A history of `n_blocks` blocks that begins with those of `first`.

    The others are not initialised.
    """
    n_given, size = sizes(first)
    if xla:
        rest = tf.zeros((n_blocks - n_given, size), first.dtype)
        return tf.concat([first, rest], axis=0)
    # `Empty` is stateful, so TensorFlow never merges two of them, as it does with equal
    # tensors, which would then share what is written.
    empty = tf.raw_ops.Empty(shape=(n_blocks, size), dtype=first.dtype)
    return tf.raw_ops.InplaceUpdate(x=empty, i=tf.range(n_given), v=first)


def put_block(history, n, state, xla):
    """Makes `state` `[batch, units]` the block n of a history that no one else has."""
    block = tf.reshape(state, (1, -1))
    if xla:
        return tf.tensor_scatter_nd_update(history, [[n]], block)
    return tf.raw_ops.InplaceUpdate(x=history, i=[n], v=block)


def add_to_rows(history, rows, d_state, xla):
    """Adds `d_state` `[batch, units]` to rows `[batch]` of a history, all different."""
    flat = tf.reshape(history, (-1, d_state.shape[-1]))
    if xla:
        flat = tf.tensor_scatter_nd_add(flat, rows[:, None], d_state)
    else:
        flat = tf.raw_ops.InplaceAdd(x=flat, i=rows, v=d_state)
    return tf.reshape(flat, tf.shape(history))
