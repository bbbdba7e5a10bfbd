"""Trains the models of a table in results/ and writes the table.

    python scripts/reproduce.py number_prediction

trains in cv-study, writes the results to cv-study/results, and prints the table beside
the one in results/. The results are a page (.md), the values of each run (.csv), a plot
of them (.svg), learning curves of some rows (.png), and the curves and configurations
of all runs (.json.gz). The same command resumes an interrupted one.

`--results_dir results` does only the runs that results/ lacks and adds them there.
Several processes may do different rows (--row) of one table at the same time, with the
same --results_dir and a --runs_dir for each.
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
group.bool("dry_run", False, "only print the commands of the runs to do")
group.bool(
    "smoke", False, "try it: a few training steps of two rows, all in --runs_dir"
)
group.multi_string(
    "row", [], "do only the row of this name; may be given several times"
)
group.integer("max_seeds", None, "do at most this many seeds of each row", 1)
group.path("runs_dir", str(ROOT / "cv-study"), "folder for the run folders")
group.path(
    "results_dir", None, "folder for the results (default: results in --runs_dir)"
)


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
        pages = TableWriter(name, table, results_dir)
        missing = pages.missing(folder, FLAGS.max_seeds, FLAGS.row or names)
        needed = table.data_of([row for row, _ in missing])
        data = [each for each in needed if not (ROOT / each.path).exists()]
        if FLAGS.dry_run:
            print_commands(table, data, missing)
            return
        pages.write()  # finds out what it lacks before the first run does
        make(data)
        train(pages, missing)
        print(f"The table is in {results_dir / name}.md.")
    if not FLAGS.smoke and results_dir.resolve() != RESULTS:
        study = results.read(RESULTS, name)
        print(f"Beside the rows of {RESULTS / name}.md:\n\n{pages.beside(study)}")


def train(pages, missing):
    """Does the runs, and adds each to the pages when it ends.

    Args:
        pages: `TableWriter`.
        missing: list of `(Row, sweeping.execution.Run)`.

    Raises:
        RunError: a run failed, or something cannot be written.
    """
    rows = {run.name: row for row, run in missing}
    progress = console.Progress(len(missing))

    def ended(run, outcome):
        progress.ended(run, outcome)
        if outcome.scores:
            pages.add(rows[run.name], run)

    jobs = [
        execution.Job(
            run,
            pages.table.script,
            data={},  # made by this project; the training script compares it
            working_dir=str(ROOT),
            threads=results.THREADS,
            retries=FLAGS.retries,
            placed_by="--runs_dir",
        )
        for _, run in missing
    ]
    print(f"{pages.name}: {len(jobs)} runs to do, {len(pages.records)} done before.")
    at_once = console.at_once(results.THREADS)
    execution.run_all(jobs, at_once, progress.started, ended)
    progress.check()


class TableWriter:
    """The records of a table, and the files that are made of them.

    Args:
        name: of the table.
        table: `study.tables.Table`.
        folder: for the results.

    Attributes:
        records: dict from `study.results.key` to record.

    Raises:
        RunError: its results cannot be read, or hold runs that are not the table's.
    """

    def __init__(self, name, table, folder):
        self.name = name
        self.table = table
        self.folder = folder
        self.records = results.read(folder, name)
        known = sum(r is not None for _, found in self._rows() for r in found)
        if others := len(self.records) - known:
            raise RunError(
                f"{folder / name}{results.RECORDS} holds {others} runs that are not in "
                "the table; delete the file, or give another --results_dir."
            )

    def missing(self, folder, max_seeds, names):
        """The runs without a record, the first seed of every row before any second one.

        Args:
            folder: for the run folders.
            max_seeds: so many seeds of each row at most; None is all.
            names: of the rows to do.

        Returns:
            List of `(Row, sweeping.execution.Run)`.
        """
        found = [
            (seed, row, run)
            for row, records in self._rows()
            for seed, (run, record) in enumerate(
                zip(self.table.runs(row, folder), records, strict=True)
            )
            if record is None and (max_seeds is None or seed < max_seeds)
            if row.name in names
        ]
        return [(row, run) for _, row, run in sorted(found, key=lambda each: each[0])]

    def add(self, row, run):
        """Adds the record of a finished run.

        Raises:
            RunError: it was trained on other data than the row's other runs.
        """
        new = results.record(row, run)
        for old in self.records.values():
            if (
                old["row"] == row.name
                and old["config"]["data"] != new["config"]["data"]
            ):
                raise RunError(
                    f"{run.folder} was trained on other data than the runs in "
                    f"{self.folder} of the same row; delete that folder and make the "
                    "data anew, or give another --results_dir."
                )
        self.records[results.key(row.name, run.seed, run.settings)] = new
        self.write()

    def write(self):
        """Writes all of the table's files."""
        pyplot = style.require("reproduce.py")
        # With another --runs_dir, other processes may have added theirs since.
        self.records = results.read(self.folder, self.name) | self.records
        rows = self._rows()
        results.write(self.folder, self.name, self.table, rows)
        drawn = {
            ".svg": (picture.draw, style.save),
            ".png": (picture.draw_training, style.save_small),
        }
        for suffix, (draw, save) in drawn.items():
            if figure := draw(pyplot, self.table, rows):
                with writing(self.folder, "--results_dir"):
                    save(figure, self.folder / f"{self.name}{suffix}")
                pyplot.close(figure)

    def beside(self, others):
        """A Markdown table of the rows, each above the same row of other records."""
        theirs = results.by_row(self.table, others)
        rows = []
        for (row, own), (_, other) in zip(self._rows(), theirs, strict=True):
            if any(own) and any(other):
                known = row._replace(name=f"{row.name}, in results/")
                rows += [(row, own), (known, other)]
        return results.as_table(self.table, rows)

    def _rows(self):
        return results.by_row(self.table, self.records)


def exclusive(folder):
    """Keeps other processes from the same runs, until the file it returns is closed.

    Raises:
        RunError: another process does them, or the folder cannot be written.
    """
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
    """Prints what a user could type to do the same by hand."""
    for each in data:
        print(f"python {each.command}")
    for _, run in missing:
        command = results.command(table.script, run.settings, run.seed)
        print(
            f"TF_NUM_INTRAOP_THREADS={results.THREADS} {command} "
            f"--train_dir={shlex.quote(str(run.folder))}"
        )
    if not missing:
        print("# All is done.")


def make(data):
    """Makes data that are not there.

    Args:
        data: list of `study.tables.Data`.

    Raises:
        RunError: they cannot be made.
    """
    for each in data:
        print(f"python {each.command}", flush=True)
        command = [sys.executable, *shlex.split(each.command)]
        if subprocess.run(command, cwd=ROOT).returncode:
            raise RunError(
                f"`python {each.command}` did not make {each.path}, and said why; put "
                "it right and repeat the same command."
            )


def main(argv):
    """Takes the table's name from the command line and the rest from the flags."""
    if len(argv) != 2 or argv[1] not in TABLES:
        sys.exit(f"Give the name of one table: {', '.join(TABLES)}.")
    program.main(FLAGS, lambda: reproduce(argv[1]))


if __name__ == "__main__":
    main(program.parse(FLAGS, __doc__, takes_arguments=True))
