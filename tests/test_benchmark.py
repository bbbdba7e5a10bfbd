"""The benchmark measures what it says; what it found is the README's business."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "benchmark.py"
SIZES = (
    "--rnn_size=8",
    "--vocab_size=50",
    "--batch_size=3",
    "--num_unroll_steps=4",
    "--repeats=2",
)
KEYS = {
    "lm": {
        "lm_step_s",
        "lm_step_over_floor",
        "lm_step_over_plain",
        "lm_step_over_keras",
        "lm_words_per_s",
    },
    "actions": {"lm_k20_over_k5_time", "lm_k50_over_k5_time"},
    "steps": {"lm_t70_over_t35_per_word", "lm_t140_over_t35_per_word"},
    "eval": {"eval_over_floor"},
    "np": {"np_step_over_floor", "np_step_over_without_xla", "np_epoch_s"},
    "memory": {"lm_peak_mb", "lm_k50_over_k5_memory"},
}


def run(*arguments):
    command = [sys.executable, SCRIPT, *SIZES, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def figures(tmp_path, *groups):
    path = tmp_path / "figures.json"
    result = run(f"--only={','.join(groups)}", f"--json={path}")
    assert result.returncode == 0, result.stderr
    found = json.loads(path.read_text())
    expected = set().union(*(KEYS.get(group, set()) for group in groups))
    assert expected <= found.keys()
    assert all(value >= 0 for value in found.values())
    return found


def test_steps_and_their_profile(tmp_path):
    found = figures(tmp_path, "lm", "profile")
    shares = [value for name, value in found.items() if name.startswith("lm_share_")]
    assert sum(shares) == pytest.approx(1.0)
    assert found["lm_share_matrix_products"] > 0 and found["lm_share_agent"] > 0


@pytest.mark.slow
def test_all_other_groups(tmp_path):
    found = figures(tmp_path, "actions", "steps", "eval", "np", "memory")
    # TensorFlow alone has hundreds; the parent's memory must not be counted in.
    assert 100 < found["lm_peak_mb"] < 2000


def test_an_unknown_group_is_refused():
    result = run("--only=lm,all")
    assert (result.returncode, result.stderr.count("\n")) != (0, 0)
    assert "Unknown: all; see --help." in result.stderr
