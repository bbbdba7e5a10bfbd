"""Training on several devices or machines, with the results of one.

Each replica holds all weights and trains on its own rows of the batch, a block that
follows the block of the replica before. What has to be known of all rows (gradients,
the baseline of the rewards, metrics, the recurrent state) is summed over the replicas
or gathered, so that from step to step each replica, each worker and a process alone
know the same.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys

import numpy as np
import tensorflow as tf

from dsc.cli.errors import RunError, one_line
from dsc.cli.signals import SIGNALS
from dsc.distributed.base import Distribution
from dsc.distributed.cluster import Cluster

CONNECT = 60  # seconds for TensorFlow to connect workers that are there

# What TensorFlow raises when another worker is gone, or ends by an error of its own.
_LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
    tf.errors.InternalError,
)


def make(flags):
    """The distribution that --strategy asks for; to be made before any TensorFlow op.

    Workers other than the chief print nothing from here on but their errors.

    Args:
        flags: `absl.flags.FLAGS` with those of `dsc.cli.flags`.

    Raises:
        RunError: the workers are not there, or the flags do not fit.
    """
    if flags.strategy == "none":
        return Distribution()
    if flags.load_model:
        raise RunError(
            f"--strategy {flags.strategy} is for training: --load_model evaluates in "
            "one process, on one device; leave --strategy out."
        )
    tf.get_logger().setLevel("WARNING")  # else each exchange is told when traced
    if flags.strategy == "mirrored":
        distribution = Replicas(tf.distribute.MirroredStrategy())
    else:
        distribution = Workers(Cluster.from_environment())
    n = distribution.n_replicas
    if flags.batch_size % n:
        raise RunError(
            f"--batch_size {flags.batch_size} cannot be split over {n} replicas; give "
            f"a multiple of {n}."
        )
    print(f"Training on {n} replicas, with {flags.batch_size // n} rows each.")
    return distribution


class Replicas(Distribution):
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

    def rows(self, values):
        return tf.nest.map_structure(self._own_rows, values)

    def _own_rows(self, x):
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
                floats.append(self._placed(g.values))
                indices.append(self._placed(g.indices))
            elif g is not None:
                floats.append(g)
        # float32 holds half precision exactly, and all goes in one message.
        floats += [self._placed(tf.cast(part, tf.float32)) for part in parts]
        floats, indices = iter(_summed(floats)), iter(_summed(indices))
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

    def over_batch(self, function):
        def over_rows(x, *args):
            (whole,) = _summed([self._placed(tf.stop_gradient(x))])
            whole = tf.ensure_shape(whole, self._whole(x))
            return self._own_rows(function(whole, *args))

        return over_rows

    def apply(self, optimizer, gradients, variables):
        # Keras sums over the replicas once more; and not every optimizer takes rows
        # that are there several times.
        shares = [
            None if g is None else tf.convert_to_tensor(g) / self.n_replicas
            for g in gradients
        ]
        optimizer.apply(shares, variables)

    def _placed(self, x):
        """A replica's rows at their place among zeros `[batch, ...]`.

        The sum of these over the replicas gathers the rows, exactly, and can travel
        with other sums.
        """
        before = tf.shape(x)[0] * _context().replica_id_in_sync_group
        after = tf.shape(x)[0] * (self.n_replicas - 1) - before
        return tf.pad(x, [[before, after]] + [[0, 0]] * (x.shape.rank - 1))

    def _whole(self, x):
        rows = x.shape[0]
        return (None if rows is None else rows * self.n_replicas, *x.shape[1:])


class Workers(Replicas):
    """Replicas in several processes: `--strategy multi_worker`.

    Args:
        cluster: `dsc.distributed.cluster.Cluster`.
    """

    def __init__(self, cluster):
        self.cluster = cluster
        self.n_workers = len(cluster.addresses)
        self.worker = cluster.index
        cluster.wait()
        if not self.is_chief:
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115
            os.dup2(sys.stdout.fileno(), 1)  # for the processes that it starts
        with self.watching():
            super().__init__(_connected())

    def exchange(self, value):
        text = np.frombuffer(json.dumps(value).encode(), np.uint8).astype(np.int32)
        lengths = self._gathered(np.int32([len(text)]))[:, 0]
        texts = self._gathered(np.pad(text, (0, lengths.max() - len(text))))
        return [
            _tuples(json.loads(text[:n].astype(np.uint8).tobytes()))
            for text, n in zip(texts, lengths, strict=True)
        ]

    def leave(self):
        self.exchange(None)
        # Nobody gets through another before all have begun it, and so have had that
        # one; that some are cut off from this one is to be expected.
        with contextlib.suppress(RunError):
            self.exchange(None)

    def from_chief(self, function):
        return self.exchange(function() if self.is_chief else None)[0]

    @contextlib.contextmanager
    def scope(self):
        with self.watching(), super().scope():
            yield

    @contextlib.contextmanager
    def watching(self):
        try:
            yield
        except _LOST as error:
            cause = re.search(r"aborted by: (.*)", error.message)
            cause = one_line(cause[1] if cause else error.message)[:200]
            raise RunError(
                f"Another worker is lost ({cause}); see what it said, then start all "
                "workers again with their commands: they go on from the newest state "
                "that all hold."
            ) from None

    def _gathered(self, row):
        """`[n_workers, ...]` from each worker's `[...]`, int32."""
        n_local = self.n_replicas // self.n_workers
        with self.watching():
            return self._gather_rows(row).numpy()[::n_local]

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32)], autograph=False)
    def _gather_rows(self, row):
        return self.run(lambda row: _summed([self._placed(row[None])])[0], row)


def _connected():
    """TensorFlow's strategy, when all workers are there."""
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    # TensorFlow holds Python's lock until all are connected, so no handler or thread of
    # this process can end the wait for a worker that has died: another process does.
    end = 'sleep "$0"; kill -KILL "$1" && echo "$2" >&2'
    said = (
        f"Not all workers have connected within {CONNECT} s; see what the others said, "
        "then start all workers again with their commands."
    )
    watcher = subprocess.Popen(
        ["sh", "-c", end, str(CONNECT), str(os.getpid()), said], start_new_session=True
    )
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    finally:
        os.killpg(watcher.pid, signal.SIGKILL)
        watcher.wait()
        for number, handler in handlers.items():  # it has taken SIGTERM
            signal.signal(number, handler)


def _tuples(value):
    """A value with tuples for its lists; those inside of dicts stay."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _context():
    return tf.distribute.get_replica_context()


def _summed(tensors):
    """The sums over the replicas of tensors of one dtype, in one message."""
    if not tensors:
        return []
    return _context().all_reduce(tf.distribute.ReduceOp.SUM, tensors)
