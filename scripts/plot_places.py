"""Plots where the number predictor looks back to when it reads the index.

    python scripts/plot_places.py cv-number-prediction --out places

writes places.png and places.svg, epochs side by side, and places.gif, an animation over
the epochs. Rows are index numbers, columns the places of the last --n_numbers numbers.
The colour is the share of validation sequences in which the greedy agent continued from
the state after the number at that place. An agent that looks straight at the number
that is asked for has the diagonal.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this clone's code

import numpy as np
from plots import run_reader, style

from dsc.cli import program
from dsc.cli.errors import RunError
from dsc.cli.flags import Group
from number_prediction import LAST_ACTIONS

ROWS, COLUMNS = "index number", "place of the number that it continues from"
MAX_FRAMES = 6  # side by side
FRAMES_PER_SECOND, LAST_FRAME = 2, 4  # the last one is shown for so many frames

group = Group("flags")
FLAGS = group.defined
group.path("out", "places", "path of the pictures, without suffix")


def read_places(path):
    """Reads where a run looked back to, for each of its epochs.

    Returns a list of `(epoch, accuracy, shares [n_numbers, n_actions])`; rows of shares
    sum to 1.
    """
    found = []
    for record in run_reader.read(path).epochs:
        if LAST_ACTIONS in record:
            counts = np.array(record[LAST_ACTIONS], float)
            shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
            found.append((record["epoch"], record["valid accuracy (greedy)"], shares))
    if not found:
        raise RunError(
            f"{path} has no epoch of number prediction; give the --train_dir of "
            "number_prediction/rl_train.py after its first epoch."
        )
    return found


def draw(axis, shares):
    """Draws one matrix; returns its image."""
    n_numbers, n_actions = shares.shape
    end = n_numbers - 0.5
    image = axis.imshow(
        shares,
        cmap=style.ORDERED,
        vmin=0,
        vmax=1,
        # The newest of the K states is the one after the number at the last place.
        extent=(end - n_actions, end, end, -0.5),
        aspect="auto",
    )
    axis.locator_params(nbins=10, integer=True, min_n_ticks=1)
    if n_actions > 10:  # labels of two digits stand side by side
        axis.locator_params("x", nbins=5)
    axis.tick_params(length=0, labelsize=8)
    axis.spines[:].set_visible(False)
    return image


def draw_side_by_side(pyplot, places):
    """A figure of at most `MAX_FRAMES` epochs, including the first and the last."""
    chosen = np.linspace(0, len(places) - 1, MAX_FRAMES).round().astype(int)
    chosen = [places[i] for i in np.unique(chosen)]
    n = len(chosen)
    figure, axes = pyplot.subplots(
        1, n, figsize=(1.2 + 1.6 * n, 2.5), layout="constrained", squeeze=False
    )
    for axis, (epoch, accuracy, shares) in zip(axes[0], chosen, strict=True):
        image = draw(axis, shares)
        axis.set_title(f"epoch {epoch}\n{accuracy:.1%} right", fontsize=10)
    axes[0, 0].set_ylabel(ROWS)
    figure.supxlabel(COLUMNS, fontsize=11)
    figure.colorbar(image, ax=axes, label="share of sequences", pad=0.01)
    return figure


def animate(pyplot, places, path):
    """Writes a GIF with one frame per epoch."""
    from matplotlib.animation import PillowWriter

    figure, axis = pyplot.subplots(figsize=(4.2, 3.7), layout="constrained")
    image = draw(axis, places[0][2])
    axis.set(xlabel=COLUMNS, ylabel=ROWS)
    figure.colorbar(image, label="share of sequences")
    writer = PillowWriter(fps=FRAMES_PER_SECOND)
    with writer.saving(figure, path, dpi=110):
        for epoch, accuracy, shares in places + places[-1:] * (LAST_FRAME - 1):
            image.set_data(shares)
            axis.set_title(f"epoch {epoch}, {accuracy:.1%} right")
            writer.grab_frame()


def main(argv):
    if len(argv) != 2:
        sys.exit("Give the folder of one run: python scripts/plot_places.py RUN")
    pyplot = style.require("plot_places.py")
    places = read_places(argv[1])
    figure = draw_side_by_side(pyplot, places)
    with style.writing(FLAGS.out, ".png", ".svg", ".gif") as (*pictures, gif):
        style.save(figure, *pictures)
        animate(pyplot, places, gif)


if __name__ == "__main__":
    argv = program.parse(FLAGS, __doc__, takes_arguments=True)
    program.main(FLAGS, lambda: main(argv))
