"""Several replicas in one process, with the results of one replica.

Each replica holds all weights and trains on its own block of the batch's rows.
Gradients, metrics, the recurrent state and the baseline of the rewards depend on all
rows: they are summed over the replicas or gathered, so that after each step every
replica has the values that one process with one replica would have.
"""

import tensorflow as tf

from dsc.distributed.base import Distribution


class MirroredDistribution(Distribution):
    """Replicas in one process: `--strategy mirrored`.

    Args:
        strategy: `tf.distribute.Strategy`.
    """

    def __init__(self, strategy):
        self.strategy = strategy
        self.n_replicas = strategy.num_replicas_in_sync

    def scope(self):
        return self.strategy.scope()

    def run(self, step, *args):
        results = self.strategy.run(step, args)
        return tf.nest.map_structure(
            lambda result: self.strategy.experimental_local_results(result)[0], results
        )

    def local_rows(self, values):
        return tf.nest.map_structure(self._own_rows, values)

    def _own_rows(self, x):
        if x is None:
            return None
        n = tf.shape(x)[0] // self.n_replicas
        start = _context().replica_id_in_sync_group * n
        own = x[start : start + n]
        if x.shape[0] is not None:
            own = tf.ensure_shape(own, (x.shape[0] // self.n_replicas, *x.shape[1:]))
        return own

    def join(self, gradients, state, metrics):
        parts = tf.nest.flatten(state)
        floats, indices = [*metrics.values()], []
        for g in gradients:
            if isinstance(g, tf.IndexedSlices):
                floats.append(self.placed(g.values))
                indices.append(self.placed(g.indices))
            elif g is not None:
                floats.append(g)
        # As float32, which represents half precision exactly, all fits in one message.
        floats += [self.placed(tf.cast(part, tf.float32)) for part in parts]
        floats, indices = iter(all_reduce_sum(floats)), iter(all_reduce_sum(indices))
        metrics = {name: next(floats) / self.n_replicas for name in metrics}
        joined = []
        for g in gradients:
            if g is not None:
                mean = next(floats) / self.n_replicas
                if isinstance(g, tf.IndexedSlices):
                    mean = tf.IndexedSlices(mean, next(indices), g.dense_shape)
                g = mean
            joined.append(g)
        parts = [
            tf.ensure_shape(tf.cast(next(floats), part.dtype), self._whole(part))
            for part in parts
        ]
        return joined, tf.nest.pack_sequence_as(state, parts), metrics

    def on_global_batch(self, function):
        def over_rows(x, *args):
            (whole,) = all_reduce_sum([self.placed(tf.stop_gradient(x))])
            whole = tf.ensure_shape(whole, self._whole(x))
            return self._own_rows(function(whole, *args))

        return over_rows

    def apply(self, optimizer, gradients, variables):
        # Keras sums over the replicas once more, and not every optimizer accepts
        # `tf.IndexedSlices` with repeated rows.
        shares = [
            None if g is None else tf.convert_to_tensor(g) / self.n_replicas
            for g in gradients
        ]
        optimizer.apply(shares, variables)

    def placed(self, x):
        """The replica's rows at their position in `[batch, ...]`, zeros elsewhere.

        The sum over the replicas gathers all rows, in the same message as other sums.
        """
        before = tf.shape(x)[0] * _context().replica_id_in_sync_group
        after = tf.shape(x)[0] * (self.n_replicas - 1) - before
        return tf.pad(x, [[before, after]] + [[0, 0]] * (x.shape.rank - 1))

    def _whole(self, x):
        rows = x.shape[0]
        return (None if rows is None else rows * self.n_replicas, *x.shape[1:])


def _context():
    return tf.distribute.get_replica_context()


def all_reduce_sum(tensors):
    """The sums over the replicas of tensors of one dtype, in one message."""
    if not tensors:
        return []
    return _context().all_reduce(tf.distribute.ReduceOp.SUM, tensors)
