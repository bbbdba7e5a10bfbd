"""What is printed during an epoch: plain lines, and a bar on a terminal."""

import time

import numpy as np

from dsc.cli.progress import clock, make_bar

COLUMNS = 100  # of a line
# Without a bar an extra first line is printed after so many seconds, unless the next
# line is due within as many.
SOON = 5.0
LOOK = 0.5  # seconds between two updates of the bar, each of which reads the metrics


class Report:
    """Prints the progress of a training and makes its records.

    There is a report every `print_every` batches; a shorter epoch has one, at its end.
    """

    def __init__(self, task, state, max_epochs, print_every):
        self.task = task
        self.state = state
        self.max_epochs = max_epochs
        self.print_every = min(print_every, task.n_batches)
        self.speed = 0.0  # units per second since the last report
        self.bar = make_bar()
        self.bar_task = self.bar.add_task("", total=task.n_batches)
        self.drawn = -LOOK
        self.begun = time.monotonic()
        self.needs_line = self.bar.disable
        self.is_traced = False  # the first step traces the model, which takes seconds

    def begin_epoch(self):
        """Starts the epoch's clock."""
        self.start = time.monotonic()
        self.timed = self.lap = self.start, self.state.position

    def after_step(self):
        """Prints and returns a record if one is due, else None.

        Records contain no times, so a repeated training gives the same ones.
        """
        now, done = time.monotonic(), self.state.position
        if not self.is_traced:
            self.is_traced = True
            self.timed = self.lap = now, done
        if not self.bar.disable and now - self.drawn >= LOOK:
            self._draw(now, done)
        if to_come := -done % self.print_every:
            waited, to_wait = now - self.begun, self._seconds(now, to_come)
            if self.needs_line and min(waited, to_wait) > SOON:
                self._print(now, self.state.means.so_far())
            return None
        means = self._print(now, self.state.means.take())
        self.lap = now, done
        return {
            "step": self.state.step,
            "epoch": self.state.epochs + 1,
            "learning_rate": self.task.learning_rate,
            **{name: np.asarray(value).tolist() for name, value in means.items()},
        }

    def end_epoch(self, scores):
        """Prints an epoch's scores and learning rate."""
        seconds = time.monotonic() - self.start
        print(epoch_line(self.task, self.state, scores, seconds), flush=True)

    def _draw(self, now, done):
        self.drawn = now
        means = self.task.record(self.state.means.so_far())
        # Loss and score; there is no room for more.
        metrics = ", ".join(self.task.describe(means).split(", ")[:2])
        text = f"of epoch {self.state.epochs + 1}, {self._left(now)}, {metrics}"
        self.bar.update(self.bar_task, completed=done, description=text, refresh=True)

    def _print(self, now, means):
        """Prints a line; returns the metrics to log."""
        means, done = self.task.record(means), self.state.position
        lap, first = self.lap
        self.speed = (done - first) * self.task.batch_units / max(now - lap, 1e-9)
        self.needs_line = False
        line = (
            f"epoch {self.state.epochs + 1}/{self.max_epochs} "
            f"step {done}/{self.task.n_batches}: {self.task.describe(means)}, "
            f"{self.speed:.0f} {self.task.unit}/s, {self._left(now)}"
        )
        print(line[:COLUMNS], flush=True)
        return means

    def _seconds(self, now, n_steps):
        """Estimated seconds for `n_steps`, from the epoch's steps so far."""
        start, first = self.timed
        return (now - start) / max(self.state.position - first, 1) * n_steps

    def _left(self, now):
        to_come = self.task.n_batches - self.state.position
        is_known = self.state.position > self.timed[1]
        return f"{clock(self._seconds(now, to_come)) if is_known else '?'} left"


def epoch_line(task, state, scores, seconds):
    """The line about the epoch that has just ended."""
    told = [f"{k} = {v:.6f}, " for k, v in scores.items() if np.ndim(v) == 0]
    return (
        f"epoch {state.epochs} done in {clock(seconds)}: {''.join(told)}"
        f"learning rate {task.learning_rate:g}"
    )
