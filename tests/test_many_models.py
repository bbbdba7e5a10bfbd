"""Many language models in one JAX program: equal to single ones, and as a sweep."""

import re
import signal
import time

import isolated
import pytest
import small
from isolated import needs_jax

from tests.stress import programs

SWEEP = programs.ROOT / "scripts" / "sweep.py"
MODELS = ("dsc", "lstm", "random_skip")
EPOCHS = 2


@needs_jax
@pytest.mark.slow
def test_models_trained_together_equal_single_ones():
    isolated.succeeds(isolated.start("on_jax/many_models.py"))


def start(folder, data, *arguments, models=MODELS):
    """Starts a sweep of small models, two seeds of each kind."""
    folder.mkdir(exist_ok=True)
    places = (f"--data_dir={data}/corpus", f"--cache_dir={folder.parent}/cache")
    engine = ("--engine=jax", "--script=scripts/train_jax.py", "--seeds=1,2")
    length = (f"--max_epochs={EPOCHS}", "--print_every=5")
    grid = (f"--model={','.join(models)}", *small.LANGUAGE, *length)
    place = f"--sweep_dir={folder / 'sweep'}"
    return isolated.start(SWEEP, *engine, *grid, *places, place, *arguments)


def run_folders(folder):
    """Dict from `(model, seed)` to the folder of the run."""
    found = {}
    for path in folder.glob("sweep/*/seed=*"):
        (model,) = re.findall(r"model=(\w+)", path.parent.name)
        found[model, path.name] = path
    return found


@needs_jax
@pytest.mark.slow
def test_a_sweep_in_one_program_resumes_and_its_runs_are_ordinary(tmp_path, data, call):
    whole, hurt = tmp_path / "whole", tmp_path / "hurt"
    lines = isolated.succeeds(start(whole, data))
    assert sum(" done (" in line for line in lines) == 2 * len(MODELS)
    assert sum(line.startswith("epoch ") for line in lines) == EPOCHS
    runs = run_folders(whole)
    assert runs.keys() == {(m, f"seed={n}") for m in MODELS for n in (1, 2)}
    for path in runs.values():
        records = small.metrics(path)
        scores = [r["valid perplexity"] for r in records if "valid perplexity" in r]
        assert len(scores) == EPOCHS and min(scores) < 264  # words in the vocabulary

    process = start(hurt, data)
    while not list(hurt.glob("sweep/*/seed=2/last/state-000001-*")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130, err
    assert "Interrupted by SIGINT: repeat the same command" in err
    isolated.succeeds(start(hurt, data))
    for key, path in run_folders(hurt).items():
        assert small.metrics(path) == small.metrics(runs[key])
    tables = [(f / "sweep" / "table.csv").read_text() for f in (whole, hurt)]
    assert tables[0] == tables[1]

    again = isolated.succeeds(start(whole, data))
    assert again[0].startswith("6 runs, 6 of them finished before.")

    folder = runs["dsc", "seed=1"]
    arguments = (f"--data_dir={data}/corpus", f"--load_model={folder}")
    result = small.succeeds(call(tmp_path, programs.LANGUAGE, *arguments))
    expected = re.findall(
        r"^test perplexity = (.*)", (folder / "output.txt").read_text(), re.M
    )
    found = re.findall(r"test perplexity = (.*)", result.out[-1])
    assert float(found[0]) == pytest.approx(float(expected[0]), rel=1e-5)


@needs_jax
@pytest.mark.slow
def test_a_model_that_diverges_does_not_stop_the_others(tmp_path, data):
    rates = ("--learning_rate=1,1e30", "--max_grad_norm=1e9", "--seeds=1")
    process = start(tmp_path, data, *rates, models=("lstm",))
    out, err = process.communicate()
    assert process.returncode == 1, err
    assert "1 of 2 runs failed" in err
    (line,) = (line for line in out.splitlines() if "FAILED" in line)
    assert "1e%2B30" in line and "training has diverged" in line


@needs_jax
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--script=number_prediction/rl_train.py",), "--engine jax trains language"),
        (
            ("--script=scripts/train_jax.py", "--model=dsc,attention"),
            "--model attention chooses no state",
        ),
        (
            ("--script=scripts/train_jax.py", "--eval_actions=mean:3"),
            "--eval_actions mean:3 needs a state for each pass",
        ),
        (
            ("--script=scripts/train_jax.py", "--recipe=released"),
            "--recipe released counts",
        ),
    ],
)
def test_what_cannot_share_a_program_is_refused(tmp_path, arguments, said):
    place = f"--sweep_dir={tmp_path / 'sweep'}"
    process = isolated.start(SWEEP, "--engine=jax", place, *arguments)
    _, err = process.communicate()
    (line,) = err.splitlines()
    assert process.returncode == 1 and said in line
