"""A run's event files, which TensorBoard shows.

TensorBoard is not needed to write them: the records are TensorFlow's own, and the one
thing that is TensorBoard's, the hyper-parameters, is put together here.
"""

import contextlib
import os
import re
import socket
import struct
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

    The file begins with the metrics so far and replaces the files that the run wrote
    before. TensorBoard would show what is in those, even if the run was resumed from
    an earlier step.

    Args:
        folder: the run's.
        records: list of dicts, what `metrics.jsonl` holds.
        hparams: dict of the run's hyper-parameters, for the HParams tab; what is no
            number, text or truth value is left out.

    Raises:
        RunError: the file cannot be written; so do all methods.
    """

    def __init__(self, folder, records, hparams):
        self.folder = folder
        old = sorted(folder.glob(f"{PREFIX}*{SUFFIX}"))
        shown = {_key(event): event for path in old for event in _read(path)}
        # TensorBoard reads files in the order of their names, but clocks are set back.
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

        Numbers become scalars, and `actions`, the share of each choice, a histogram of
        the skip lengths; other values are left out. Names that end with `RATE` need
        not be in the metrics.
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
    """The step and the group of an event, which no other event of a run has."""
    return event.step, *(v.tag.partition("/")[0] for v in event.summary.value[:1])


def _read(path):
    """Yields the events in a file."""
    with contextlib.suppress(tf.errors.OpError):  # a kill may have cut the last one
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
    """The beginning of a session as TensorBoard's HParams plugin wants it.

    That is the message HParamsPluginData of its `plugin_data.proto`, of which two
    fields are needed: session_start_info (3), and in it the map hparams (1) from text
    to `google.protobuf.Value`.
    """
    info = b""
    for name, value in values.items():
        if isinstance(value, bool):
            kind = b"\x20" + bytes([value])  # bool_value (4)
        elif isinstance(value, int | float):
            kind = b"\x11" + struct.pack("<d", value)  # number_value (2)
        elif isinstance(value, str):
            kind = _field(3, value.encode(errors="replace"))  # string_value
        else:
            continue
        info += _field(1, _field(1, name.encode()) + _field(2, kind))
    metadata = tf.compat.v1.SummaryMetadata()
    metadata.plugin_data.plugin_name = "hparams"
    metadata.plugin_data.content = _field(3, info)
    nothing = tf.make_tensor_proto([], tf.float32)
    summary = Summary()
    summary.value.add(
        tag="_hparams_/session_start_info", tensor=nothing, metadata=metadata
    )
    return summary


def _field(number, content):
    """A protocol buffer's field of bytes: key, length, content."""
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


def _varint(number):
    digits = []
    while number >= 128:
        digits.append(number & 127 | 128)
        number >>= 7
    return bytes([*digits, number])
