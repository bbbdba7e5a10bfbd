"""Recipes: the switches that act outside the losses, and how flags override them."""

import copy
import dataclasses

import keras
import numpy as np
import pytest
from absl import flags

from dsc import DSCLSTM
from dsc.cli import flags as shared_flags
from dsc.recipes import LANGUAGE_MODELING, Recipe
from language_modeling import flags as language_flags
from language_modeling import model as language_model
from language_modeling.corpora import Corpus
from language_modeling.schedule import Schedule
from language_modeling.task import LanguageModeling
from number_prediction import model as number_predictor
from number_prediction.task import NumberPrediction, Predictions


@pytest.mark.parametrize(("switch", "forget_bias"), [(False, 1.5), (True, 0.25)])
def test_lamda_is_forget_bias(switch, forget_bias):
    recipe = Recipe(lamda_is_forget_bias=switch)
    lamda, bias = recipe.cell_arguments(lamda=0.25, forget_bias=1.5)
    assert lamda == (1.0 if switch else 0.25)
    layer = DSCLSTM(3, 2, lamda, bias, kernel_initializer="zeros", return_state=True)
    ones = np.ones((1, 3), np.float32)
    _, _, c = layer(np.zeros((1, 1, 5), np.float32), initial_state=[0 * ones, ones])
    # With a zero kernel the cell keeps what the forget gate lets through.
    np.testing.assert_allclose(c, 1 / (1 + np.exp(-forget_bias)) * ones, rtol=1e-5)


def test_the_papers_model_is_set_by_flags_that_are_not_given():
    given = copy.deepcopy(language_flags.FLAGS)
    given(["", "--recipe=paper", "--agent_units=7"])
    shared_flags.apply_recipe(given)
    arguments = language_flags.model_arguments(given)
    assert arguments["rnn_layers"] == 1
    assert arguments["observation"] == "last"
    assert arguments["agent_units"] == 7
    # A run keeps the values, so that it is loaded with them.
    assert shared_flags.values(given)["rnn_layers"] == 1
    other = copy.deepcopy(language_flags.FLAGS)
    other([""])
    shared_flags.apply_recipe(other)
    assert language_flags.model_arguments(other)["rnn_layers"] == 2


def language_task(recipe):
    """A task whose agent chooses its three states with probabilities 0.2, 0.5, 0.3."""
    model = language_model.LanguageModel(
        11, rnn_size=2, rnn_layers=0, n_actions=3, agent_units=4, seed=1
    )
    model.build()
    logits = model.dsc.cell.agent_logits
    logits.kernel.assign(np.zeros(logits.kernel.shape))
    logits.bias.assign(np.log([0.2, 0.5, 0.3]))
    ids = np.random.default_rng(2).integers(0, 11, 4_003, dtype=np.int32)
    corpus = Corpus(
        tuple("abcdefghijk"), dict.fromkeys(("train", "valid"), ids), {}, {}
    )
    return LanguageModeling(
        model,
        keras.optimizers.SGD(0.005),
        corpus,
        recipe,
        batch_size=4,
        n_steps=50,
        dropout=0.0,
        seed=3,
        max_grad_norm=5.0,
        schedule=Schedule(0.5, 0.005, 1.0),
    )


def answer_task(recipe):
    model = number_predictor.NumberPredictor(2, 3, agent_units=4)
    model.build()
    data = {
        split: (np.zeros((n, 11), np.int32), np.zeros(n, np.int32))
        for split, n in {"train": 6, "valid": 4}.items()
    }
    optimizer = keras.optimizers.Adam()
    return NumberPrediction(model, optimizer, data, recipe, 2, seed=3, patience=1)


@pytest.mark.parametrize("make", [language_task, answer_task])
def test_the_entropy_weight_decays_by_its_factor_per_epoch(make):
    decaying = make(Recipe(entropy_weight=0.8, entropy_decay=0.25))
    batch, state = decaying.batch(0, 0), decaying.initial_state()
    for step in (0, 7):  # which also number the random numbers
        weight = 0.8 * 0.25 ** (step / decaying.n_batches)
        steady = make(Recipe(entropy_weight=weight))
        steady.model.set_weights(decaying.model.get_weights())
        (total, *_), (expected, *_) = (
            task.loss(np.int64(step), batch, state) for task in (decaying, steady)
        )
        assert float(total) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize(
    ("switch", "shares"),
    [
        ("greedy", (0, 1, 0)),
        ("sample", (0.2, 0.5, 0.3)),
        ("newest", (0, 0, 1)),
        ("mean:2", (0.2, 0.5, 0.3)),
    ],
)
def test_eval_actions(switch, shares):
    task = language_task(Recipe(eval_actions=switch))
    score = task.score("valid")
    again = task.score("valid").actions
    np.testing.assert_array_equal(again, score.actions)
    shares = np.array(shares)
    errors = np.sqrt(shares * (1 - shares) / (19 * 4 * 50))  # 19 windows
    assert np.all(np.abs(score.actions - shares) <= 4 * errors)


@pytest.mark.parametrize("switch", ["greedy", "sample", "newest"])
def test_number_prediction_is_chosen_by_the_accuracy_that_eval_actions_names(
    switch, monkeypatch
):
    task = answer_task(Recipe(eval_actions=switch))
    answers = {"greedy": [0, 0, 9, 0], "sample": [0, 9, 9, 0]}  # 0 is always right
    answers["newest"] = [0, 0, 0, 0]
    monkeypatch.setattr(
        task,
        "predict",
        lambda _, actions: Predictions(np.array(answers[actions]), np.zeros(4, int)),
    )
    scores, score = task.evaluate()
    expected = {"greedy": (0.75, 0.5), "sample": (0.5, 0.75), "newest": (1.0, 0.5)}
    assert score == expected[switch]
    assert scores.get("valid accuracy (newest)", 1.0) == 1.0
    assert ("valid accuracy (newest)" in scores) == (switch == "newest")
    assert scores["valid accuracy (greedy)"] == 0.75
    assert scores["valid accuracy (sampled)"] == 0.5


@pytest.mark.parametrize("switch", [False, True])
def test_early_stopping(switch):
    recipe = Recipe(early_stopping=switch)
    words = language_task(recipe)
    # The learning rate is at its threshold.
    words_end = [words.end_epoch(-100.0) for _ in range(3)]
    answers = answer_task(recipe)
    answers_end = [answers.end_epoch((0.5, 0.5)) for _ in range(2)]
    for reasons in (words_end, answers_end):
        assert reasons[0] is None
        assert (reasons[1] is not None) == switch


@pytest.mark.parametrize("make", [language_task, answer_task])
@pytest.mark.parametrize("switch", [False, True])
def test_tasks_count_the_norm_as_their_recipe_says(make, switch):
    assert make(Recipe(dense_norm=switch)).dense_norm == switch


def parsed(*arguments):
    """Flags as the scripts define them: None unless the user gives them."""
    values = flags.FlagValues()
    flags.DEFINE_float("rl_weight", None, "", flag_values=values)
    flags.DEFINE_float("entropy_weight", None, "", flag_values=values)
    flags.DEFINE_string("baseline", None, "", flag_values=values)
    flags.DEFINE_bool("released_data", None, "", flag_values=values)
    flags.DEFINE_string("recipe", "released", "", flag_values=values)
    values(["program", *arguments])
    return values


@pytest.mark.parametrize(
    ("argument", "change"),
    [
        ("--rl_weight=0.7", {"rl_weight": 0.7}),
        ("--entropy_weight=0", {"entropy_weight": 0.0}),  # 0 is a value, not none
        ("--baseline=mean", {"baseline": "mean"}),
        ("--noreleased_data", {"released_data": False}),
        ("--recipe=corrected", {}),  # no switch of that name
    ],
)
def test_a_flag_overrides_the_switch_of_its_name_and_no_other(argument, change):
    recipe = Recipe(released_data=True, entropy_weight=0.4)
    before = dataclasses.asdict(recipe)
    changed = recipe.with_flag_overrides(parsed(argument))
    assert dataclasses.asdict(changed) == before | change
    assert dataclasses.asdict(recipe) == before


def test_flags_that_are_not_given_change_nothing():
    recipe = Recipe(released_data=True, entropy_weight=0.4)
    assert recipe.with_flag_overrides(parsed()) == recipe


def test_a_recipe_fits_the_model():
    recipe = LANGUAGE_MODELING["corrected"]
    assert recipe.for_model("dsc") == recipe
    attention = recipe.for_model("attention")
    assert (attention.rl_weight, attention.entropy_weight) == (0.0, 0.0)
    assert Recipe().for_model("random_skip").eval_actions == "sample"
    newest = Recipe(eval_actions="newest")
    assert newest.for_model("random_skip") == newest


@pytest.mark.parametrize("model", shared_flags.MODELS)
def test_the_exact_estimator_changes_nothing_without_a_policy(model):
    given = copy.deepcopy(language_flags.FLAGS)
    given(["", f"--model={model}", "--estimator=exact", "--rnn_size=5"])
    arguments = shared_flags.layer_arguments(given, language_flags.recipe(given))
    for made in (
        language_model.LanguageModel(7, **arguments),
        number_predictor.NumberPredictor(**arguments),
    ):
        assert made.dsc.return_alternatives == (model == "dsc")
