"""Pictures of runs: that they show what the metrics say, and which runs they refuse."""

import numpy as np
import plot_places
import plot_run
import pytest
from PIL import Image
from plots import run_reader, style
from test_run_reader import EPOCH, REPORT, made

from language_modeling.agreement import grammar
from tests.stress import programs
from tests.stress.programs import LANGUAGE, NUMBERS, PRODUCE

PLOT_RUN = programs.ROOT / "scripts" / "plot_run.py"
PLOT_PLACES = programs.ROOT / "scripts" / "plot_places.py"


def succeeds(folder, script, *arguments):
    result = programs.run(folder, script, *arguments, timeout=200)
    assert result.code == 0, result
    return result


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a small run of each task, `language` and `numbers`."""
    folder = tmp_path_factory.mktemp("plots")
    grammar.write(folder / "corpus", seed=3, n_train=600, n_valid=150, n_test=140)
    sizes = ("--rnn_size=6", "--agent_units=4", "--print_every=3", "--max_epochs=2")
    succeeds(
        folder,
        LANGUAGE,
        *("--data_dir=corpus", "--train_dir=language", "--rnn_layers=1"),
        *("--batch_size=4", "--num_unroll_steps=6", *sizes),
    )
    counts = ("--n_train=60", "--n_valid=40", "--n_test=30")
    succeeds(folder, PRODUCE, "--data_dir=.", *counts)
    succeeds(
        folder,
        NUMBERS,
        *("--data_dir=.", "--train_dir=numbers", "--batch_size=8", *sizes),
        "--nojit_compile",
    )
    return folder


@pytest.mark.parametrize("task", ["language", "numbers"])
def test_a_run_is_drawn_to_both_files_the_same_each_time(folder, task):
    result = succeeds(folder, PLOT_RUN, task, f"--out=pictures/{task}")
    paths = [folder / "pictures" / f"{task}{suffix}" for suffix in (".png", ".svg")]
    written = ", ".join(str(path.relative_to(folder)) for path in paths)
    assert result.out == [f"Written: {written}"]
    with Image.open(paths[0]) as image:
        assert image.width == 1500
    before = [path.read_bytes() for path in paths]
    again = succeeds(folder, PLOT_RUN, task, f"--out=pictures/{task}")
    assert [path.read_bytes() for path in paths] == before
    assert again.out == [f"Written, over what was there: {written}"]


def test_places_of_a_run_are_drawn_side_by_side_and_in_turn(folder):
    succeeds(folder, PLOT_PLACES, "numbers", "--out=places")
    assert (folder / "places.svg").read_text().count("<image") >= 2
    with Image.open(folder / "places.gif") as animation:
        assert animation.n_frames == 2


REFUSED = {
    "no run": (PLOT_RUN, ("here",), "here holds no run"),
    "no argument": (PLOT_RUN, (), "Give the folders of runs"),
    "two tasks": (PLOT_RUN, ("language", "numbers"), "draw each task in a picture"),
    "a place for words": (PLOT_PLACES, ("language",), "no epoch of number prediction"),
    "two places": (PLOT_PLACES, ("numbers", "numbers"), "Give the folder of one run"),
    "a file for a folder": (
        PLOT_RUN,
        ("numbers", "--out=corpus/train.txt/x"),
        "--out:",
    ),
    "a folder": (PLOT_RUN, ("numbers", "--out=corpus/"), "--out: 'corpus/' names no"),
    "here": (PLOT_PLACES, ("numbers", "--out=."), "--out: '.' names no file; give"),
    "no path": (PLOT_RUN, ("numbers", "--out="), "flag --out=: it is empty; give"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_drawn_is_refused_in_one_sentence(folder, case):
    script, arguments, sentence = REFUSED[case]
    result = programs.run(folder, script, *arguments, timeout=60)
    assert result.code == 1
    assert len(result.err) == 1 and sentence in result.err[0]


def test_a_picture_that_has_nothing_to_draw_with_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(SystemExit, match=r"^this needs matplotlib: pip install .*plot"):
        style.require("this")


def drawn_text(text, path):
    """Text as `plotting.save` draws it."""
    pyplot = style.require("this")
    figure = pyplot.figure()
    drawn = figure.text(0.5, 0.5, text, wrap=True)
    style.save(figure, path.with_suffix(".png"), path.with_suffix(".svg"))
    pyplot.close(figure)
    return drawn


def test_characters_are_drawn_with_an_installed_font_that_has_them(tmp_path, capsys):
    families = drawn_text("a \u2312", tmp_path / "x").get_fontfamily()
    assert families[0] == "DejaVu Sans" and len(families) == 2
    assert capsys.readouterr().err == ""


@pytest.mark.filterwarnings("error")
def test_characters_that_no_font_has_are_said_once(tmp_path, capsys, monkeypatch):
    manager = pytest.importorskip("matplotlib.font_manager").fontManager
    ours = [font for font in manager.ttflist if font.name.startswith("DejaVu")]
    monkeypatch.setattr(manager, "ttflist", ours)
    drawn_text("\u6a21\u578b \u6a21", tmp_path / "x")
    assert capsys.readouterr().err.splitlines() == [
        "No installed font has \u578b \u6a21: boxes are drawn; install one that has, "
        "such as Noto Sans CJK."
    ]


@pytest.mark.parametrize("name", ["a$\\frac$b", "caf\udce9"])
def test_any_name_of_a_folder_is_drawn(name, tmp_path):
    drawn_text(name, tmp_path / "x")


# What the curves are


def records(steps, **values):
    return [
        {**REPORT, "step": step, **{name: v[i] for name, v in values.items()}}
        for i, step in enumerate(steps)
    ]


def test_seeds_are_averaged_at_the_steps_that_all_have(tmp_path):
    first = records((10, 20, 30), entropy=(1.0, 2.0, 3.0))
    second = records((10, 20), entropy=(3.0, 1.0))
    steps, values = plot_run.aligned([first, second], lambda record: record["entropy"])
    assert steps.tolist() == [10, 20]
    assert values.tolist() == [[1.0, 2.0], [3.0, 1.0]]


def drawn(tmp_path, *metrics):
    """The axes of runs with these metrics that differ in their seed."""
    paths = [
        made(tmp_path / f"run{seed}", [*reports, EPOCH], seed=seed)
        for seed, reports in enumerate(metrics)
    ]
    pyplot = style.require("this")
    grouped = run_reader.groups(plot_run.read(paths))
    figure = plot_run.draw(pyplot, grouped, run_reader.labels(grouped))
    figure.canvas.draw()
    return figure.axes


def test_places_without_a_group_are_left_blank(tmp_path):
    paths = [made(tmp_path / f"run{n}", rnn_size=n) for n in range(1, 5)]
    grouped = run_reader.groups(plot_run.read(paths))
    figure = plot_run.draw(style.require("this"), grouped, run_reader.labels(grouped))
    _, _, *skips = figure.axes
    assert [axis.get_visible() for axis in skips] == [True] * 4 + [False] * 2


def test_runs_that_do_not_choose_have_curves_alone(tmp_path):
    one = {**REPORT, "entropy": 0.0, "actions": [1.0]}
    paths = [
        made(tmp_path / "lstm", [one, EPOCH], model="lstm"),
        made(tmp_path / "dsc", model="dsc"),
    ]
    pyplot = style.require("this")
    (group,) = run_reader.groups(plot_run.read(paths[:1]))
    (learning,) = plot_run.draw(pyplot, [group], ["lstm"]).axes
    assert len(learning.lines) == 2
    grouped = run_reader.groups(plot_run.read(paths))
    figure = plot_run.draw(pyplot, grouped, run_reader.labels(grouped))
    learning, entropy, skips = figure.axes
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
    grouped = run_reader.groups(plot_run.read([made(tmp_path / "run", metrics)]))
    figure = plot_run.draw(style.require("this"), grouped, ["a"])
    style.save(figure, tmp_path / "run.svg")
    validation, training = figure.axes[0].lines
    np.testing.assert_array_equal(validation.get_ydata(), [np.nan, 5.0])
    np.testing.assert_array_equal(training.get_ydata(), [np.nan, np.e])
    assert figure.axes[0].get_ylim()[1] < 10


def test_a_run_without_a_finite_perplexity_is_drawn_all_the_same(tmp_path):
    metrics = [*records((10,), nll=(2000.0,)), {**EPOCH, "valid perplexity": None}]
    grouped = run_reader.groups(plot_run.read([made(tmp_path / "run", metrics)]))
    figure = plot_run.draw(style.require("this"), grouped, ["a"])
    style.save(figure, tmp_path / "run.svg")


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
    """The numbers that stand at an axis, as they are read."""
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
    assert len(titles) == plot_places.MOST
    assert titles[0].startswith("epoch 1\n") and titles[-1].startswith("epoch 13\n")
