"""Trains the models of a table in results/ and writes the table.

    python scripts/reproduce.py number_prediction

trains in cv-study, writes the results to cv-study/results, and prints the table beside
the one in results/. The results are a page (.md), the values of each run (.csv), a plot
of them (.svg), learning curves of some rows (.png), and the curves and configurations
of all runs (.json.gz). The same command resumes an interrupted one.

`--results_dir results` does only the runs that results/ lacks and adds them there.
Several processes may do different rows (--row) of a table at the same time, with one
--results_dir and a --runs_dir each.
"""

import contextlib
import shlex
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this clone's code

from plots import style
from study import picture, results
from study.tables import TABLES
from sweeping import console, execution
from sweeping.console import FLAGS

from dsc.cli import program
from dsc.cli.errors import RunError, writing
from dsc.cli.flags import Group
from dsc.runs import atomic_io

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results"

group = Group("table", FLAGS)
group.bool("dry_run", False, "only print the commands of the missing runs")
group.bool("smoke", False, "a trial: two rows for a few steps, all in --runs_dir")
group.multi_string("row", [], "name of the only row to do; may be repeated")
group.integer("max_seeds", None, "largest number of seeds of each row", 1)
group.path("runs_dir", str(ROOT / "cv-study"), "folder for the run folders")
group.path("results_dir", None, "folder for the results (default: in --runs_dir)")


def reproduce(name):
    """Does the missing runs of a table, and writes its files after each run."""
    table = TABLES[name]
    runs_dir = Path(FLAGS.runs_dir).absolute()
    if FLAGS.smoke and FLAGS.results_dir:
        raise RunError(
            "--smoke keeps its results in --runs_dir; leave out --results_dir."
        )
    if FLAGS.smoke:
        runs_dir = runs_dir / "smoke"
        table = table.smoke_version(runs_dir / "data")
    results_dir = Path(FLAGS.results_dir or runs_dir / "results")
    names = [row.name for row in table.rows]
    if unknown := set(FLAGS.row) - set(names):
        raise RunError(
            f"--row: the table has no row {'; '.join(sorted(unknown))!r}; it has: "
            f"{'; '.join(names)}."
        )
    folder = runs_dir / name
    with contextlib.nullcontext() if FLAGS.dry_run else exclusive(folder):
        writer = TableWriter(name, table, results_dir)
        missing = writer.missing(folder, FLAGS.max_seeds, FLAGS.row or names)
        data = table.data_of([row for row, _ in missing])
        data = [each for each in data if not (ROOT / each.path).exists()]
        if FLAGS.dry_run:
            print_commands(table, data, missing)
            return
        run_all = console.run_all(table.script, results.THREADS)
        writer.write()  # fails now if the results cannot be written
        make(data)
        train(writer, missing, run_all)
        print(f"The table is in {results_dir / name}.md.")
    if not FLAGS.smoke and results_dir.resolve() != RESULTS:
        study = results.read(RESULTS, name)
        print(f"Beside the rows of {RESULTS / name}.md:\n\n{writer.beside(study)}")


def train(writer, missing, run_all):
    """Does the runs, a list of `(Row, Run)`, and adds each to the table at its end.

    `run_all` is from `console.run_all`.
    """
    rows = {run.name: row for row, run in missing}
    progress = console.Progress(len(missing))

    def ended(run, outcome):
        progress.ended(run, outcome)
        if outcome.scores:
            writer.add(rows[run.name], run)

    jobs = [
        execution.Job(
            run,
            writer.table.script,
            data={},  # made by this project; the training script compares it
            working_dir=str(ROOT),
            threads=results.THREADS,
            retries=FLAGS.retries,
            folder_flag="--runs_dir",
        )
        for _, run in missing
    ]
    print(f"{writer.name}: {len(jobs)} runs to do, {len(writer.records)} done before.")
    run_all(jobs, progress.started, ended)
    progress.check()


class TableWriter:
    """The records of a table in a folder, and the files that are written from them.

    `records` is a dict from `study.results.key` to record.
    """

    def __init__(self, name, table, folder):
        self.name = name
        self.table = table
        self.folder = folder
        self.records = results.read(folder, name)
        known = sum(len(found) for _, found in self._rows())
        if others := len(self.records) - known:
            raise RunError(
                f"{folder / name}{results.RECORDS} holds {others} runs that are not in "
                "the table; delete the file, or give another --results_dir."
            )

    def missing(self, folder, max_seeds, names):
        """The `(Row, Run)` without a record, the first seeds of all rows first.

        Run folders are in `folder`; `max_seeds` of each row at most, None for all.
        """
        runs = [
            (seed, row, run)
            for row in self.table.rows
            for seed, run in enumerate(self.table.runs(row, folder)[:max_seeds])
            if row.name in names
            if results.key(row.name, run.seed, run.settings) not in self.records
        ]
        return [(row, run) for _, row, run in sorted(runs, key=lambda each: each[0])]

    def add(self, row, run):
        """Adds the record of a finished run and writes the table."""
        new = results.record(row, run)
        data = [
            record["config"]["data"]
            for record in self.records.values()
            if record["row"] == row.name
        ]
        if any(other != new["config"]["data"] for other in data):
            raise RunError(
                f"{run.folder} was trained on other data than the runs in "
                f"{self.folder} of the same row; delete that folder and make the data "
                "again, or give another --results_dir."
            )
        self.records[results.key(row.name, run.seed, run.settings)] = new
        self.write()

    def write(self):
        """Writes all files of the table."""
        pyplot = style.require("reproduce.py")
        # Another process, with its own --runs_dir, may have added runs.
        self.records = results.read(self.folder, self.name) | self.records
        rows = self._rows()
        results.write(self.folder, self.name, self.table, rows)
        figures = (
            (".svg", picture.draw, style.save),
            (".png", picture.draw_training, style.save_small),
        )
        for suffix, draw, save in figures:
            if figure := draw(pyplot, self.table, rows):
                as_text = pyplot.rc_context({"svg.fonttype": "none"})  # half the size
                with as_text, writing(self.folder, "--results_dir"):
                    save(figure, self.folder / f"{self.name}{suffix}")
                pyplot.close(figure)

    def beside(self, others):
        """A Markdown table of the rows, each above the same row of other records."""
        theirs = results.by_row(self.table, others)
        rows = []
        for (row, own), (_, other) in zip(self._rows(), theirs, strict=True):
            if own and other:
                committed = row._replace(name=f"{row.name}, in results/")
                rows += [(row, own), (committed, other)]
        return results.as_table(self.table, rows)

    def _rows(self):
        return results.by_row(self.table, self.records)


def exclusive(folder):
    """Locks a folder for the runs against other processes; returns the open file."""
    with writing(folder, "--runs_dir"):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            return atomic_io.lock(folder / "lock")
        except BlockingIOError:
            raise RunError(
                f"--runs_dir: another process does the runs in {folder}; wait for its "
                "end, or give another --runs_dir."
            ) from None


def print_commands(table, data, missing):
    """Prints the commands that make the data and do the runs."""
    for each in data:
        print(f"python {each.command}")
    for _, run in missing:
        command = results.command(table.script, run.settings, run.seed)
        print(
            f"TF_NUM_INTRAOP_THREADS={results.THREADS} {command} "
            f"--train_dir={shlex.quote(str(run.folder))}"
        )
    if not missing:
        print("# Nothing is missing.")


def make(data):
    """Makes data, a list of `study.tables.Data`."""
    for each in data:
        print(f"python {each.command}", flush=True)
        command = [sys.executable, *shlex.split(each.command)]
        if subprocess.run(command, cwd=ROOT).returncode:
            raise RunError(
                f"`python {each.command}` failed to make {each.path}; fix the error "
                "that it printed, then repeat the same command."
            )


def main(argv):
    if len(argv) != 2 or argv[1] not in TABLES:
        sys.exit(f"Give the name of one table: {', '.join(TABLES)}.")
    program.main(FLAGS, lambda: reproduce(argv[1]))


if __name__ == "__main__":
    main(program.parse(FLAGS, __doc__, takes_arguments=True))
