"""What programs that do many runs have in common: flags, and what they say."""

import os
import time

from dsc.cli.errors import RunError
from dsc.cli.flags import Group
from sweeping.execution import OUTPUT

group = Group("runs")
FLAGS = group.defined  # the scripts add theirs
group.integer(
    "at_once",
    None,
    "largest number of runs at once (default: as many as there are processors for)",
    1,
)
group.integer("retries", 2, "how often a run that fails is started again", 0)


def at_once(threads):
    """How many runs of so many threads this machine does at once."""
    cores = os.cpu_count() or 1
    return FLAGS.at_once or max(1, cores // threads)


class Progress:
    """Says what begins and ends; keeps how the runs ended.

    Args:
        n: number of runs.

    Attributes:
        outcomes: dict from a run's name to its `sweep_execution.Outcome`.
    """

    def __init__(self, n):
        self.n = n
        self.begun = {}
        self.outcomes = {}

    def started(self, run):
        self.begun.setdefault(run.name, time.monotonic())
        print(f"{run.name} begins.", flush=True)

    def ended(self, run, outcome):
        self.outcomes[run.name] = outcome
        seconds = time.monotonic() - self.begun.get(run.name, time.monotonic())
        tries = f", {outcome.tries} tries" if outcome.tries > 1 else ""
        how, said = "FAILED", outcome.error
        if outcome.scores:
            scores = outcome.scores.items()
            how, said = "done", ", ".join(f"{name} = {x:.6f}" for name, x in scores)
        print(
            f"[{len(self.outcomes)}/{self.n}] {run.name} {how} "
            f"({seconds:.0f} s{tries}): {said}",
            flush=True,
        )

    def check(self):
        """Ends a program whose runs did not all succeed.

        Raises:
            RunError: some failed; says which, and what to do.
        """
        failed = [name for name, outcome in self.outcomes.items() if outcome.error]
        if failed:
            raise RunError(
                f"{len(failed)} of {self.n} runs failed ({', '.join(failed)}); read "
                f"{OUTPUT} in their folders, and repeat the same command to try them "
                "again."
            )
