"""Draws a table of the study: a dot for each run, and the training of some rows."""

import plot_run
from plots import run_reader, style


def draw(pyplot, table, rows):
    """A figure of the table's first column: a dot for each run, a bar for their mean.

    None if there are no runs.

    Args:
        pyplot: see `plots.style.require`.
        table: `study.tables.Table`.
        rows: from `study.results.by_row`; those without a run are left out.
    """
    column = table.columns[0]
    done = [(row, [r for r in found if r]) for row, found in rows]
    done = [(row, found) for row, found in done if found]
    if not done:
        return None
    height = 1.0 + 0.28 * len(done)
    figure, axis = pyplot.subplots(figsize=(8, height), layout="constrained")
    for y, (_, found) in enumerate(done):
        values = [column.value(record) for record in found]
        if len(values) > 1:
            mean = sum(values) / len(values)
            axis.plot([mean] * 2, [y - 0.3, y + 0.3], color=style.BLACK)
        axis.plot(values, [y] * len(values), "o", color=style.BLUE, alpha=0.7)
    axis.set_yticks(range(len(done)), [row.name for row, _ in done])
    axis.set_ylim(len(done) - 0.5, -0.5)
    axis.set_xlabel(column.head)
    axis.grid(axis="x", linewidth=0.5, alpha=0.5)
    return figure


def draw_training(pyplot, table, rows):
    """The figure of `plot_run` for the `plot_training` rows, or None without runs."""
    groups = {
        row.name: [
            run_reader.Run(
                row.name, record["config"], record["reports"], record["epochs"]
            )
            for record in found
            if record
        ]
        for row, found in rows
        if row.name in table.plot_training
    }
    groups = {name: found for name, found in groups.items() if found}
    if not groups:
        return None
    names = [run_reader.with_seeds(name, found) for name, found in groups.items()]
    return plot_run.draw(pyplot, list(groups.values()), names)
