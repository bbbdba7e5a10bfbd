"""What `sweep.py` and `reproduce.py` share: flags, console output, ways to run."""

import os
import time

from dsc.cli.errors import RunError
from dsc.cli.flags import Group
from sweeping import execution

group = Group("runs")
FLAGS = group.defined  # the scripts add theirs
group.integer(
    "at_once", None, "largest number of runs at once (default: as the cores allow)", 1
)
group.integer("retries", 2, "how often a failed run is started again", 0)
group.enum(
    "engine",
    "processes",
    ("processes", "jax", "ray"),
    "how the runs run: as processes of this machine; with scripts/train_jax.py, all "
    "models of one shape in one program; on a Ray cluster (only sweep.py)",
)


def run_all(script, threads):
    """The function that runs jobs on this machine, of `(jobs, started, ended)`.

    Args:
        script: path of the training script, from the project's root.
        threads: of TensorFlow within an operation of a run.

    Raises:
        RunError: the engine cannot run this script.
    """
    if FLAGS.engine == "processes":
        at_once = FLAGS.at_once or max(1, (os.cpu_count() or 1) // threads)
        return lambda jobs, *report: execution.run_all(jobs, at_once, *report)
    if FLAGS.engine == "ray":
        raise RunError("--engine ray is for sweep.py; choose processes or jax.")
    if script != "scripts/train_jax.py":
        raise RunError(
            f"--engine jax trains language models under JAX, with scripts/train_jax.py "
            f"and not with {script}: give that script, or leave --engine out."
        )
    from sweeping import many

    return lambda jobs, *report: many.run_all(jobs, FLAGS.at_once, *report)


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
                f"{execution.OUTPUT} in their folders, then repeat the same command to "
                "retry them."
            )
