"""The results of a table: what is kept of each run, and its pages for readers."""

import json
import re
import shlex
from pathlib import Path

from plots import run_reader
from sweeping import table as sweep_table
from sweeping.execution import OUTPUT
from sweeping.table import line

from dsc.cli.errors import RunError, one_line, writing
from dsc.runs import atomic_io

TIMES = re.compile(r"^epoch \d+ done in (?:(\d+):)?(\d+):(\d\d):", re.MULTILINE)
INTERRUPTED = "Going on after step"
REPORTED = ("step", "epoch", "nll", "accuracy", "entropy", "actions")
DIGITS = 5  # significant ones of what is kept of a report
PLACES = {"data_dir", "train_dir", "cache_dir"}  # in config.json, of one machine
NOTHING = "-"
THREADS = 1  # of TensorFlow in an operation; with others its sums are others
HOW_RUN = (
    f"Each run had `TF_NUM_INTRAOP_THREADS={THREADS}`, and a `--train_dir` of its own."
)


def command(script, run):
    """The command of a run, by which its record is known."""
    return shlex.join(["python", script, *run.flags])


def record(row, run, script, scores):
    """What is kept of a finished run.

    Args:
        row: `reproduce_tables.Row`.
        run: `sweep_execution.Run`.
        script: its training script, from the project's root.
        scores: dict from name to number, as it printed them.

    Returns:
        JSON-serialisable dict: `row`, `seed`, `command`, `scores`, `seconds` (of all
        its epochs, None if that is not known), `epochs` (their numbers), `reports`
        (what `REPORTED` names) and `config` (its flags, the digests of its data,
        versions, commit and machine).

    Raises:
        RunError: its folder cannot be read.
    """
    kept = run_reader.read(run.folder)
    output = (run.folder / OUTPUT).read_text(encoding="utf-8", errors="replace")
    return {
        "row": row.name,
        "seed": run.seed,
        "command": command(script, run),
        "scores": scores,
        "seconds": seconds(output),
        "epochs": [
            {k: v for k, v in epoch.items() if not isinstance(v, list)}
            for epoch in kept.epochs
        ],
        "reports": [
            {k: _rounded(report[k]) for k in REPORTED if k in report}
            for report in kept.reports
        ],
        "config": {k: v for k, v in kept.config.items() if k not in PLACES},
    }


def seconds(output):
    """How long the epochs of a run took, as it printed; None if it was interrupted."""
    told = list(TIMES.finditer(output))
    if not told or INTERRUPTED in output[: told[-1].start()]:
        return None
    times = [[int(part or 0) for part in match.groups()] for match in told]
    return sum(3600 * h + 60 * m + s for h, m, s in times)


def read(path):
    """The records in a JSON file of `write`: dict from command to record.

    Raises:
        RunError: the file is damaged.
    """
    try:
        records = json.loads(Path(path).read_text(encoding="utf-8"))["runs"]
        return {record["command"]: record for record in records}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RunError(
            f"{path} cannot be read ({one_line(error)}); restore it, delete it to do "
            "its runs anew, or give another --results_dir."
        ) from None


def by_row(table, records):
    """Each row of a table with the records of its runs, None for a run that has none.

    Args:
        table: `reproduce_tables.Table`.
        records: dict from command to record.

    Returns:
        List of `(Row, list)`.
    """
    return [
        (row, [records.get(command(table.script, run)) for run in table.runs(row)])
        for row in table.rows
    ]


def write(folder, name, table, rows):
    """Writes NAME.json, NAME.csv and NAME.md.

    Args:
        folder: for the results.
        name: of the table.
        table: `reproduce_tables.Table`.
        rows: from `by_row`.

    Raises:
        RunError: they cannot be written.
    """
    records = [record for _, found in rows for record in found if record]
    pages = {
        "json": _as_json(name, table, records),
        "csv": _as_csv(table, records),
        "md": _as_page(name, table, rows, records),
    }
    for suffix, text in pages.items():
        with writing(folder, "--results_dir"):
            Path(folder).mkdir(parents=True, exist_ok=True)
            atomic_io.write(Path(folder) / f"{name}.{suffix}", text.encode())


def as_table(table, rows):
    """The table itself, in Markdown, and which of its rows have no run yet."""
    heads = [column.head for column in table.columns]
    head = [line(["", "seeds", *heads]), line("---" for _ in ["", "", *heads])]
    lines, waiting = [], []
    for row, found in rows:
        if done := [record for record in found if record]:
            cells = [_cell(column, done) for column in table.columns]
            lines.append(line([row.name, f"{len(done)}/{len(found)}", *cells]))
        else:
            waiting.append(row.name)
    parts = ["\n".join(head + lines)] if lines else []
    if waiting:
        parts.append(f"Still to be run: {'; '.join(waiting)}.")
    return "\n\n".join(parts)


def _cell(column, records):
    values = [column.value(record) for record in records]
    known = [value for value in values if value is not None]
    if column.list_seeds and known:
        return ", ".join(NOTHING if v is None else f"{v:{column.form}}" for v in values)
    if None in values:
        return NOTHING
    return sweep_table.shown(*sweep_table.mean(known), column.form)


def _as_json(name, table, records):
    # A run is a line: whoever compares two versions sees which runs are others.
    lines = ",\n".join(atomic_io.to_json(record) for record in records)
    head = atomic_io.to_json({"table": name, "title": table.title})[:-1]
    return f'{head}, "runs": [\n{lines}\n]}}\n'


def _as_csv(table, records):
    rows = [["row", "seed", *(column.head for column in table.columns), "command"]]
    for record in records:
        values = [column.value(record) for column in table.columns]
        rows.append([record["row"], record["seed"], *values, record["command"]])
    return sweep_table.as_csv(rows)


def _as_page(name, table, rows, records):
    page = (
        f"# {table.title}\n\nWritten by `python scripts/reproduce.py {name}`. "
        f"{table.how_to_read}\n\n{as_table(table, rows)}\n"
    )
    if not records:
        return page
    commands = [f"    python {data.command}" for data in table.data]
    for row, found in rows:
        if done := [f"    {record['command']}" for record in found if record]:
            commands += [f"    # {row.name}", *done]
    pictures = f"![{table.columns[0].head}, a dot for each run]({name}.svg)\n"
    if any(record["row"] in table.plot_training for record in records):
        pictures += f"""
How some rows learned; where a row has several seeds, their mean, as far as all of \
them have come, in a band from the lowest to the highest:

![Curves, entropy of the policy and skips]({name}-training.svg)
"""
    origins = "\n".join(sorted({_origin(r["config"]["about"]) for r in records}))
    commands = "\n".join(commands)
    return f"""{page}
Mean ± sample standard deviation over the seeds, as many as are done of those that \
the row has; - stands for what is not there: a choice where there is one state, the \
minutes of a run that was interrupted.

{pictures}
## Where it was measured

{origins}

## Commands

{table.how_run or HOW_RUN} What the flags mean: `python {table.script} --help`.

{commands}
"""


def _origin(about):
    versions = ", ".join(f"{k} {v}" for k, v in about["versions"].items())
    return f"- {about['machine']}; {versions}; commit {about['git_commit']}"


def _rounded(value):
    if isinstance(value, list):
        return [_rounded(v) for v in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def show(path, name, text):
    """Puts a table into a page, between the two comments that name it there.

    Args:
        path: of a Markdown file; one without the comments stays as it is.
        name: of the table.
        text: Markdown.

    Raises:
        RunError: the page cannot be written.
    """
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    page = Path(path).read_text(encoding="utf-8")
    before, found, rest = page.partition(begin)
    _, ended, after = rest.partition(end)
    if found and ended:
        with writing(path, "--results_dir"):
            shown = f"{before}{begin}\n\n{text}\n\n{end}{after}"
            atomic_io.write(Path(path), shown.encode())
