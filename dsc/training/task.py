"""What the training loop needs to know of a task."""

import abc
import functools

from dsc import noise
from dsc.distributed.base import Distribution
from dsc.runs.tensorboard import Events
from dsc.training.step import make_train_step


class Task(abc.ABC):
    """What `fit` needs to know of a task.

    Attributes:
        model: built `keras.Model`.
        optimizer: `keras.optimizers.Optimizer`.
        n_batches: batches per epoch.
        max_grad_norm: global norm at which gradients are clipped, or None.
        dense_norm: see `dsc.recipes.Recipe`.
        schedule_fields: names of the attributes in which `end_epoch` keeps scores:
            numbers, tuples of them, or None.
        unit: what a batch has `batch_units` of, for the speed in the reports.
        batch_units: how many words or sequences one batch has.
        jit_compile: whether XLA compiles the training step.
        distribution: `dsc.distributed.base.Distribution` in whose scope the model and
            the optimizer were created.
    """

    distribution = Distribution()
    jit_compile = False
    max_grad_norm = None
    dense_norm = True
    schedule_fields = ()

    @property
    def learning_rate(self):
        """The optimizer's, a float, also where each replica has one."""
        return float(self.optimizer.learning_rate.numpy())

    @functools.cached_property
    def _train_step(self):
        return make_train_step(self)

    def train(self, state):
        """Takes the next step of a `dsc.runs.train_state.State`; returns the metrics.

        Changes the state's recurrent state and nothing else of it.
        """
        batch = self.batch(state.epochs, state.position)
        step = noise.number(state.step)
        state.recurrent, metrics = self._train_step(step, batch, state.recurrent)
        return metrics

    def open_log(self, folder):
        """A function that logs a record where TensorBoard shows it; see `Events`."""
        return Events(folder.path, folder.records, folder.hparams).log

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

    def report(self, score=None):
        """Prints the final scores and returns them, a dict; `run_task` alone needs it.

        Args:
            score: that `evaluate` gave for the model's weights, which are then not
                evaluated again; None if this process has not trained them.
        """
        raise NotImplementedError

    @abc.abstractmethod
    def end_epoch(self, score):
        """Adapts the schedule to a score; returns why training should end, or None."""

    def schedule_state(self):
        """What `end_epoch` remembers, by name; see `schedule_fields`."""
        return {name: getattr(self, name) for name in self.schedule_fields}

    def restore_schedule(self, state):
        """Takes back what `schedule_state` gave."""
        for name, value in state.items():
            setattr(self, name, value)
