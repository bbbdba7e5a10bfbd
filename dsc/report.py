"""What is printed during an epoch: plain lines, and a bar on a terminal."""

import time

import numpy as np

from dsc.progress import Bar, clock


class Report:
    """The reports of one epoch.

    Args:
        task: `dsc.training.Task`.
        state: `dsc.state.State`, the training's; its means are those reported.
        max_epochs: number of epochs.
        print_every: batches between reports; an epoch that has fewer has one, at
            its end.
    """

    def __init__(self, task, state, max_epochs, print_every):
        self.task = task
        self.state = state
        self.max_epochs = max_epochs
        self.print_every = min(print_every, task.n_batches)
        self.start = self.lap = time.monotonic()
        self.first = self.lap_first = state.position
        self.speed = 0.0  # units per second since the report before
        self.bar = Bar()

    def after_step(self):
        """Prints and returns a record where one is due, else None.

        A record repeats exactly: there are no times in it.
        """
        done = self.state.position
        share = done / self.task.n_batches
        self.bar.draw(
            share, f"of epoch {self.state.epochs + 1}, {self._left(done)} left"
        )
        if done % self.print_every:
            return None
        means = self.task.record(self.state.means.take())
        now = time.monotonic()
        units = (done - self.lap_first) * self.task.batch_units
        self.speed = units / max(now - self.lap, 1e-9)
        self.lap, self.lap_first = now, done
        self.bar.clear()
        print(
            f"epoch {self.state.epochs + 1}/{self.max_epochs} "
            f"step {done}/{self.task.n_batches}: {self.task.describe(means)}, "
            f"gradient norm {means['grad_norm']:.3f}, "
            f"{self.speed:.0f} {self.task.unit}/s, "
            f"{self._left(done)} left in this epoch",
            flush=True,
        )
        return {
            "step": self.state.step,
            "epoch": self.state.epochs + 1,
            "learning_rate": self.task.learning_rate,
            **{name: np.asarray(value).tolist() for name, value in means.items()},
        }

    def close(self):
        """Leaves the terminal without a bar."""
        self.bar.clear()

    def elapsed(self):
        """The time since the epoch began, or was gone on with."""
        return clock(time.monotonic() - self.start)

    def _left(self, done):
        spent = time.monotonic() - self.start
        return clock(spent / (done - self.first) * (self.task.n_batches - done))


def epoch_done(epoch, elapsed, scores, rate):
    """What is printed after an epoch: its scores, and the learning rate that it had."""
    told = ", ".join(f"{name} = {value:.6f}" for name, value in scores.items())
    return f"epoch {epoch} done in {elapsed}: {told}, learning rate {rate:g}"
