"""The records of a table's runs, and the files that are written from them."""

import gzip
import json
import shlex
import zlib
from pathlib import Path

from plots import run_reader
from sweeping import table as sweep_table
from sweeping.execution import Run

from dsc.cli.errors import RunError, one_line, writing
from dsc.cli.flags import with_role
from dsc.runs import atomic_io
from dsc.runs.folder import read_result
from study.tables import shares_program

RECORDS = ".json.gz"  # suffix of the file with the records
REPORTED = ("step", "epoch", "nll", "accuracy", "entropy", "actions")
DIGITS = 5  # significant digits kept of a report
LOCAL_FLAGS = with_role("data", "worker")  # left out of a record
NOTHING = "-"
THREADS = 1  # of TensorFlow within an operation; the order of sums depends on it
HOW_RUN = f"Each run used `TF_NUM_INTRAOP_THREADS={THREADS}` and its own `--train_dir`."


def command(script, settings, seed):
    """The command line of a run, without --train_dir."""
    return shlex.join(["python", script, *Run(settings, seed, None).flags])


def key(row, seed, settings):
    """Identifies a record: the row's name, the seed and the flags."""
    return row, seed, tuple(sorted(settings.items()))


def record(row, run):
    """The record of a finished run, a JSON-serialisable dict.

    It has `row`, `seed` and `flags` (as given), `result` (see `RunFolder.finish`),
    `epochs` (the numbers of each), `reports` (`REPORTED` of each) and `config` (see
    `RunFolder`).
    """
    kept = run_reader.read(run.folder)
    flags = {k: v for k, v in kept.config["flags"].items() if k not in LOCAL_FLAGS}
    return {
        "row": row.name,
        "seed": run.seed,
        "flags": run.settings,
        "result": read_result(run.folder),
        "epochs": [
            {k: v for k, v in epoch.items() if not isinstance(v, list)}
            for epoch in kept.epochs
        ],
        "reports": [
            {k: _rounded(report[k]) for k in REPORTED if k in report}
            for report in kept.reports
        ],
        "config": {**kept.config, "flags": flags},
    }


def read(folder, name):
    """The records that `write` wrote for a table, a dict by `key`."""
    path = Path(folder) / f"{name}{RECORDS}"
    try:
        records = json.loads(gzip.decompress(path.read_bytes()))["runs"]
        return {key(r["row"], r["seed"], r["flags"]): r for r in records}
    except FileNotFoundError:
        return {}
    except (OSError, EOFError, ValueError, TypeError, KeyError, zlib.error) as error:
        raise RunError(
            f"{path} cannot be read ({one_line(error)}); restore it, delete it to "
            "repeat its runs, or give another --results_dir."
        ) from None


def by_row(table, records):
    """List of `(Row, records)`, the records in the order of the seeds."""
    found = []
    for row in table.rows:
        keys = [key(row.name, run.seed, run.settings) for run in table.runs(row)]
        found.append((row, [records[k] for k in keys if k in records]))
    return found


def write(folder, name, table, rows):
    """Writes NAME.md, NAME.csv and NAME.json.gz; `rows` is from `by_row`."""
    records = [record for _, found in rows for record in found]
    text = atomic_io.to_json({"table": name, "runs": records})
    contents = {
        RECORDS: gzip.compress(text.encode(), mtime=0),  # the same bytes each time
        ".csv": _as_csv(table, records).encode(),
        ".md": _as_page(name, table, rows, records).encode(),
    }
    with writing(folder, "--results_dir"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        for suffix, content in contents.items():
            atomic_io.write(Path(folder) / f"{name}{suffix}", content)


def as_table(table, rows):
    """The table in Markdown, and a list of the rows that have no run yet."""
    lines = [["", "seeds", *(column.head for column in table.columns)]]
    waiting = []
    for row, found in rows:
        if found:
            cells = [_cell(column, found) for column in table.columns]
            lines.append([row.name, f"{len(found)}/{len(row.seeds)}", *cells])
        else:
            waiting.append(row.name)
    parts = [sweep_table.as_markdown(lines)] if lines[1:] else []
    if waiting:
        parts.append(f"Not run yet: {'; '.join(waiting)}.\n")
    return "\n".join(parts)


def _cell(column, records):
    values = [column.value(record) for record in records]
    known = [value for value in values if value is not None]
    if column.list_seeds and known:
        return ", ".join(NOTHING if v is None else f"{v:{column.form}}" for v in values)
    if None in values:
        return NOTHING
    return sweep_table.formatted(*sweep_table.mean(known), column.form)


def _as_csv(table, records):
    rows = [["row", "seed", *(column.head for column in table.columns)]]
    for record in records:
        values = [column.value(record) for column in table.columns]
        rows.append([record["row"], record["seed"], *values])
    return sweep_table.as_csv(rows)


def _as_page(name, table, rows, records):
    page = (
        f"# {table.title}\n\nWritten by `python scripts/reproduce.py {name}`. "
        f"{table.caption}\n\n{as_table(table, rows)}"
    )
    if not records:
        return page
    commands = [f"    python {data.command}" for data in table.data_of(table.rows)]
    for row, found in rows:
        if found:
            seeds = ", ".join(record["seed"] for record in found)
            example = command(table.script, found[0]["flags"], found[0]["seed"])
            commands += [f"    # {row.name}: --seed={seeds}", f"    {example}"]
    pictures = f"![{table.columns[0].head} of each run]({name}.svg)\n"
    if any(record["row"] in table.plot_training for record in records):
        pictures += f"""
Training of some rows: the mean over the seeds in a band from the lowest to the \
highest, up to the step that all seeds have reached.

![Learning curves, entropy of the policy and skip lengths]({name}.png)
"""
    commands = "\n".join(commands)
    how_run = table.how_run or HOW_RUN
    if any(map(shares_program, records)):
        how_run += (
            " Runs with `--engine jax` shared a program with those of their shape."
        )
    return f"""{page}
Mean ± sample standard deviation over the seeds. The column "seeds" counts finished \
and planned runs. A dash stands for a value that does not exist: the entropy of a \
model without choices, or the time of a run that did not record it.

{pictures}
The values of each run are in [{name}.csv]({name}.csv), its curves and its \
configuration in [{name}{RECORDS}]({name}{RECORDS}).

## Environment

{_environments(records)}

## Commands

{how_run} `python {table.script} --help` explains the flags.

{commands}
"""


def _environments(records):
    """Lists each machine with its versions and the commits that ran there."""
    commits = {}
    for about in (record["config"]["about"] for record in records):
        versions = ", ".join(f"{k} {v}" for k, v in about["versions"].items())
        place = f"- {about['machine']}; {versions}"
        commits.setdefault(place, set()).add(about["git_commit"] or "unknown")
    return "\n".join(
        f"{place}; commit {', '.join(sorted(commits[place]))}"
        for place in sorted(commits)
    )


def _rounded(value):
    if isinstance(value, list):
        return [_rounded(v) for v in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
