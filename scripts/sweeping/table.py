"""A table of mean and standard deviation over the seeds, as CSV and Markdown."""

import csv
import io
import math
import statistics

from dsc.cli.errors import writing
from dsc.runs import atomic_io


def rows(grid, outcomes):
    """The rows of the table, a list of dicts, one for each point of the grid.

    A row has the flags that have more than one value, the number of seeds that
    finished, and for each score its `mean` over the runs that have it. `outcomes` is a
    list of `(Run, Outcome)`, those of one point one after another.
    """
    varied = [name for name, values in grid.items() if len(values) > 1]
    scores = list(dict.fromkeys(s for _, o in outcomes for s in o.scores or ()))
    points = {}
    for run, outcome in outcomes:
        points.setdefault(tuple(run.settings.values()), []).append((run, outcome))
    table = []
    for point in points.values():
        run, _ = point[0]
        done = [outcome.scores for _, outcome in point if outcome.scores]
        row = {name: run.settings[name] for name in varied}
        row["seeds"] = f"{len(done)}/{len(point)}"
        row |= {name: mean([s[name] for s in done if name in s]) for name in scores}
        table.append(row)
    return table


def write(folder, table, title):
    """Writes `table.csv` and `table.md` into a folder; returns the Markdown."""
    cells = [list(table[0]), *(map(_cell, row.values()) for row in table)]
    page = f"{title}\n\n{as_markdown(cells)}"
    pages = {"table.csv": _as_csv(table), "table.md": page}
    for name, text in pages.items():
        with writing(folder, "--sweep_dir"):
            atomic_io.write(folder / name, text.encode())
    return page


def as_markdown(rows):
    """Rows of cells, which are texts, as a Markdown table; the first is the header."""
    head, *body = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    lines = [head, ["---"] * len(head), *body]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def mean(values):
    """`(mean, sample standard deviation)`, each None where it does not exist."""
    if not values:
        return None, None
    deviates = len(values) > 1 and all(map(math.isfinite, values))
    return statistics.fmean(values), statistics.stdev(values) if deviates else None


def as_csv(rows):
    """Rows of cells as CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def formatted(mean, deviation, form):
    """A cell with a mean and its standard deviation, which may be None."""
    return f"{mean:{form}}" + ("" if deviation is None else f" ± {deviation:{form}}")


def _as_csv(table):
    rows = [[]]
    for name, value in table[0].items():
        is_score = isinstance(value, tuple)
        rows[0] += [f"{name} mean", f"{name} std"] if is_score else [name]
    for row in table:
        rows.append([])
        for value in row.values():
            parts = value if isinstance(value, tuple) else (value,)
            rows[-1] += [f"{p:.6f}" if isinstance(p, float) else p for p in parts]
    return as_csv(rows)


def _cell(value):
    if not isinstance(value, tuple):
        return value
    return "-" if value[0] is None else formatted(*value, ".4f")
