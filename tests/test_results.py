"""The results that the README promises, from the command line; each takes minutes."""

import os
import re
import subprocess
import sys

import pytest
from small import metrics

from tests.stress import programs

pytestmark = pytest.mark.slow


def run(script, *arguments):
    command = [sys.executable, programs.ROOT / script, *map(str, arguments)]
    # As a user has it: other tests let XLA optimise less, since they compute so little.
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


def test_number_prediction_makes_no_mistakes(tmp_path):
    data = f"--data_dir={tmp_path}"
    run("number_prediction/produce_data.py", data, "--n_test=20000")
    place = f"--train_dir={tmp_path / 'run'}"
    output = run("number_prediction/rl_train.py", data, "--max_epochs=8", place)
    accuracy = re.search(r"test accuracy = ([\d.]+) \(greedy\)", output)
    assert float(accuracy[1]) >= 0.9995


def test_the_penn_treebank_is_learned_with_a_living_policy(tmp_path, ptb):
    output = run(
        "language_modeling/rl_train.py",
        f"--data_dir={ptb}",
        "--rnn_size=100",
        "--rnn_layers=1",
        "--dropout=0.2",
        "--max_steps=400",
        f"--train_dir={tmp_path / 'run'}",
    )
    perplexity = re.search(r"done in .* valid perplexity = ([\d.]+)", output)
    assert float(perplexity[1]) < 600  # 10,000 words
    last = [record for record in metrics(tmp_path / "run") if "entropy" in record][-1]
    assert last["entropy"] > 0.3
    assert sum(share > 0.05 for share in last["actions"]) >= 3
