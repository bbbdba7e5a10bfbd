"""What is printed during an epoch: plain lines, and a bar on a terminal."""

import time

import numpy as np

from dsc.progress import Bar, clock

COLUMNS = 100  # of a line
SOON = 5.0  # seconds until a first line, where there is no bar and the next one is far
LOOK = 0.5  # seconds between two looks at the metrics for the bar


class Report:
    """The reports of a training.

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
        self.speed = 0.0  # units per second since the report before
        self.bar = Bar()
        self.is_awaited = not self.bar.is_shown  # nothing was printed yet
        self.is_traced = False  # whether the first step is done, which takes seconds
        self.begun = time.monotonic()
        self.looked, self.seen = -LOOK, ""  # when the bar looked, and at what

    def begin_epoch(self):
        """Starts the epoch's clock."""
        self.start = time.monotonic()
        self.timed = self.lap = self.start, self.state.position

    def after_step(self):
        """Prints and returns a record where one is due, else None.

        A record repeats exactly: there are no times in it.
        """
        now, done = time.monotonic(), self.state.position
        if not self.is_traced:
            self.timed = self.lap = now, done
            self.is_traced = True
        self._draw(now, done)
        to_come = -done % self.print_every
        if to_come:
            waited, to_wait = now - self.begun, self._seconds(now, done) * to_come
            if self.is_awaited and min(waited, to_wait) > SOON:
                self._print(now, done, self.state.means.so_far())
            return None
        means = self._print(now, done, self.state.means.take())
        self.lap = now, done
        return {
            "step": self.state.step,
            "epoch": self.state.epochs + 1,
            "learning_rate": self.task.learning_rate,
            **{name: np.asarray(value).tolist() for name, value in means.items()},
        }

    def shown(self, record):
        """What TensorBoard shows of a record, with the speed, which does not repeat."""
        values = {k: v for k, v in record.items() if k not in ("step", "epoch")}
        if "actions" in values:
            values["skip_length"] = values.pop("actions")[::-1]  # the shortest first
        if self.speed:
            values[f"{self.task.unit}_per_second"] = self.speed
        return values

    def close(self):
        """Leaves the terminal without a bar."""
        self.bar.clear()

    def elapsed(self):
        """The time since the epoch began, or was gone on with."""
        return clock(time.monotonic() - self.start)

    def _draw(self, now, done):
        if self.bar.is_shown and now - self.looked >= LOOK:
            means = self.task.record(self.state.means.so_far())
            # The loss, and how well it does; more has no room.
            self.seen = ", ".join(self.task.describe(means).split(", ")[:2])
            self.looked = now
        text = [f"of epoch {self.state.epochs + 1}", *self._left(now, done), self.seen]
        self.bar.draw(done / self.task.n_batches, ", ".join(text))

    def _print(self, now, done, means):
        """Prints a line; returns what of the means is to be logged."""
        self.is_awaited = False
        means = self.task.record(means)
        (lap, first), told = self.lap, [self.task.describe(means)]
        if done > first:
            units = (done - first) * self.task.batch_units
            self.speed = units / max(now - lap, 1e-9)
            told.append(f"{self.speed:.0f} {self.task.unit}/s")
        line = (
            f"epoch {self.state.epochs + 1}/{self.max_epochs} "
            f"step {done}/{self.task.n_batches}: "
            f"{', '.join([*told, *self._left(now, done)])}"
        )
        self.bar.clear()
        print(line[:COLUMNS], flush=True)
        return means

    def _seconds(self, now, done):
        """Seconds per step of the epoch, without the first, or 0 after that."""
        start, first = self.timed
        return (now - start) / max(done - first, 1)

    def _left(self, now, done):
        """The time left in the epoch, as a list: empty where there is no telling."""
        if done == self.timed[1]:
            return []
        seconds = self._seconds(now, done) * (self.task.n_batches - done)
        return [f"{clock(seconds)} left"]


def epoch_done(epoch, elapsed, scores, rate):
    """What is printed after an epoch: its scores, and the learning rate that it had."""
    told = ", ".join(f"{name} = {value:.6f}" for name, value in scores.items())
    return f"epoch {epoch} done in {elapsed}: {told}, learning rate {rate:g}"
