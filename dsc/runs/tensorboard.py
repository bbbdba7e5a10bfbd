"""Event files for TensorBoard, written with TensorFlow."""

import contextlib
import os
import re
import socket
import time
from numbers import Real

import numpy as np
import tensorflow as tf

from dsc.cli.errors import writing

Event = tf.compat.v1.Event
Summary = tf.compat.v1.Summary
SessionLog = tf.compat.v1.SessionLog
PREFIX, SUFFIX = "events.out.tfevents.", ".dsc"
RATE = "_per_second"


class Events:
    """Writes the event file of a run.

    A resumed run gets a new file, which starts with the metrics so far, and its older
    files are removed: they may have steps after the one that it was resumed from.

    Args:
        folder: the run's.
        records: list of dicts, the metrics so far.
        hparams: dict of the run's hyper-parameters, for the HParams tab, which needs
            the package `tensorboard`; values other than numbers and texts are left out.

    Raises:
        RunError: the file cannot be written; also raised by `log`.
    """

    def __init__(self, folder, records, hparams):
        self.folder = folder
        old = sorted(folder.glob(f"{PREFIX}*{SUFFIX}"))
        shown = {_key(event): event for path in old for event in _read(path)}
        # TensorBoard reads files in the order of their names, even if the clock was set
        # back.
        times = [path.name.split(".")[3] for path in folder.glob(f"{PREFIX}*")]
        times = [int(time.time()), *(int(t) + 1 for t in times if t.isdecimal())]
        name = f"{PREFIX}{max(times)}.{socket.gethostname()}.{os.getpid()}{SUFFIX}"
        with writing(folder, "--train_dir", tf.errors.OpError):
            self._writer = tf.io.TFRecordWriter(os.fsencode(folder / name))
            self._write(Event(file_version="brain.Event:2"))
            self._write(Event(session_log=SessionLog(status=SessionLog.START)))
            self._write(Event(summary=_hparams(hparams)))
            for event in map(_event, records):
                if before := shown.get(_key(event)):
                    event.wall_time = before.wall_time
                    event.summary.value.extend(
                        v for v in before.summary.value if v.tag.endswith(RATE)
                    )
                self._write(event)
            self._writer.flush()
            for path in old:
                path.unlink()

    def log(self, record):
        """Writes a record of the metrics: a report, or the scores of an epoch.

        Numbers become scalars, and `actions` a histogram of the skip lengths; other
        values are left out. `records` need not have the names that end with `RATE`.
        """
        with writing(self.folder, "--train_dir", tf.errors.OpError):
            self._write(_event(record))
            self._writer.flush()

    def _write(self, event):
        event.wall_time = event.wall_time or time.time()
        self._writer.write(event.SerializeToString())


def _event(record):
    """A record of the metrics as an `Event`."""
    group = "train" if "grad_norm" in record else "epoch"
    summary = Summary()
    for name, value in record.items():
        tag = f"{group}/{re.sub(r'[^A-Za-z0-9]+', '_', name).strip('_')}"
        if name == "actions":
            summary.value.add(tag=f"{group}/skip_length", histo=_histogram(value[::-1]))
        elif name not in ("step", "epoch") and isinstance(value, Real):
            summary.value.add(tag=tag, simple_value=value)
    return Event(step=record["step"], summary=summary)


def _key(event):
    """The step and the group of an event, which identify it."""
    return event.step, *(v.tag.partition("/")[0] for v in event.summary.value[:1])


def _read(path):
    """Yields the events in a file."""
    with contextlib.suppress(tf.errors.OpError):  # the last event may be truncated
        contents = tf.data.TFRecordDataset(os.fsencode(path), buffer_size=1 << 18)
        yield from map(Event.FromString, contents.as_numpy_iterator())


def _histogram(shares):
    """Shares of 1, 2, ... as a histogram with a bucket around each."""
    lengths = np.arange(1, len(shares) + 1)
    return tf.compat.v1.HistogramProto(
        min=1,
        max=len(shares),
        num=np.sum(shares),
        sum=np.dot(lengths, shares),
        sum_squares=np.dot(lengths**2, shares),
        bucket_limit=[0.5, *(lengths + 0.5)],
        bucket=[0.0, *shares],
    )


def _hparams(values):
    """A summary for the HParams tab; empty without the package `tensorboard`."""
    try:
        from tensorboard.plugins.hparams import api
    except ImportError:
        return Summary()
    kinds = bool | int | float | str
    summary = api.hparams_pb({k: v for k, v in values.items() if isinstance(v, kinds)})
    return Summary.FromString(summary.SerializeToString())
