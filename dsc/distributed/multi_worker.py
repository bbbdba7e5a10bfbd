"""Replicas in several processes, on one machine or several."""

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
from dsc.distributed.mirrored import MirroredDistribution, all_reduce_sum

CONNECT = 60  # seconds for TensorFlow to connect the workers

# What TensorFlow raises when another worker has died or failed.
_LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
    tf.errors.InternalError,
)


class MultiWorkerDistribution(MirroredDistribution):
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
            os.dup2(sys.stdout.fileno(), 1)  # for child processes
        with self.translate_worker_loss():
            super().__init__(_connected())

    def all_gather_object(self, value):
        text = np.frombuffer(json.dumps(value).encode(), np.uint8).astype(np.int32)
        lengths = self._gathered(np.int32([len(text)]))[:, 0]
        texts = self._gathered(np.pad(text, (0, lengths.max() - len(text))))
        return [
            _tuples(json.loads(text[:n].astype(np.uint8).tobytes()))
            for text, n in zip(texts, lengths, strict=True)
        ]

    def shutdown_barrier(self):
        self.all_gather_object(None)
        # Whoever ends this second exchange knows that all have ended the first. Others
        # may then lose the connection, which does no harm.
        with contextlib.suppress(RunError):
            self.all_gather_object(None)

    def run_on_chief(self, function):
        return self.all_gather_object(function() if self.is_chief else None)[0]

    @contextlib.contextmanager
    def scope(self):
        with self.translate_worker_loss(), super().scope():
            yield

    @contextlib.contextmanager
    def translate_worker_loss(self):
        try:
            yield
        except _LOST as error:
            cause = re.search(r"aborted by: (.*)", error.message)
            cause = one_line(cause[1] if cause else error.message)[:200]
            raise RunError(
                f"Another worker is lost ({cause}); see its output, then start all "
                "workers again with their commands: they resume from the newest state "
                "that all have."
            ) from None

    def _gathered(self, row):
        """`[n_workers, ...]` from each worker's `[...]`, int32."""
        n_local = self.n_replicas // self.n_workers
        with self.translate_worker_loss():
            return self._gather_rows(row).numpy()[::n_local]

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32)], autograph=False)
    def _gather_rows(self, row):
        return self.run(lambda row: all_reduce_sum([self.placed(row[None])])[0], row)


def _connected():
    """TensorFlow's strategy, once it has connected all workers."""
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    # TensorFlow holds Python's lock until all workers are connected. If one has died,
    # only another process can end the wait.
    end = 'sleep "$0"; kill -0 "$1" && { echo "$2" >&2; kill -KILL "$1"; }'
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
        for number, handler in handlers.items():  # TensorFlow replaced some
            signal.signal(number, handler)


def _tuples(value):
    """The value with tuples for its lists, except in dicts."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
