"""What --model puts in the DSC-LSTM's place, from the flags to the numbers."""

import math

import pytest

from dsc.cli.flags import MODELS
from dsc.recipes import LANGUAGE_MODELING, Recipe
from language_modeling.agreement import grammar
from tests.stress import programs
from tests.stress.programs import LANGUAGE, NUMBERS, PRODUCE

SMALL = ("--rnn_size=8", "--agent_units=5", "--max_epochs=1", "--train_dir=run")
WINDOWS = ("--batch_size=4", "--num_unroll_steps=6", "--rnn_layers=1")


@pytest.fixture(scope="module")
def tmp(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    grammar.write(folder / "corpus", seed=3, n_train=600, n_valid=150, n_test=140)
    sizes = ("--n_train=60", "--n_valid=30", "--n_test=40", "--data_dir=.")
    assert programs.run(folder, PRODUCE, *sizes).code == 0
    return folder


def run(tmp, name, script, *arguments, code=0):
    result = programs.run(tmp / name, script, *SMALL, *arguments, timeout=100)
    assert result.code == code, result
    return result


def test_a_recipe_fits_the_model():
    recipe = LANGUAGE_MODELING["corrected"]
    assert recipe.for_model("dsc") == recipe
    attention = recipe.for_model("attention")
    assert (attention.rl_weight, attention.entropy_weight) == (0.0, 0.0)
    assert Recipe().for_model("random_skip").eval_actions == "sample"


SHARES = {
    "dsc": None,
    "lstm": "1: 1.00",
    "fixed_skip": "1: 0.00 2: 0.00 3: 1.00",
    "random_skip": None,
    "attention": None,
}


@pytest.mark.parametrize("model", MODELS)
def test_a_language_model_of_each_kind_trains_and_loads(tmp, model):
    arguments = ("--data_dir=../corpus", *WINDOWS)
    trained = run(tmp, model, LANGUAGE, *arguments, f"--model={model}", "--n_actions=3")
    skips, test = trained.out[-2:]
    if SHARES[model]:
        assert skips == f"test skips chosen = {SHARES[model]}"
    if model == "attention":  # which weighs, and chooses none
        assert "skip" not in "".join(trained.out)
    if model == "random_skip":
        shares = [float(part) for part in skips.split()[5::2]]
        assert all(abs(share - 1 / 3) < 0.2 for share in shares)
    assert math.isfinite(float(test.split()[-1]))
    loaded = programs.run(tmp / model, LANGUAGE, *arguments, "--load_model=run")
    assert loaded.out[-2:] == trained.out[-2:]


@pytest.mark.parametrize("model", [m for m in MODELS if m != "dsc"])
def test_a_number_predictor_of_each_kind_trains(tmp, model):
    arguments = ("--data_dir=..", "--batch_size=20", f"--model={model}")
    # To compile takes longer than to train so little.
    result = run(tmp, f"np-{model}", NUMBERS, *arguments, "--nojit_compile")
    numbers = result.out[-1].split()
    greedy, sampled = float(numbers[3]), float(numbers[5])
    assert 0.0 <= min(greedy, sampled) <= max(greedy, sampled) <= 1.0
    if model != "attention":  # the same choices in both
        assert greedy == sampled


@pytest.mark.parametrize(
    "arguments",
    [
        ("--model=attention", "--rl_weight=0.3"),
        ("--model=attention", "--entropy_weight=0.1"),
        ("--model=random_skip", "--eval_actions=greedy"),
    ],
)
def test_a_flag_that_a_model_cannot_follow_is_refused(tmp, arguments):
    result = run(tmp, "refused", LANGUAGE, *arguments, code=1)
    assert "--model attention has no policy to weigh" in result.err[0]
    assert not (tmp / "refused" / "run").exists()
