"""The results that the README promises, from the command line; each takes minutes."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PTB = [ROOT / "data" / "ptb", ROOT.parent / "shared" / "data" / "ptb"]

pytestmark = pytest.mark.slow


def run(script, *arguments):
    command = [sys.executable, ROOT / script, *map(str, arguments)]
    # As a user has it: other tests let XLA optimise less, since they compute so little.
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    return subprocess.run(
        command, check=True, capture_output=True, text=True, env=environment
    ).stdout


def test_number_prediction_makes_no_mistakes(tmp_path):
    data = f"--data_dir={tmp_path}"
    run("number_prediction/produce_data.py", data)
    place = f"--train_dir={tmp_path / 'run'}"
    output = run("number_prediction/rl_train.py", data, "--max_epochs=8", place)
    accuracy = re.search(r"test accuracy = ([\d.]+) \(greedy\)", output)
    assert float(accuracy[1]) >= 0.9995


def test_the_penn_treebank_is_learned_with_a_living_policy(tmp_path):
    folder = next((path for path in PTB if path.is_dir()), None)
    if folder is None:
        pytest.skip("no Penn Treebank in data/ptb (scripts/get_ptb.py)")
    output = run(
        "language_modeling/rl_train.py",
        f"--data_dir={folder}",
        "--rnn_size=200",
        "--dropout=0.2",
        "--max_steps=600",
        f"--train_dir={tmp_path / 'run'}",
    )
    perplexity = re.search(r"done in .* valid perplexity = ([\d.]+)", output)
    assert float(perplexity[1]) < 600  # 10,000 words
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    last = [record for record in map(json.loads, lines) if "entropy" in record][-1]
    assert last["entropy"] > 0.3
    assert sum(share > 0.05 for share in last["actions"]) >= 3
