"""The distribution that --strategy asks for."""

import os

import tensorflow as tf

from dsc.cli.errors import RunError
from dsc.distributed.base import Distribution
from dsc.distributed.cluster import Cluster
from dsc.distributed.mirrored import MirroredDistribution
from dsc.distributed.multi_worker import MultiWorkerDistribution


def make_distribution(flags):
    """The distribution that --strategy asks for; call it before any TensorFlow op.

    From here on workers other than the chief print errors only.

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
    tf.get_logger().setLevel("WARNING")  # no line for each all-reduce
    if flags.strategy == "mirrored":
        distribution = MirroredDistribution(tf.distribute.MirroredStrategy())
    else:
        distribution = MultiWorkerDistribution(Cluster(os.environ.get("TF_CONFIG")))
    n = distribution.n_replicas
    if flags.batch_size % n:
        raise RunError(
            f"--batch_size {flags.batch_size} cannot be split over {n} replicas; give "
            f"a multiple of {n}."
        )
    print(f"Training on {n} replicas, with {flags.batch_size // n} rows each.")
    return distribution
