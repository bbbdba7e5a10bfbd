"""The benchmark prints the figures of its groups and refuses wrong flags."""

import json
import sys

import benchmark
import pytest

from tests.stress import programs

SCRIPT = programs.ROOT / "scripts" / "benchmark.py"
SIZES = ("--rnn_size=8", "--vocab_size=50", "--batch_size=3", "--num_unroll_steps=4")


def run(folder, *arguments):
    return programs.run(folder, SCRIPT, *SIZES, "--repeats=2", *arguments)


def figures(tmp_path, *groups, plot=None):
    path = tmp_path / "figures.json"
    places = [f"--json={path}", *([f"--plot={plot}"] if plot else [])]
    result = run(tmp_path, f"--only={','.join(groups)}", *places)
    assert result.code == 0, result
    found = json.loads(path.read_text())
    expected = {name for group in groups for name in benchmark.RATIOS.get(group, ())}
    assert expected <= found.keys()
    assert all(value >= 0 for value in found.values())
    return found


@pytest.mark.slow
def test_what_the_plot_shows_and_the_profile(tmp_path):
    plot = tmp_path / "speed.svg"
    found = figures(tmp_path, "lm", "actions", "steps", "profile", plot=plot)
    shares = [value for name, value in found.items() if name.startswith("lm_share_")]
    assert sum(shares) == pytest.approx(1.0)
    assert found["lm_share_matrix_products"] > 0 and found["lm_words_per_s"] > 0
    assert plot.read_text().startswith("<?xml")


@pytest.mark.slow
def test_all_other_groups(tmp_path):
    figures(tmp_path, "agent", "eval", "np")


@pytest.mark.slow
def test_the_memory_of_a_case_is_that_of_a_process_of_its_own(monkeypatch):
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *SIZES])
    monkeypatch.setattr(benchmark, "MEMORY_CASES", ("lm", "lm_k50"))
    found = benchmark.measure_memory()
    # TensorFlow alone takes hundreds; the parent's memory must not be included.
    assert 100 < found["lm_peak_mb"] < 2000
    assert found["lm_k50_over_k5_memory"] == pytest.approx(1.0, rel=0.2)


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("--only=lm,all", "flag --only=lm,all: there is no such group"),
        ("--json=gone/x.json", "--json: cannot write to gone/x.json (No such file "),
        ("--json=here", "--json: cannot write to here (Is a directory)"),
        ("--plot=speed", "--plot takes a path that ends in .png or .svg."),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_measured(
    tmp_path, argument, said
):
    (tmp_path / "here").mkdir()
    code, out, (line,) = run(tmp_path, argument)
    assert (code, out) == (1, [])
    assert line.startswith(said)
