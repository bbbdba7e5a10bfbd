"""Flags and console output that `sweep.py` and `reproduce.py` share."""

import os
import time

from dsc.cli.errors import RunError
from dsc.cli.flags import Group
from sweeping.execution import OUTPUT

group = Group("runs")
FLAGS = group.defined  # the scripts add theirs
group.integer(
    "at_once", None, "largest number of runs at once (default: as the cores allow)", 1
)
group.integer("retries", 2, "how often a failed run is started again", 0)


def at_once(threads):
    """The number of runs with this many threads that this machine does at once."""
    return FLAGS.at_once or max(1, (os.cpu_count() or 1) // threads)


class Progress:
    """Prints the start and the end of each of `n` runs.

    `outcomes` is a dict from a run's name to its `Outcome`.
    """

    def __init__(self, n):
        self.n = n
        self.start_times = {}
        self.outcomes = {}

    def started(self, run):
        self.start_times.setdefault(run.name, time.monotonic())
        print(f"{run.name} begins.", flush=True)

    def ended(self, run, outcome):
        self.outcomes[run.name] = outcome
        seconds = time.monotonic() - self.start_times.get(run.name, time.monotonic())
        tries = f", {outcome.tries} tries" if outcome.tries > 1 else ""
        how, text = "FAILED", outcome.error
        if outcome.scores:
            scores = outcome.scores.items()
            how, text = "done", ", ".join(f"{name} = {x:.6f}" for name, x in scores)
        print(
            f"[{len(self.outcomes)}/{self.n}] {run.name} {how} "
            f"({seconds:.0f} s{tries}): {text}",
            flush=True,
        )

    def check(self):
        """Raises a `RunError` that lists the runs that failed, if there are any."""
        failed = [name for name, outcome in self.outcomes.items() if outcome.error]
        if failed:
            raise RunError(
                f"{len(failed)} of {self.n} runs failed ({', '.join(failed)}); read "
                f"{OUTPUT} in their folders, then repeat the same command to retry "
                "them."
            )
