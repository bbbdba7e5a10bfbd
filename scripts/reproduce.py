"""Makes a table of the study: does dynamic skipping pay, and by how much?

    python scripts/reproduce.py number_prediction

trains what results/number_prediction.json does not have yet, and writes the table: as
JSON, CSV, Markdown and SVG, and into the README. The same command goes on
where it was interrupted. To measure all anew, give other --results_dir and --runs_dir.
"""

import importlib
import os
import shlex
import subprocess
import sys
from pathlib import Path

from dsc import interruption

if __name__ == "__main__":
    interruption.exit_on_signals()  # the imports below take seconds
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import plotting
import reproduce_picture
import reproduce_results
import sweep_command
import sweep_execution
import sweep_grid
from absl import app, flags
from reproduce_tables import TABLES

from dsc import program
from dsc.errors import RunError, writing

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results"
README = ROOT / "README.md"  # shows the tables
FLAGS = flags.FLAGS

flags.DEFINE_bool("dry_run", False, "only print the commands that are still to be done")
flags.DEFINE_bool(
    "smoke",
    False,
    "try the table in small: a few steps of two of its rows; --results_dir is then in "
    "--runs_dir",
)
flags.DEFINE_string(
    "results_dir", None, "folder for the results (default: the project's results)"
)
flags.DEFINE_string("rows", "", "do only the runs of rows that have this in their name")
flags.DEFINE_integer("max_seeds", None, "do only so many seeds of each row", 1)
flags.DEFINE_string("runs_dir", "cv-study", "folder for the run folders")


def reproduce(name):
    """Does what is missing of a table, and writes its pages after each run."""
    table, runs_dir = TABLES[name], Path(FLAGS.runs_dir).absolute()
    results_dir = RESULTS if FLAGS.results_dir is None else Path(FLAGS.results_dir)
    checked = [run for row in table.rows for run in table.runs(row)]
    if FLAGS.smoke:
        runs_dir = runs_dir / "smoke"
        results_dir = Path(FLAGS.results_dir or runs_dir / "results")
        table = table.as_smoke(runs_dir / "data")
    records = reproduce_results.read(results_dir / f"{name}.json")
    missing = [
        (row, run)
        for row, run in to_do(table, records, runs_dir / name, FLAGS.max_seeds)
        if FLAGS.rows in row.name
    ]
    if FLAGS.dry_run:
        print_commands(table, missing)
        return
    pages = Pages(name, table, records, results_dir)
    if missing:
        # It takes seconds, and defines the flags that the runs have.
        importlib.import_module(sweep_command.SCRIPTS[table.script])
        sweep_grid.check(checked + [run for _, run in missing], FLAGS)
    make_data(table)
    rows = {run.name: row for row, run in missing}
    told = sweep_command.Progress(len(missing))

    def ended(run, outcome):
        told.ended(run, outcome)
        if outcome.scores:
            pages.add(rows[run.name], run, outcome.scores)

    jobs = [
        sweep_execution.Job(
            run,
            table.script,
            data={},  # made by this project, and compared by the training script
            working_dir=str(ROOT),
            threads=FLAGS.threads,
            retries=FLAGS.retries,
        )
        for _, run in missing
    ]
    print(f"{name}: {len(jobs)} runs to do, {len(records)} done before.")
    for job in jobs:
        with writing(job.run.folder, "--runs_dir"):
            job.run.folder.mkdir(parents=True, exist_ok=True)
    sweep_execution.run_all(jobs, sweep_command.at_once(), told.started, ended)
    pages.write()
    told.check()


class Pages:
    """What is known of a table so far, and its files.

    Args:
        name: of the table.
        table: `reproduce_tables.Table`.
        records: dict from command to record.
        folder: for the results.
    """

    def __init__(self, name, table, records, folder):
        self.name = name
        self.table = table
        self.records = records
        self.folder = folder
        self.pyplot = plotting.require("reproduce.py")

    def add(self, row, run, scores):
        """Keeps a run that has ended."""
        record = reproduce_results.record(row, run, self.table.script, scores)
        self.records[record["command"]] = record
        self.write()

    def write(self):
        """Writes all of them."""
        rows = reproduce_results.by_row(self.table, self.records)
        reproduce_results.write(self.folder, self.name, self.table, rows)
        drawn = {
            self.name: reproduce_picture.draw(self.pyplot, self.table, rows),
            f"{self.name}-training": reproduce_picture.draw_training(
                self.pyplot, self.table, rows
            ),
        }
        for name, figure in drawn.items():
            if figure:
                with writing(self.folder, "--results_dir"):
                    plotting.save(figure, self.folder / f"{name}.svg")
                self.pyplot.close(figure)
        if self.folder.resolve() == RESULTS:
            text = reproduce_results.as_table(self.table, rows)
            reproduce_results.show(README, self.name, text)


def to_do(table, records, folder, max_seeds=None):
    """The runs without a record, the first seed of every row before any second one.

    Args:
        table: `reproduce_tables.Table`.
        records: dict from command to record.
        folder: for the run folders.
        max_seeds: so many seeds of each row at most; None is all.

    Returns:
        List of `(Row, sweep_grid.Run)`.
    """
    missing = [
        (seed, row, run)
        for row, found in reproduce_results.by_row(table, records)
        for seed, (run, record) in enumerate(
            zip(table.runs(row, folder)[:max_seeds], found[:max_seeds], strict=True)
        )
        if record is None
    ]
    return [(row, run) for _, row, run in sorted(missing, key=lambda found: found[0])]


def print_commands(table, missing):
    """Prints what a user could type to do the same by hand."""
    for data in table.data:
        print(f"python {data.command}")
    for _, run in missing:
        command = ["python", table.script, *run.flags, f"--train_dir={run.folder}"]
        print(shlex.join(command))


def make_data(table):
    """Makes the data that are not there.

    Raises:
        RunError: they cannot be made.
    """
    for data in table.data:
        if not (ROOT / data.path).exists():
            print(f"python {data.command}", flush=True)
            command = [sys.executable, *shlex.split(data.command)]
            if subprocess.run(command, cwd=ROOT).returncode:
                raise RunError(
                    f"The data in {data.path} could not be made by `python "
                    f"{data.command}`, which said why; put it right and repeat the "
                    "same command."
                )


def main(argv):
    """Takes the table's name from the command line and the rest from the flags."""
    if len(argv) != 2 or argv[1] not in TABLES:
        sys.exit(f"Give the name of one table: {', '.join(TABLES)}.")
    program.main(lambda: reproduce(argv[1]))(argv[:1])


if __name__ == "__main__":
    app.run(main)
