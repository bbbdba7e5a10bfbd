"""Pictures of where number prediction looks back to."""

import numpy as np
import plot_places
import pytest
import small
from PIL import Image
from plots import style

from tests.stress.programs import PLOT_PLACES


def test_places_of_a_run_are_drawn_side_by_side_and_in_turn(number_run, tmp_path, call):
    small.succeeds(call(tmp_path, PLOT_PLACES, number_run.run, "--out=places"))
    assert (tmp_path / "places.svg").read_text().count("<image") >= 2
    with Image.open(tmp_path / "places.gif") as animation:
        assert animation.n_frames == 2


@pytest.mark.parametrize("n_numbers", [7, 10, 25])
def test_a_place_is_that_of_the_number_that_left_the_state(n_numbers):
    pyplot = style.require("this")
    shares = np.zeros((n_numbers, 4))
    # Of 4 states the second oldest: that of the third last number.
    place = n_numbers - 3
    shares[place, 1] = 1.0
    _, axis = pyplot.subplots()
    image = plot_places.draw(axis, shares)
    left, right, bottom, top = image.get_extent()
    x = int((place - left) / (right - left) * 4)
    y = int((place - top) / (bottom - top) * n_numbers)
    assert image.get_array()[y, x] == 1.0


def labels(axis):
    """The numbers at an axis, in order."""
    low, high = sorted(axis.get_view_interval())
    return [int(place) for place in axis.get_ticklocs() if low <= place <= high]


@pytest.mark.parametrize(
    ("shape", "rows", "columns"),
    [
        ((10, 10), list(range(10)), list(range(10))),
        ((2, 1), [0, 1], [1]),
        ((7, 4), list(range(7)), [3, 4, 5, 6]),
        ((25, 30), list(range(0, 25, 5)), [0, 10, 20]),
        ((256, 256), list(range(0, 256, 50)), [0, 100, 200]),
    ],
)
def test_places_are_numbered_in_whole_numbers_few_enough_to_read(shape, rows, columns):
    pyplot = style.require("this")
    _, axis = pyplot.subplots()
    plot_places.draw(axis, np.zeros(shape))
    assert labels(axis.yaxis) == rows
    assert labels(axis.xaxis) == columns


def test_at_most_six_epochs_stand_side_by_side_the_last_among_them():
    pyplot = style.require("this")
    places = [(epoch, 0.5, np.full((10, 10), 0.1)) for epoch in range(1, 14)]
    figure = plot_places.draw_side_by_side(pyplot, places)
    titles = [axis.get_title() for axis in figure.axes if axis.get_title()]
    assert len(titles) == plot_places.MAX_FRAMES
    assert titles[0].startswith("epoch 1\n") and titles[-1].startswith("epoch 13\n")
