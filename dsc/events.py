"""A run's event files, which TensorBoard shows.

TensorBoard is not needed to write them: the records are TensorFlow's own, and the one
thing that is TensorBoard's, the hyper-parameters, is put together here.
"""

import contextlib
import itertools
import os
import re
import socket
import struct
import time

import numpy as np
import tensorflow as tf

from dsc.errors import RunError, one_line

Event = tf.compat.v1.Event
Summary = tf.compat.v1.Summary
SessionLog = tf.compat.v1.SessionLog


class Events:
    """Writes a new event file into the folder of a run.

    Args:
        folder: the run's.
        step: number of training steps that are done: what earlier files say of later
            ones is void, and TensorBoard drops it.
        hparams: dict of the run's hyper-parameters, for the HParams tab; what is no
            number, text or truth value is left out.

    Raises:
        RunError: the file cannot be written; so do all methods.
    """

    def __init__(self, folder, step, hparams):
        self.folder = folder
        names = (
            f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}"
            f".{os.getpid()}.{n}"
            for n in itertools.count()
        )
        self.path = next(p for p in map(folder.joinpath, names) if not p.exists())
        with self._writing():
            self._writer = tf.io.TFRecordWriter(os.fsencode(self.path))
            self._write(file_version="brain.Event:2")
            start = SessionLog(status=SessionLog.START)
            self._write(session_log=start, step=step + 1)
            self._write(summary=_hparams(hparams))
            self._writer.flush()

    def log(self, step, prefix, values):
        """Writes numbers as scalars and rows of shares as histograms.

        Args:
            step: number of training steps that are done.
            prefix: the group in which TensorBoard shows them.
            values: dict from name to a number, or to a list of shares: of the skips of
                length 1, 2, and so on. What is neither is left out.
        """
        summary = Summary()
        for name, value in values.items():
            tag = f"{prefix}/{re.sub(r'[^A-Za-z0-9]+', '_', name).strip('_')}"
            if np.ndim(value) == 0:
                summary.value.add(tag=tag, simple_value=float(value))
            elif np.ndim(value) == 1:
                summary.value.add(tag=tag, histo=_histogram(value))
        with self._writing():
            self._write(summary=summary, step=step)
            self._writer.flush()

    def _write(self, **content):
        event = Event(wall_time=time.time(), **content)
        self._writer.write(event.SerializeToString())

    @contextlib.contextmanager
    def _writing(self):
        try:
            yield
        except tf.errors.OpError as error:
            raise RunError(
                f"--train_dir: cannot write to {self.folder} "
                f"({one_line(error.message)}); free space or give another folder."
            ) from None


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
