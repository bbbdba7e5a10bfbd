"""Trains for thousands of steps: memory and open files must not grow.

    python tests/stress/memory.py

Exits with 0 only if the resident memory grows by at most 20 MB after 300 steps, and no
more files are open. Reports are rare and states are saved all the time.
"""

import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this clone's code

from dsc.cli import startup

with startup.backend("tensorflow"):
    from language_modeling.task import LanguageModeling

from dsc.cli import program
from dsc.cli.flags import Group
from dsc.distributed.base import Distribution
from dsc.runs.folder import RunFolder
from dsc.training.loop import fit
from language_modeling import corpora, training
from language_modeling import flags as language_flags
from language_modeling.agreement import grammar

SIZES = ("--rnn_size=16", "--rnn_layers=1", "--agent_units=10")
WINDOWS = ("--batch_size=4", "--num_unroll_steps=10")
FIRST = 300  # steps after which nothing more should be allocated
LIMIT = 20  # MB


class Measured(LanguageModeling):
    """Measures this process after some of its steps."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.n_batches_seen = 0
        self.measured = {}

    def batch(self, epoch, i):
        self.n_batches_seen += 1
        if self.n_batches_seen % FIRST == 0:
            megabytes, n_files = resident_megabytes(), len(os.listdir("/proc/self/fd"))
            self.measured[self.n_batches_seen] = megabytes, n_files
            print(
                f"step {self.n_batches_seen}: {megabytes:.1f} MB, {n_files} open files",
                flush=True,
            )
        return super().batch(epoch, i)


def resident_megabytes():
    """The memory of this process that is in RAM."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def measure(folder, n_steps):
    """Trains a small model; returns what was measured, by step."""
    grammar.write(folder / "corpus", n_train=20_000, n_valid=500, n_test=500)
    corpus = corpora.read_corpus(corpora.find_splits(folder / "corpus"))
    values = language_flags.FLAGS
    values(["memory", *SIZES, *WINDOWS])
    task = training.make_task(Measured, values, corpus, Distribution())
    run = RunFolder.begin(folder / "run", {})
    fit(task, run, n_steps, 10 * n_steps, max_steps=n_steps, save_every=0.2)
    return task.measured


def main(n_steps):
    with tempfile.TemporaryDirectory() as folder:
        measured = measure(Path(folder), n_steps)
    (before, files_before), *_, (after, files_after) = measured.values()
    growth = f"{after - before:+.1f} MB, {files_after - files_before:+} open files"
    if after - before > LIMIT or files_after > files_before:
        sys.exit(f"Grown between step {FIRST} and step {max(measured)}: {growth}.")
    print(f"Flat between step {FIRST} and step {max(measured)}: {growth}.")


if __name__ == "__main__":
    group = Group("flags")
    group.integer("steps", 3000, "steps to train", 2 * FIRST, 10**6)
    FLAGS = group.defined
    program.parse(FLAGS, __doc__)
    program.main(FLAGS, lambda: main(FLAGS.steps))
