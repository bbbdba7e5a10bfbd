"""Plots the learning curves and the skip lengths of runs.

    python scripts/plot_run.py RUN [RUN ...] --out run

writes run.png and run.svg. Runs that differ only in their seed share a curve: their
mean, in a band from the lowest to the highest, up to the step that all have reached.
Perplexities of more than a hundred times the lowest are cut off; values that are not
finite leave a gap.
"""

import itertools
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this clone's code

import numpy as np
from plots import run_reader, style

from dsc.cli import program
from dsc.cli.errors import RunError
from dsc.cli.flags import Group
from language_modeling.metrics import perplexity

MAX_PERPLEXITY = 100  # times the lowest
MAX_VALUE = 1e100  # larger values overflow the logarithmic axis
MIN_LABELLED = 0.06  # share of choices with room for the label of its skip length
COLUMNS = 3  # plots of skip lengths side by side
MAX_BANDS = 10  # more skip lengths have no bands, which would cover one another
LOOKS = [*itertools.product(("-", "--", ":"), style.LINES)]  # of one group, the next

group = Group("flags")
FLAGS = group.defined
group.path("out", "run", "path of the pictures, without suffix")

# By a score that only runs of the task have: the axis label, and the training and
# validation values as functions of a record.
TASKS = {
    "valid perplexity": (
        "perplexity",
        lambda report: perplexity(report["nll"]),
        lambda epoch: epoch["valid perplexity"],
    ),
    "valid bits per character": (
        "bits per character",
        lambda report: report["bits per character"],
        lambda epoch: epoch["valid bits per character"],
    ),
    "valid accuracy (greedy)": (
        "right answers, %",
        lambda report: 100 * report["accuracy"],
        lambda epoch: 100 * epoch["valid accuracy (greedy)"],
    ),
}


def read(paths):
    """Reads runs of one task, a list of `run_reader.Run`."""
    found = [run_reader.read(path) for path in paths]
    for run in found:
        if not run.reports or task(run) is None:
            raise RunError(
                f"{run.path} has no report or no epoch yet; let it finish its first "
                "epoch, or train it again with a lower --print_every."
            )
    if len(tasks := set(map(task, found))) > 1:
        raise RunError(
            f"The runs have different scores, {' and '.join(sorted(tasks))}; plot one "
            "task at a time."
        )
    return found


def task(run):
    """The key of TASKS for a run; None if it has no epoch yet."""
    return next((name for name in TASKS for epoch in run.epochs if name in epoch), None)


def aligned(series, value):
    """Values of several runs at the steps that all of them have recorded.

    `series` is a list of lists of records, `value` a function of a record that returns
    a number or an array. Returns `(steps [n], values [runs, n, ...])`, with NaN for
    values that are null, not finite or larger than `MAX_VALUE`.
    """
    by_step = [{record["step"]: value(record) for record in s} for s in series]
    steps = sorted(set.intersection(*map(set, by_step)))
    values = np.array([[s[step] for step in steps] for s in by_step], float)
    return np.array(steps), np.where(values < MAX_VALUE, values, np.nan)


def draw_curve(axis, series, value, **look):
    """One line, and a band if there are several runs; see `aligned`."""
    steps, values = aligned(series, value)
    axis.plot(steps, values.mean(axis=0), **look)
    if len(values) > 1:
        low, high = values.min(axis=0), values.max(axis=0)
        color = look["color"]
        axis.fill_between(steps, low, high, color=color, alpha=0.2, linewidth=0)


def draw_learning(axis, grouped, names):
    from matplotlib.ticker import LogLocator

    drawn = task(grouped[0][0])
    label, training, validation = TASKS[drawn]
    looks = itertools.cycle(LOOKS)
    for (dash, colour), group, name in zip(looks, grouped, names, strict=False):
        draw_curve(
            axis,
            [run.epochs for run in group],
            validation,
            color=colour,
            linestyle=dash,
            marker="o",
            markersize=4,
            label=name,
        )
        draw_curve(
            axis, [run.reports for run in group], training, color=colour, linewidth=0.8
        )
    axis.set_ylabel(f"{label}\nthick: validation, thin: training")
    if drawn == "valid perplexity":
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.minorticks_off()
        # One diverged state would leave no room for the other values.
        if np.isfinite(lowest := axis.dataLim.ymin):
            axis.set_ylim(top=min(axis.get_ylim()[1], MAX_PERPLEXITY * lowest))


def n_choices(group):
    """K, the number of states that the runs choose from; 1 for an LSTM."""
    return len(group[0].reports[0]["actions"])


def draw_entropy(axis, grouped):
    looks = itertools.cycle(LOOKS)
    for (dash, colour), group in zip(looks, grouped, strict=False):
        if n_choices(group) > 1:
            draw_curve(
                axis,
                [run.reports for run in group],
                lambda report: report["entropy"],
                color=colour,
                linestyle=dash,
            )
    for n_actions in set(map(n_choices, grouped)) - {1}:
        axis.axhline(np.log(n_actions), color=style.GREY, linewidth=0.8)
        axis.annotate(
            f"uniform over {n_actions}",
            (1, np.log(n_actions)),
            (-2, 2),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            ha="right",
            fontsize=9,
        )
    axis.set_ylim(0, 1.1 * axis.get_ylim()[1])
    axis.set_ylabel("entropy of the policy, nats")


def label_steps(axis):
    axis.set_xlabel("training steps")
    axis.locator_params("x", nbins=5)  # more would touch one another


def draw_skips(pyplot, axis, group, name):
    """Stacks the shares of the skip lengths, 1 at the bottom.

    With several runs the borders are means, each in a dark band from the lowest to the
    highest run.
    """
    steps, shares = aligned(
        [run.reports for run in group], lambda report: report["actions"][::-1]
    )
    borders = 100 * np.cumsum(shares, axis=2)  # [runs, n, n_actions]
    upper = borders.mean(axis=0).T
    lower = np.concatenate([np.zeros_like(upper[:1]), upper[:-1]])
    colours = pyplot.get_cmap(style.ORDERED)(np.linspace(0, 1, len(upper)))
    for k, colour in enumerate(colours, 1):
        low, high = lower[k - 1], upper[k - 1]
        axis.fill_between(
            steps, low, high, color=colour, edgecolor="white", linewidth=0.5
        )
        if len(group) > 1 and k < len(upper) <= MAX_BANDS:
            border = borders[:, :, k - 1]
            axis.fill_between(
                steps,
                border.min(axis=0),
                border.max(axis=0),
                color=style.BLACK,
                alpha=0.3,
                linewidth=0,
                zorder=3,  # above both shares
            )
        if high[-1] - low[-1] > 100 * MIN_LABELLED:
            axis.annotate(
                str(k),
                (steps[-1], (low[-1] + high[-1]) / 2),
                (4, 0),
                textcoords="offset points",
                va="center",
                fontsize=9,
                annotation_clip=False,
            )
    axis.margins(x=0)
    axis.set_ylim(0, 100)
    axis.set_title(name, fontsize=10, wrap=True)
    label_steps(axis)


def draw(pyplot, grouped, names):
    """The whole figure: curves and entropy at the top, skip lengths below.

    `grouped` is from `run_reader.groups`, `names` has one for each group. Runs of an
    LSTM have only curves.
    """
    choosing = [
        each for each in zip(grouped, names, strict=True) if n_choices(each[0]) > 1
    ]
    rows = -(-len(choosing) // COLUMNS)
    heights = [3.0 + 0.2 * len(grouped)]  # with a line of the legend for each
    if choosing:
        heights.append(2.4 * rows)
    figure = pyplot.figure(figsize=(10, sum(heights)), layout="constrained")
    above, *below = figure.subfigures(
        len(heights), 1, height_ratios=heights, squeeze=False
    ).flat
    curves = list(above.subplots(1, len(heights), squeeze=False).flat)
    draw_learning(curves[0], grouped, names)
    if choosing:
        draw_entropy(curves[1], grouped)
        columns = min(COLUMNS, len(choosing))
        axes = list(below[0].subplots(rows, columns, squeeze=False).flat)
        for axis, (group, name) in zip(axes, choosing, strict=False):
            draw_skips(pyplot, axis, group, name)
        for axis in axes[len(choosing) :]:
            axis.set_visible(False)
        below[0].supylabel("choices by skip length, %", fontsize=11)
    for axis in curves:
        label_steps(axis)
    if len(grouped) > 1:
        above.legend(loc="outside upper left", frameon=False, fontsize=10)
    return figure


def main(argv):
    if len(argv) < 2:
        sys.exit("Give the folders of runs: python scripts/plot_run.py RUN [RUN ...]")
    pyplot = style.require("plot_run.py")
    grouped = run_reader.groups(read(argv[1:]))
    figure = draw(pyplot, grouped, run_reader.labels(grouped))
    with style.writing(FLAGS.out, ".png", ".svg") as pictures:
        style.save(figure, *pictures)


if __name__ == "__main__":
    argv = program.parse(FLAGS, __doc__, takes_arguments=True)
    program.main(FLAGS, lambda: main(argv))
