"""Plots of runs show what the metrics say."""

import numpy as np
import plot_run
import pytest
import small
from PIL import Image
from plots import run_reader, style
from test_run_reader import EPOCH, REPORT, made

from tests.stress.programs import PLOT_RUN


@pytest.mark.parametrize("task", ["language", "number"])
def test_a_run_is_drawn_to_both_files_the_same_each_time(task, request, tmp_path, call):
    run = request.getfixturevalue(f"{task}_run").run
    result = small.succeeds(call(tmp_path, PLOT_RUN, run, "--out=pictures/x"))
    paths = [tmp_path / "pictures" / name for name in ("x.png", "x.svg")]
    assert result.out == ["Written: pictures/x.png, pictures/x.svg"]
    with Image.open(paths[0]) as image:
        assert image.width == 1500
    before = [path.read_bytes() for path in paths]
    again = call(tmp_path, PLOT_RUN, run, "--out=pictures/x")
    assert [path.read_bytes() for path in paths] == before
    assert again.out[0].startswith("Written, over what was there: pictures/x.png")


# What the curves are


def records(steps, **values):
    return [
        {**REPORT, "step": step, **{name: v[i] for name, v in values.items()}}
        for i, step in enumerate(steps)
    ]


def draw(paths):
    """The figure of the runs in these folders."""
    grouped = run_reader.groups(plot_run.read(paths))
    names = run_reader.labels(grouped)
    return plot_run.draw(style.require("this"), grouped, names)


def drawn(tmp_path, *metrics):
    """The axes of runs with these metrics that differ in their seed."""
    paths = [
        made(tmp_path / f"run{seed}", [*reports, EPOCH], seed=seed)
        for seed, reports in enumerate(metrics)
    ]
    figure = draw(paths)
    figure.canvas.draw()
    return figure.axes


def test_seeds_are_averaged_at_the_steps_that_all_have(tmp_path):
    first = records((10, 20, 30), entropy=(1.0, 2.0, 3.0))
    second = records((10, 20), entropy=(3.0, 1.0))
    steps, values = plot_run.aligned([first, second], lambda record: record["entropy"])
    assert steps.tolist() == [10, 20]
    assert values.tolist() == [[1.0, 2.0], [3.0, 1.0]]


def test_places_without_a_group_are_left_blank(tmp_path):
    paths = [made(tmp_path / f"run{n}", rnn_size=n) for n in range(1, 5)]
    _, _, *skips = draw(paths).axes
    assert [axis.get_visible() for axis in skips] == [True] * 4 + [False] * 2


def test_runs_that_do_not_choose_have_curves_alone(tmp_path):
    one = {**REPORT, "entropy": 0.0, "actions": [1.0]}
    lstm = made(tmp_path / "lstm", [one, EPOCH], model="lstm")
    (learning,) = draw([lstm]).axes
    assert len(learning.lines) == 2
    learning, entropy, skips = draw([lstm, made(tmp_path / "dsc", model="dsc")]).axes
    assert len(learning.lines) == 4
    curve, uniform = entropy.lines
    assert curve.get_color() == learning.lines[2].get_color()
    assert uniform.get_ydata()[0] == pytest.approx(np.log(2))
    assert skips.get_title() == "model dsc"


def test_curves_are_means_in_a_band_from_the_lowest_to_the_highest(tmp_path):
    learning, entropy, _ = drawn(
        tmp_path,
        records((10, 20), nll=(2.0, 1.0), entropy=(0.4, 0.5)),
        records((10, 20), nll=(4.0, 3.0), entropy=(0.6, 0.1)),
    )
    validation, training = learning.lines[:2]
    assert validation.get_xydata().tolist() == [[EPOCH["step"], 11.5]]
    np.testing.assert_allclose(
        training.get_ydata(), [(np.e**2 + np.e**4) / 2, (np.e + np.e**3) / 2]
    )
    np.testing.assert_allclose(entropy.lines[0].get_ydata(), [0.5, 0.3])
    (band,) = entropy.collections
    corners = {tuple(np.round(xy, 6)) for xy in band.get_paths()[0].vertices}
    assert corners == {(10, 0.4), (10, 0.6), (20, 0.1), (20, 0.5)}
    assert entropy.lines[1].get_ydata()[0] == pytest.approx(np.log(2))


def test_a_model_of_characters_has_curves_of_bits_per_character(tmp_path):
    name = "bits per character"
    epoch = {k: v for k, v in EPOCH.items() if k != "valid perplexity"}
    metrics = [{**REPORT, name: 3.5}, {**epoch, f"valid {name}": 2.5}]
    run = made(tmp_path / "run", metrics)
    learning, *_ = draw([run]).axes
    assert [line.get_ydata().tolist() for line in learning.lines] == [[2.5], [3.5]]
    assert learning.get_ylabel().startswith(name) and learning.get_yscale() == "linear"


@pytest.mark.parametrize("nll", [2.0, 20.0])
def test_a_perplexity_out_of_all_bounds_leaves_the_picture(nll, tmp_path):
    learning, *_ = drawn(tmp_path, records((10, 20, 30), nll=(1.0, nll, 1.0)))
    top = learning.get_ylim()[1]
    assert max(11.5, np.exp(2.0)) < top <= 100 * np.e


@pytest.mark.parametrize("held", [None, np.inf, 1e308])
def test_a_perplexity_that_no_float_holds_leaves_a_gap(held, tmp_path):
    metrics = records((10, 20), nll=(2000.0, 1.0))
    metrics += [{**EPOCH, "valid perplexity": value} for value in (held, 5.0)]
    metrics[-1]["step"] = 20
    figure = draw([made(tmp_path / "run", metrics)])
    style.save(figure, tmp_path / "run.svg")
    validation, training = figure.axes[0].lines
    np.testing.assert_array_equal(validation.get_ydata(), [np.nan, 5.0])
    np.testing.assert_array_equal(training.get_ydata(), [np.nan, np.e])
    assert figure.axes[0].get_ylim()[1] < 10
    # Without any finite value the plot is empty.
    metrics = [*records((10,), nll=(2000.0,)), {**EPOCH, "valid perplexity": held}]
    style.save(draw([made(tmp_path / "none", metrics)]), tmp_path / "none.svg")


def test_skips_stand_upon_one_another_the_newest_state_at_the_bottom(tmp_path):
    *_, skips = drawn(
        tmp_path, records((10, 20), actions=([0.2, 0.3, 0.5], [0.1, 0.2, 0.7]))
    )
    heights = []
    for band in skips.collections:  # from the bottom to the top
        vertices = band.get_paths()[0].vertices
        at_the_end = vertices[vertices[:, 0] == 20, 1]
        heights.append((at_the_end.min(), at_the_end.max()))
    np.testing.assert_allclose(heights, [(0, 70), (70, 90), (90, 100)])
    assert [text.get_text() for text in skips.texts] == ["1", "2", "3"]
