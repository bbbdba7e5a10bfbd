"""The training of both tasks under TensorFlow: step, clipping, what is shown of it.

A task (`Task`) says what is learned; this file says how, `dsc.fitting` for how long.
"""

import abc
import ctypes

import tensorflow as tf

from dsc import fitting, noise
from dsc import flags as shared_flags
from dsc.about import about
from dsc.distribution import Distribution
from dsc.errors import RunError, one_line
from dsc.events import Events
from dsc.run_folder import RunFolder
from dsc.workers import check_same_command


class Task(abc.ABC):
    """What `fit` needs to know of a task.

    Attributes:
        model: built `keras.Model`.
        optimizer: `keras.optimizers.Optimizer`.
        n_batches: batches per epoch.
        max_grad_norm: global norm at which gradients are clipped, or None.
        dense_norm: see `dsc.recipes.Recipe`.
        memory: names of the attributes in which `end_epoch` remembers earlier scores:
            numbers, tuples of them, or None.
        unit: what a batch has `batch_units` of, for the speed in the reports.
        batch_units: how many words or sequences one batch has.
        jit_compile: whether XLA compiles the training step.
        distribution: `dsc.distribution.Distribution` in whose scope model and optimizer
            were made.
    """

    distribution = Distribution()
    jit_compile = False
    max_grad_norm = None
    dense_norm = True
    memory = ()

    @property
    def learning_rate(self):
        """The optimizer's, a float, also where each replica has one."""
        return float(self.optimizer.learning_rate.numpy())

    @abc.abstractmethod
    def batch(self, epoch, i):
        """Batch i of an epoch, numbered from 0: a tuple of arrays."""

    def initial_state(self):
        """The recurrent state at the start of an epoch."""
        return ()

    @abc.abstractmethod
    def loss(self, step, batch, state):
        """`(loss, state, metrics)` of a batch; traced. All randomness is in `step`.

        Batch and state are a replica's rows, the loss and the metrics means over them.
        """

    def record(self, metrics):
        """What is logged of the mean metrics of some steps (NumPy), a dict.

        `actions` in it, if any, is `[n_actions]`: the share of each, oldest state
        first.
        """
        return metrics

    @abc.abstractmethod
    def describe(self, record):
        """A report's text from what `record` gave: first the loss, then the score."""

    @abc.abstractmethod
    def evaluate(self):
        """`(scores, score)` after an epoch.

        `scores` is a dict to log, its numbers also to print; the weights of the epoch
        with the highest `score` are kept.
        """

    @abc.abstractmethod
    def end_epoch(self, score):
        """Adapts the schedule to a score; returns why training should end, or None."""

    def schedule_state(self):
        """What `end_epoch` remembers, by name; see `memory`."""
        return {name: getattr(self, name) for name in self.memory}

    def restore_schedule(self, state):
        """Takes back what `schedule_state` gave."""
        for name, value in state.items():
            setattr(self, name, value)


def limit_gpu_memory(portion):
    """Lets this process use at most a share of each GPU's memory; no GPU, no effect.

    Args:
        portion: between 0 and 1; 1 sets no limit.

    Raises:
        RunError: the driver does not say how much memory there is.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if portion == 1.0 or not gpus:
        return
    # TensorFlow reports a GPU's memory only after it has initialised the GPU. It
    # numbers GPUs as CUDA does, after CUDA_VISIBLE_DEVICES; nvidia-smi lists all.
    device, total = ctypes.c_int(), ctypes.c_size_t()
    for number, gpu in enumerate(gpus):
        try:
            cuda = ctypes.CDLL("libcuda.so.1")
            failed = cuda.cuDeviceGet(ctypes.byref(device), number)
            failed = failed or cuda.cuDeviceTotalMem_v2(ctypes.byref(total), device)
            if failed:
                raise OSError(f"CUDA error {failed}")
        except OSError as error:
            raise RunError(
                f"--gpu_portion: the driver does not tell the memory of GPU {number} "
                f"({one_line(error)}); leave the flag out."
            ) from None
        limit = tf.config.LogicalDeviceConfiguration(
            memory_limit=portion * total.value / 2**20
        )
        tf.config.set_logical_device_configuration(gpu, [limit])


def make_train_step(task):
    """The compiled training step: `(step, batch, state) -> (state, metrics)`.

    All of them are whole, whatever the number of replicas.
    """
    variables = task.model.trainable_variables
    distribution = task.distribution

    def replica_step(step, batch, state):
        batch, state = distribution.rows(batch), distribution.rows(state)
        with tf.GradientTape() as tape:
            loss, state, metrics = task.loss(step, batch, state)
        gradients = tape.gradient(loss, variables)
        gradients, state, means = distribution.join(
            gradients, state, {"loss": loss, **metrics}
        )
        gradients, norm = clip(gradients, task.max_grad_norm, task.dense_norm)
        distribution.apply(task.optimizer, gradients, variables)
        return state, {"loss": means.pop("loss"), "grad_norm": norm, **means}

    # No Python here depends on a tensor's value, and AutoGraph would read all of it.
    @tf.function(jit_compile=task.jit_compile, autograph=False)
    def train_step(step, batch, state):
        return distribution.run(replica_step, step, batch, state)

    return train_step


def clip(gradients, max_norm, dense_norm):
    """Clips gradients by their global norm.

    Args:
        gradients: list of tensors or `tf.IndexedSlices`, or None where a variable has
            no part in the loss.
        max_norm: positive number, or None for no clipping.
        dense_norm: whether rows of `tf.IndexedSlices` that belong together are added
            before they are squared; False counts each for itself, which is the norm
            of TensorFlow 1's `clip_by_global_norm`.

    Returns:
        `(gradients, norm)`: the gradients, in `tf.IndexedSlices` each row once, and
        the norm before clipping.
    """
    merged = [
        _merge_rows(g) if isinstance(g, tf.IndexedSlices) else g for g in gradients
    ]
    norm = tf.linalg.global_norm(merged if dense_norm else gradients)
    if max_norm is not None:
        merged, _ = tf.clip_by_global_norm(merged, max_norm, use_norm=norm)
    return merged, norm


def _merge_rows(slices):
    """`tf.IndexedSlices` of the same gradient that names each row once."""
    rows, place = tf.unique(slices.indices)
    values = tf.math.unsorted_segment_sum(slices.values, place, tf.size(rows))
    return tf.IndexedSlices(values, rows, slices.dense_shape)


def train_or_load(task, saved, flags, corpus, data, vocabulary=None):
    """Gives the task's model the weights that the flags ask for.

    Args:
        task: `Task`.
        saved: `RunFolder` of --load_model, or None.
        flags: `absl.flags.FLAGS` with those of `dsc.flags`.
        corpus: name of the data.
        data: dict from split to a digest of its content: with other data, a run is
            another run.
        vocabulary: words to keep with a new run, or None.

    Returns:
        The best score, which the weights of a training have, or None.

    Raises:
        RunError: a run cannot be read or written.
    """
    if saved:
        saved.checkpoints.load_weights(task.model)
    elif flags.max_epochs:
        config = shared_flags.values(flags)
        config |= {"data": data, "about": about(task.model, corpus)}
        check_same_command(task.distribution, config)
        folder = task.distribution.folder(flags.train_dir)
        folder = RunFolder.begin(folder, config, flags.restart, vocabulary)
        best = fit(
            task,
            folder,
            flags.max_epochs,
            flags.print_every,
            flags.max_steps,
            flags.save_every,
        )
        folder.checkpoints.load_weights(task.model)
        print(f"The best weights on validation are in {folder.checkpoints.best}.")
        return best
    else:
        print("These are the initial weights: --max_epochs 0 and no --load_model.")
    return None


def fit(task, folder, max_epochs, print_every, max_steps=None, save_every=60.0):
    """Trains a `Task`, its metrics shown in TensorBoard too; see `fitting.fit`."""

    def begin(state):
        events = Events(folder.path, folder.records, folder.hparams)
        train_step = make_train_step(task)

        def train(state):
            batch = task.batch(state.epochs, state.position)
            step = noise.number(state.step)
            state.recurrent, metrics = train_step(step, batch, state.recurrent)
            return metrics

        return train, events.log

    return fitting.fit(
        task, folder, max_epochs, print_every, max_steps, save_every, begin
    )
