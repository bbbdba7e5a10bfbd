"""The figures of a table: a dot for each run, and the training of some rows."""

import plot_run
from plots import run_reader, style


def draw(pyplot, table, rows):
    """A figure of the table's first column: a dot for each run, a bar for their mean.

    `rows` is from `study.results.by_row`. None if there are no runs.
    """
    column = table.columns[0]
    done = [(row, found) for row, found in rows if found]
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
    groups, names = [], []
    for row, found in rows:
        if found and row.name in table.plot_training:
            names.append(run_reader.with_seeds(row.name, found))
            groups.append(
                [
                    run_reader.Run(row.name, r["config"], r["reports"], r["epochs"])
                    for r in found
                ]
            )
    return plot_run.draw(pyplot, groups, names) if groups else None
