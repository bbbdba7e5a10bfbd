"""Kills trainings at random moments: nothing may be lost.

    python tests/stress/kill_and_resume.py --kills 25

Each task is trained in one piece, and then again while it is killed (SIGKILL) at random
moments, some of them in the middle of a save. The last state (except for its seconds),
the best weights, the metrics and the last printed lines must be equal. Exits with 0
only if all this holds.
"""

import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this clone's code

import numpy as np

from dsc.cli import program
from dsc.cli.errors import RunError
from dsc.cli.flags import Group
from dsc.runs.checkpoints import Checkpoints
from tests.stress import programs

SIZES = ("--rnn_size=8", "--agent_units=5", "--print_every=7", "--train_dir=run")
TASKS = {
    "language model": (
        programs.LANGUAGE,
        *("--rnn_layers=1", "--batch_size=4", "--num_unroll_steps=6"),
        *("--max_epochs=4", "--data_dir={}/corpus"),
    ),
    "number prediction": (
        programs.NUMBERS,
        *("--n_actions=3", "--batch_size=8", "--max_epochs=4", "--data_dir={}/digits"),
    ),
}
AT_THE_BEGINNING = 1 / 6  # share of the kills that may come before the first step
IN_A_SAVE = 1 / 2  # share of the kills that wait for a save to begin


class Failure(RunError):
    """Something was lost."""


def command(task, corpora, save_every):
    """Script and arguments of a training."""
    script, *arguments = TASKS[task]
    arguments = [argument.format(corpora) for argument in arguments]
    return script, *SIZES, *arguments, f"--save_every={save_every}"


def outcome(folder, result):
    """What must be equal: the lines at the end, the metrics, all arrays."""
    if result.code != 0:
        raise Failure(f"{folder}: exit code {result.code}: {result.err}")
    checkpoints = Checkpoints(folder / "run")
    _, arrays = next(checkpoints.states())
    del arrays["seconds"]
    return {
        "printed": [line for line in result.out if line.startswith(("valid", "test"))],
        "metrics": (folder / "run" / "metrics.jsonl").read_bytes(),
        "best weights": checkpoints.best_weights().read_bytes(),
        **arrays,
    }


def compare(expected, found, what):
    """Raises `Failure` if two outcomes differ in anything."""
    try:
        np.testing.assert_equal(found, expected)
    except AssertionError as error:
        raise Failure(f"{what}: not equal to the run in one piece: {error}") from None


def kill(folder, process, rng):
    """Kills a training at a random moment.

    Args:
        folder: where it runs.
        process: the training.
        rng: `random.Random`.

    Returns:
        `(whether it was still alive, whether it was in a save)`.
    """
    last = folder / "run" / "last"
    before = set(last.glob("state-*"))

    def wait(seconds, event=lambda: False):
        deadline = time.monotonic() + seconds
        while process.is_alive() and time.monotonic() < deadline and not event():
            time.sleep(0.0002)

    if rng.random() < AT_THE_BEGINNING:
        wait(rng.uniform(0.0, 3.0))
    else:
        wait(60.0, lambda: set(last.glob("state-*")) - before)
        wait(rng.uniform(0.0, 0.5))
    if rng.random() < IN_A_SAVE:
        wait(1.0, lambda: any(last.glob("aside.*")))
    process.kill()
    process.join()
    return process.exitcode == -9, any(last.glob("aside.*"))


def train_under_kills(task, folder, corpora, kills, rng):
    """Trains once in one piece, then under kills until there were enough."""
    whole = folder / "whole"
    result = programs.run(whole, *command(task, corpora, 60))
    expected = outcome(whole, result)
    n_kills = n_saves = n_runs = 0
    while n_kills < kills:
        n_runs += 1
        again = folder / f"killed{n_runs}"
        script, *arguments = command(task, corpora, 0)
        while True:
            process = programs.start(again, script, *arguments)
            if n_kills < kills:
                killed, in_a_save = kill(again, process, rng)
                n_kills += killed
                n_saves += killed and in_a_save
                if killed:
                    continue
            compare(
                expected,
                outcome(again, programs.finish(process, again)),
                f"{task}, {n_kills} kills",
            )
            break
        print(f"{task}: {n_kills} kills, {n_saves} within a save: equal.", flush=True)
    if kills >= 10 and not n_saves:
        raise Failure("no kill fell into a save")


def main(values):
    rng = random.Random(values.seed)
    with tempfile.TemporaryDirectory() as name:
        corpora = Path(name)
        programs.write_data(corpora, (3000, 200, 200), (1000, 200, 200))
        for task in values.task or TASKS:
            folder = corpora / task.replace(" ", "_")
            folder.mkdir()
            train_under_kills(task, folder, corpora, values.kills, rng)
    print("Nothing was lost.")


if __name__ == "__main__":
    group = Group("flags")
    FLAGS = group.defined
    group.integer("kills", 25, "kills of each task", 0)
    group.integer("seed", 1, "of the moments", 0)
    group.multi_enum("task", None, list(TASKS), "which tasks; both if not given")
    program.parse(FLAGS, __doc__)
    program.main(FLAGS, lambda: main(FLAGS))
