"""The base class of the tasks that `dsc.training.loop.fit` trains."""

import abc
import functools

from dsc import noise
from dsc.distributed.base import Distribution
from dsc.runs.tensorboard import Events
from dsc.training.step import make_train_step


class Task(abc.ABC):
    """A model with its data, loss, evaluation and learning-rate schedule.

    Attributes:
        model: built `keras.Model`.
        optimizer: `keras.optimizers.Optimizer`.
        n_batches: batches per epoch.
        max_grad_norm: global norm at which gradients are clipped, or None.
        dense_norm: see `dsc.recipes.Recipe`.
        schedule_fields: names of the attributes in which `end_epoch` keeps scores:
            numbers, tuples of numbers, or None.
        unit: what the speed in the reports counts, such as `words`.
        batch_units: how many of them a batch has.
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
        """The optimizer's learning rate, a float."""
        return float(self.optimizer.learning_rate.numpy())

    @functools.cached_property
    def _train_step(self):
        return make_train_step(self)

    def train(self, state):
        """Takes the next step of a `dsc.runs.train_state.State`; returns the metrics.

        Of the state it changes `recurrent` only.
        """
        batch = self.batch(state.epochs, state.position)
        step = noise.number(state.step)
        state.recurrent, metrics = self._train_step(step, batch, state.recurrent)
        return metrics

    def open_log(self, folder):
        """A function that logs a record for TensorBoard; see `Events`."""
        return Events(folder.path, folder.records, folder.hparams).log

    @abc.abstractmethod
    def batch(self, epoch, i):
        """Batch i of an epoch, counted from 0: a tuple of arrays."""

    def initial_state(self):
        """The recurrent state at the start of an epoch."""
        return ()

    @abc.abstractmethod
    def loss(self, step, batch, state):
        """`(loss, state, metrics)` of a replica's rows; traced.

        Loss and metrics are means over the rows. Random numbers depend on `step` only.
        """

    def record(self, metrics):
        """The metrics to log, a dict, from the means of some steps.

        `actions`, if any, is `[n_actions]`: the share of each, oldest state first.
        """
        return metrics

    @abc.abstractmethod
    def describe(self, record):
        """The text of a report from what `record` returned: loss, score, others."""

    @abc.abstractmethod
    def evaluate(self):
        """`(scores, score)` after an epoch.

        `scores` is a dict to log, its numbers also to print; the weights of the epoch
        with the highest `score` are kept.
        """

    def report(self, score=None):
        """Prints the final scores and returns them, a dict; needed by `run_task` only.

        Args:
            score: what `evaluate` returned for the model's weights, if this process
                trained them; they are then not evaluated again.
        """
        raise NotImplementedError

    @abc.abstractmethod
    def end_epoch(self, score):
        """Adapts the schedule to a score; returns why training should end, or None."""

    def schedule_state(self):
        """The `schedule_fields`, a dict."""
        return {name: getattr(self, name) for name in self.schedule_fields}

    def restore_schedule(self, state):
        """Sets the `schedule_fields` to what `schedule_state` returned."""
        for name, value in state.items():
            setattr(self, name, value)
