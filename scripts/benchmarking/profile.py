"""The shares of a step's time, from TensorFlow's profiler."""

import collections
import itertools
import tempfile
from pathlib import Path

import tensorflow as tf

# An operation belongs to the first part that occurs in its "name:type".
PARTS = {
    "agent": ("agent",),
    "optimizer": ("global_norm", "clip_by", "sgd", "adam"),
    "matrix products": ("MatMul",),
    "softmax": ("word_losses", "Softmax"),
    "dropout and noise": ("stateless_random", "dropout"),
    "embedding": ("embedding", "UnsortedSegmentSum", "Unique"),
    "gates and states": ("while", "lstm", "dsc", "Sigmoid", "Tanh", "TensorList"),
    "other": ("",),
}
BETWEEN = "between operations"


def shares(step, n_steps=5):
    """The share of each part in the wall time of a step; the shares sum to 1.

    Operations that run at the same time share that time equally. Input and everything
    else that Python does counts as time between operations. `step` must be warmed up.
    """
    with tempfile.TemporaryDirectory() as folder:
        with tf.profiler.experimental.Profile(folder):
            for _ in range(n_steps):
                step()
        (path,) = Path(folder).rglob("*.xplane.pb")
        operations = _operations(path.read_bytes())
    changes = sorted(
        (time, is_start, n)
        for n, (start, end, _) in enumerate(operations)
        for time, is_start in ((start, True), (end, False))
    )
    spent = collections.Counter()
    running = set()
    for (time, is_start, n), (next_time, *_) in itertools.pairwise(changes):
        (running.add if is_start else running.discard)(n)
        parts = [operations[n][2] for n in running] or [BETWEEN]
        for part in parts:
            spent[part] += (next_time - time) / len(parts)
    total = sum(spent.values())
    return {part: spent[part] / total for part in (*PARTS, BETWEEN)}


def _operations(profile):
    """List of `(start, end, part)` of every operation on the CPU, in picoseconds."""
    # This module is not part of TensorFlow's public interface.
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    found = []
    for plane in xplane_pb2.XSpace.FromString(profile).planes:
        if "CPU" not in plane.name:
            continue
        for line in plane.lines:
            for event in line.events:
                name = plane.event_metadata[event.metadata_id].name
                if ":" not in name or "::" in name or name.startswith("Eager"):
                    continue  # not an operation
                start = 1000 * line.timestamp_ns + event.offset_ps
                found.append((start, start + event.duration_ps, _part(name)))
    return found


def _part(name):
    return next(part for part, marks in PARTS.items() if any(m in name for m in marks))
