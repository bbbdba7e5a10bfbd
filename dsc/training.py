"""The training loop of both tasks: step, clipping, reports, states, the best weights.

A task (`Task`) says what is learned; this file says how. Under TensorFlow.
"""

import abc
import subprocess

import numpy as np
import tensorflow as tf

from dsc import flags as shared_flags
from dsc import interruption, noise
from dsc.about import about
from dsc.distribution import Distribution
from dsc.errors import RunError, one_line
from dsc.events import Events
from dsc.interruption import delayed
from dsc.report import Report, epoch_done
from dsc.resuming import Saver, resume
from dsc.run_folder import RunFolder
from dsc.state import Means
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
        """A report's text from what `record` gave."""

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
    query = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        result = subprocess.run(query, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise RunError(
            f"--gpu_portion: nvidia-smi, which tells a GPU's memory, fails "
            f"({one_line(error)}); leave the flag out."
        ) from None
    totals = result.stdout
    for gpu, total in zip(gpus, totals.split(), strict=False):  # MiB each
        limit = tf.config.LogicalDeviceConfiguration(
            memory_limit=portion * float(total)
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

    @tf.function(jit_compile=task.jit_compile)
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
        folder = RunFolder.begin(folder, config, flags.restart)
        if vocabulary is not None:
            folder.write_vocabulary(vocabulary)
        fit(
            task,
            folder,
            flags.max_epochs,
            flags.print_every,
            flags.max_steps,
            flags.save_every,
        )
        folder.checkpoints.load_weights(task.model)
        print(f"The best weights on validation are in {folder.checkpoints.best}.")
    else:
        print("These are the initial weights: --max_epochs 0 and no --load_model.")


def fit(task, folder, max_epochs, print_every, max_steps=None, save_every=60.0):
    """Trains, or goes on where the folder's newest state stands.

    What is computed, the weights and the metrics, is the same whether training was
    interrupted or not.

    Args:
        task: `Task`.
        folder: `dsc.run_folder.RunFolder`, takes metrics, states and the best weights.
        max_epochs: whole number.
        print_every: steps between reports.
        max_steps: ends training (and the epoch) after this many steps, or None.
        save_every: seconds between states; there is one at each epoch's end too.

    Returns:
        The best score, or None if there is none.

    Raises:
        RunError: the folder cannot be written, or training has left the numbers.
        Interrupted: a signal; the state is saved.
    """
    with task.distribution.scope():
        task.optimizer.build(task.model.trainable_variables)
    state, path = resume(task, folder, max_steps)
    if state.is_finished(max_epochs, max_steps):
        print(f"The run in {folder.path} is finished.", flush=True)
        return state.best_score
    saver = Saver(task, folder, state, path, save_every)
    events = Events(folder.path, state.step, folder.hparams)
    train_step = make_train_step(task)
    with (
        saver.guarding(),
        task.distribution.watching(),
        saver.votes.holding_signals(),
    ):
        while not state.is_finished(max_epochs, max_steps):
            report = Report(task, state, max_epochs, print_every)
            while state.position < task.n_batches and state.step != max_steps:
                # A signal has to wait until the step is counted, logged and saved.
                with delayed():
                    _train_batch(train_step, task, state)
                    if record := report.after_step():
                        folder.log(record)
                        events.log(state.step, "train", report.shown(record))
                    saver.save_if_due()
            report.close()
            with delayed():
                saver.save()
            # Changes nothing: a signal ends it at once.
            scores, score = task.distribution.from_chief(
                lambda: interruption.undelayed(task.evaluate)
            )
            with delayed():
                _end_epoch(task, folder, state, scores, score, report.elapsed())
                events.log(state.step, "epoch", scores)
                saver.save()
    reason = state.ended
    if reason is None and state.step == max_steps:
        reason = f"--max_steps {max_steps} reached"
    if reason:
        print(f"Training ends: {reason}.", flush=True)
    return state.best_score


def _train_batch(train_step, task, state):
    batch = task.batch(state.epochs, state.position)
    step = noise.number(state.step)
    state.recurrent, metrics = train_step(step, batch, state.recurrent)
    state.means.add(state.step, metrics)
    state.position += 1
    state.step += 1


def _end_epoch(task, folder, state, scores, score, elapsed):
    rate = task.learning_rate
    state.epochs += 1
    numbers = {name: value for name, value in scores.items() if np.ndim(value) == 0}
    print(epoch_done(state.epochs, elapsed, numbers, rate), flush=True)
    record = {"epoch": state.epochs, "step": state.step, "learning_rate": rate}
    folder.log({**record, **scores})
    state.ended = task.end_epoch(score)
    is_number = not np.isnan(score).any()
    if is_number and (state.best_score is None or score > state.best_score):
        state.best_score = score
        state.best_weights = folder.checkpoints.save_weights(
            task.model, state.epochs, state.step
        )
    state.cut_short = state.position < task.n_batches
    state.position = 0
    state.recurrent = task.initial_state()
    state.means = Means()
