"""The training loop of both tasks: step, clipping, reports, the best weights.

A task (`Task`) says what is learned; this file says how. Under TensorFlow.
"""

import abc
import subprocess
import sys
import time

import numpy as np
import tensorflow as tf

from dsc.run_folder import RunFolder


class Task(abc.ABC):
    """What `fit` needs to know of a task.

    Attributes:
        model: built `keras.Model`.
        optimizer: `keras.optimizers.Optimizer`.
        n_batches: batches per epoch.
        max_grad_norm: global norm at which gradients are clipped, or None.
        dense_norm: see `dsc.recipes.Recipe`.
        unit: what a batch has `batch_units` of, for the speed in the reports.
        batch_units: how many words or sequences one batch has.
        jit_compile: whether XLA compiles the training step.
    """

    jit_compile = False
    max_grad_norm = None
    dense_norm = True

    @abc.abstractmethod
    def batch(self, epoch, i):
        """Batch i of an epoch, numbered from 0: a tuple of arrays."""

    def initial_state(self):
        """The recurrent state at the start of an epoch."""
        return ()

    @abc.abstractmethod
    def loss(self, step, batch, state):
        """`(loss, state, metrics)` of a batch; traced. All randomness is in `step`."""

    @abc.abstractmethod
    def describe(self, metrics):
        """A report's text from the mean metrics of some steps (NumPy)."""

    @abc.abstractmethod
    def evaluate(self):
        """`(scores, score)` after an epoch.

        `scores` is a dict to log and print; the weights of the epoch with the highest
        `score` are kept.
        """

    @abc.abstractmethod
    def end_epoch(self, score):
        """Adapts the schedule to a score; returns why training should end, or None."""


def limit_gpu_memory(portion):
    """Lets this process use at most a share of each GPU's memory; no GPU, no effect.

    Args:
        portion: between 0 and 1; 1 sets no limit.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if portion == 1.0 or not gpus:
        return
    query = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    totals = subprocess.run(query, capture_output=True, text=True, check=True).stdout
    for gpu, total in zip(gpus, totals.split(), strict=False):  # MiB each
        limit = tf.config.LogicalDeviceConfiguration(
            memory_limit=portion * float(total)
        )
        tf.config.set_logical_device_configuration(gpu, [limit])


def make_train_step(task):
    """The compiled training step: `(step, batch, state) -> (state, metrics)`."""
    variables = task.model.trainable_variables

    @tf.function(jit_compile=task.jit_compile)
    def train_step(step, batch, state):
        with tf.GradientTape() as tape:
            loss, state, metrics = task.loss(step, batch, state)
        gradients = tape.gradient(loss, variables)
        gradients, norm = clip(gradients, task.max_grad_norm, task.dense_norm)
        task.optimizer.apply(gradients, variables)
        return state, {"loss": loss, "grad_norm": norm, **metrics}

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


def train_or_load(task, saved, flags, vocabulary=None):
    """Gives the task's model the weights that the flags ask for.

    Args:
        task: `Task`.
        saved: `RunFolder` of --load_model, or None.
        flags: `absl.flags.FLAGS` with those of `dsc.flags`.
        vocabulary: words to keep with a new run, or None.

    Raises:
        RunError: a run cannot be read or written.
    """
    if saved:
        saved.load_weights(task.model)
    elif flags.max_epochs:
        folder = RunFolder.create(
            flags.train_dir, flags.flag_values_dict(), flags.restart
        )
        if vocabulary is not None:
            folder.write_vocabulary(vocabulary)
        fit(task, folder, flags.max_epochs, flags.print_every, flags.max_steps)
        folder.load_weights(task.model)
        print(f"The best weights on validation are in {flags.train_dir}.")
    else:
        print("These are the initial weights: --max_epochs 0 and no --load_model.")


def fit(task, folder, max_epochs, print_every, max_steps=None):
    """Trains, evaluating after each epoch and keeping the best weights.

    Args:
        task: `Task`.
        folder: `dsc.run_folder.RunFolder`, takes the metrics and the best weights.
        max_epochs: whole number.
        print_every: steps between reports.
        max_steps: ends training (and the epoch) after this many steps, or None.

    Returns:
        The best score, or None if no epoch was run.
    """
    train_step = make_train_step(task)
    best_score = None
    step = 0
    for epoch in range(max_epochs):
        state = task.initial_state()
        report = Report(task, epoch, max_epochs, print_every)
        for i in range(task.n_batches):
            if step == max_steps:
                break
            state, metrics = train_step(
                tf.constant(step, tf.int64), task.batch(epoch, i), state
            )
            step += 1
            record = report.add(i + 1, step, metrics)
            if record:
                folder.log(record)
        report.close()
        scores, score = task.evaluate()
        rate = float(task.optimizer.learning_rate)
        print(
            f"epoch {epoch + 1} done in {report.elapsed()}: "
            + ", ".join(f"{name} = {value:.6f}" for name, value in scores.items())
            + f", learning rate {rate:g}",
            flush=True,
        )
        folder.log({"epoch": epoch + 1, "step": step, "learning_rate": rate, **scores})
        reason = task.end_epoch(score)
        if best_score is None or score > best_score:
            best_score = score
            folder.save_weights(task.model)
        if step == max_steps:
            reason = f"--max_steps {max_steps} reached"
        if reason:
            print(f"Training ends: {reason}.", flush=True)
            break
    return best_score


class Report:
    """What is printed during an epoch: plain lines, and a bar on a terminal."""

    def __init__(self, task, epoch, max_epochs, print_every):
        self.task = task
        self.epoch = epoch
        self.max_epochs = max_epochs
        self.print_every = print_every
        self.pending = []
        self.start = self.lap = time.monotonic()
        self.bar = sys.stdout.isatty()

    def add(self, done, step, metrics):
        """Takes in a batch; prints and returns a record every `print_every` batches.

        Args:
            done: number of batches of this epoch so far.
            step: number of training steps so far.
            metrics: of the last step, tensors.
        """
        self.pending.append(metrics)
        if self.bar:
            self._draw_bar(done)
        if done % self.print_every:
            return None
        now = time.monotonic()
        n = len(self.pending)
        # The only place where values of the steps are read back.
        metrics = {
            name: np.mean([m[name] for m in self.pending], axis=0)
            for name in self.pending[0]
        }
        speed = n * self.task.batch_units / (now - self.lap)
        self.pending, self.lap = [], now
        self._clear_bar()
        print(
            f"epoch {self.epoch + 1}/{self.max_epochs} "
            f"step {done}/{self.task.n_batches}: {self.task.describe(metrics)}, "
            f"gradient norm {metrics['grad_norm']:.3f}, "
            f"{speed:.0f} {self.task.unit}/s, {self._left(done)} left in this epoch",
            flush=True,
        )
        return {
            "step": step,
            "epoch": self.epoch + 1,
            f"{self.task.unit}_per_s": speed,
            **{name: np.asarray(value).tolist() for name, value in metrics.items()},
        }

    def close(self):
        self._clear_bar()

    def elapsed(self):
        return _clock(time.monotonic() - self.start)

    def _left(self, done):
        spent = time.monotonic() - self.start
        return _clock(spent / done * (self.task.n_batches - done))

    def _draw_bar(self, done):
        share = done / self.task.n_batches
        filled = int(30 * share)
        print(
            f"\r[{'=' * filled}{' ' * (30 - filled)}] {share:4.0%} of epoch "
            f"{self.epoch + 1}, {self._left(done)} left",
            end="\x1b[K",
            flush=True,
        )

    def _clear_bar(self):
        if self.bar:
            print("\r\x1b[K", end="")


def _clock(seconds):
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
