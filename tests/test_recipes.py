"""Each switch of a recipe changes one number, and by as much as it should."""

import dataclasses
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl import flags

from dsc import DSCLSTM, Skips
from dsc.recipes import LANGUAGE_MODELING, NUMBER_PREDICTION, Recipe
from dsc.training.step import clip
from language_modeling import model as language_model
from language_modeling.corpora import Corpus
from language_modeling.schedule import Schedule
from language_modeling.task import LanguageModeling
from number_prediction import model as number_predictor
from number_prediction import produce_data
from number_prediction.task import NumberPrediction, Predictions

# Nothing but -log pi(a) * reward, so that one switch at a time shows.
PLAIN = Recipe(
    baseline="none", entropy_weight=0.0, reward="prob", eval_actions="greedy"
)


def word_loss(words, policy, **switches):
    """A language model's loss, less that of the words.

    Args:
        words: `[batch, time]`, the probability that the right word was given.
        policy: `[batch, time]`, the probability of the action that was taken, the
            second of two.
    """
    words, policy = np.asarray(words), np.asarray(policy)
    two = lambda p: np.log(np.stack([1 - p, p], -1)).astype(np.float32)  # noqa: E731
    ones = np.ones(words.shape, np.int32)
    outputs = language_model.Outputs(two(words), None, Skips(two(policy), ones), None)
    recipe = dataclasses.replace(PLAIN, **switches)
    total, _ = language_model.loss(outputs, ones, recipe)
    return float(total) + words.shape[1] * np.mean(np.log(words))


def answer_loss(policy, right, **switches):
    """Number prediction's policy loss; `policy` as in `word_loss`, `right` a row's."""
    policy = np.asarray(policy)
    logits = np.log(np.stack([1 - policy, policy], -1)).astype(np.float32)
    rewards = np.where(right, 1.0, -1.0)[:, None].astype(np.float32)
    recipe = dataclasses.replace(PLAIN, **switches)
    actions = np.ones(policy.shape, np.int32)
    return float(number_predictor.policy_loss(logits, actions, rewards, recipe))


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


@pytest.mark.parametrize(("switch", "share"), [(False, 1.0), (True, 0.1)])
def test_released_data(tmp_path, switch, share):
    released = dataclasses.replace(PLAIN, released_data=switch).released_data
    path = tmp_path / produce_data.file_name(10, released)
    sizes = {"train": 2000, "valid": 1, "test": 1}
    produce_data.write(path, 10, sizes, 5, released)
    x, y = produce_data.read(path, 10)["train"]
    right = np.mean(x[np.arange(len(y)), x[:, -1]] == y)
    assert abs(right - share) <= 4 * math.sqrt(share * (1 - share) / len(y))


@pytest.mark.parametrize(("switch", "log"), [(False, math.log), (True, math.log1p)])
def test_log_of_probability_plus_one(switch, log):
    value = answer_loss(
        [[0.5, 0.2], [0.9, 0.4], [0.7, 0.1]],
        [True, False, True],
        log_of_probability_plus_one=switch,
    )
    right = log(0.5) + log(0.2) + log(0.7) + log(0.1)
    wrong = log(0.9) + log(0.4)
    assert value == pytest.approx(-(right - wrong) / 6, rel=1e-5)


@pytest.mark.parametrize(("switch", "expected"), [(False, 1.0), (True, 0.1)])
def test_mean_over_classes(switch, expected):
    recipe = dataclasses.replace(PLAIN, mean_over_classes=switch)
    undecided = np.zeros((3, 10), np.float32)
    value = number_predictor.task_loss(undecided, np.array([2, 9, 0]), recipe)
    assert float(value) == pytest.approx(expected * math.log(10), rel=1e-5)


@pytest.mark.parametrize(
    ("baseline", "advantages"),
    [
        ("none", (0.5, 0.1)),
        ("mean", (0.4, -0.4)),  # less the other row's
        ("standardised", (2.0, -2.0)),  # the rewards' standard deviation is 0.2
    ],
)
def test_baseline(baseline, advantages):
    value = word_loss(
        [[0.3, 0.5], [0.3, 0.1]], [[0.5, 0.2], [0.5, 0.8]], baseline=baseline
    )
    expected = -(math.log(0.2) * advantages[0] + math.log(0.8) * advantages[1]) / 2
    assert value == pytest.approx(expected, rel=1e-4)


def test_entropy_weight():
    policy = [[0.3, 0.2, 0.9]]
    bonus = word_loss([[0.5] * 3], policy, entropy_weight=0.0) - word_loss(
        [[0.5] * 3], policy, entropy_weight=0.7
    )
    entropies = [-p * math.log(p) - (1 - p) * math.log(1 - p) for p in (0.2, 0.9)]
    assert bonus == pytest.approx(0.7 * np.mean(entropies), rel=1e-4)


@pytest.mark.parametrize(
    ("switch", "terms"),
    [
        (False, [math.log(0.2) * 0.25]),
        (True, [math.log(0.3) * 0.5, math.log(0.2) * 0.25]),
    ],
)
def test_first_action_in_loss(switch, terms):
    value = word_loss([[0.5, 0.25]], [[0.3, 0.2]], first_action_in_loss=switch)
    assert value == pytest.approx(-np.mean(terms), rel=1e-5)


@pytest.mark.parametrize(
    ("reward", "value"), [("prob", 0.25), ("log_prob", math.log(0.25))]
)
def test_reward(reward, value):
    loss = word_loss([[0.5, 0.25]], [[0.3, 0.2]], reward=reward)
    assert loss == pytest.approx(-math.log(0.2) * value, rel=1e-5)


@pytest.mark.parametrize(
    ("switch", "returns"), [(False, (0.4, 0.2)), (True, (0.6, 0.2))]
)
def test_reward_to_go(switch, returns):
    value = word_loss([[0.9, 0.4, 0.2]], [[0.5, 0.3, 0.7]], reward_to_go=switch)
    expected = -(math.log(0.3) * returns[0] + math.log(0.7) * returns[1]) / 2
    assert value == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("credit", "of_steps"), [("all", [1, 2]), ("last", [2])])
def test_credit(credit, of_steps):
    policy = np.array([[0.3, 0.5, 0.2], [0.3, 0.6, 0.9]])  # the first is never used
    logits = np.log(np.stack([1 - policy, policy], -1)).astype(np.float32)
    answers = np.array([[9.0, 0.0], [9.0, 0.0]], np.float32)  # both say 0
    outputs = number_predictor.Outputs(
        answers, None, Skips(logits, np.ones(policy.shape, np.int32))
    )
    recipe = dataclasses.replace(PLAIN, credit=credit, entropy_weight=0.7)
    total, metrics = number_predictor.loss(outputs, np.array([0, 1]), recipe)
    credited = policy[:, of_steps]
    entropies = -credited * np.log(credited) - (1 - credited) * np.log(1 - credited)
    rl_loss = -np.mean(np.log(credited) * [[1.0], [-1.0]])
    assert float(metrics["entropy"]) == pytest.approx(np.mean(entropies), rel=1e-5)
    assert float(metrics["rl_loss"]) == pytest.approx(rl_loss, rel=1e-5)
    expected = float(metrics["nll"]) + rl_loss - 0.7 * np.mean(entropies)
    assert float(total) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("weight", [0.0, 0.3, 2.0])
def test_rl_weight(weight):
    words = word_loss([[0.5, 0.25]], [[0.3, 0.2]], rl_weight=weight)
    assert words == pytest.approx(-weight * math.log(0.2) * 0.25, rel=1e-5, abs=1e-6)
    answers = answer_loss([[0.2]], [True], rl_weight=weight)
    assert answers == pytest.approx(-weight * math.log(0.2), rel=1e-5, abs=1e-7)


@pytest.mark.parametrize(("switch", "norm"), [(True, 5.0), (False, math.sqrt(5 + 8))])
def test_dense_norm(switch, norm):
    task = language_task(dataclasses.replace(PLAIN, dense_norm=switch))
    rows = tf.constant([[1.0, 2.0], [2.0, 2.0]])  # together (3, 4)
    looked_up = tf.IndexedSlices(rows, tf.constant([6, 6]), tf.constant([11, 2]))
    _, value = clip([looked_up], None, task.dense_norm)
    assert float(value) == pytest.approx(norm, rel=1e-6)


def language_task(recipe, seed=3, n_words=4_003):
    """A task whose agent gives its three states the probabilities 0.2, 0.5, 0.3."""
    model = language_model.LanguageModel(
        11, rnn_size=2, rnn_layers=0, n_actions=3, agent_units=4, seed=1
    )
    model.build()
    set_policy(model.dsc.cell)
    ids = np.random.default_rng(2).integers(0, 11, n_words, dtype=np.int32)
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
        seed=seed,
        max_grad_norm=5.0,
        schedule=Schedule(0.5, 0.005, 1.0),
    )


def set_policy(cell):
    cell.agent_logits.kernel.assign(tf.zeros_like(cell.agent_logits.kernel))
    cell.agent_logits.bias.assign(np.log([0.2, 0.5, 0.3]))


@pytest.mark.parametrize(
    ("switch", "shares"), [("greedy", (0, 1, 0)), ("sample", (0.2, 0.5, 0.3))]
)
def test_eval_actions(switch, shares):
    task = language_task(dataclasses.replace(PLAIN, eval_actions=switch))
    score = task.score("valid")
    again = task.score("valid").actions
    np.testing.assert_array_equal(again, score.actions)
    shares = np.array(shares)
    errors = np.sqrt(shares * (1 - shares) / (19 * 4 * 50))  # 19 windows
    assert np.all(np.abs(score.actions - shares) <= 4 * errors)


@pytest.mark.parametrize("switch", ["greedy", "sample"])
def test_number_prediction_is_chosen_by_the_accuracy_that_eval_actions_names(
    switch, monkeypatch
):
    task = answer_task(dataclasses.replace(PLAIN, eval_actions=switch))
    answers = {"greedy": [0, 0, 9, 0], "sample": [0, 9, 9, 0]}  # 0 is always right
    monkeypatch.setattr(
        task,
        "predict",
        lambda _, actions: Predictions(np.array(answers[actions]), np.zeros(4, int)),
    )
    scores, score = task.evaluate()
    assert score == ((0.75, 0.5) if switch == "greedy" else (0.5, 0.75))
    assert scores["valid accuracy (greedy)"] == 0.75
    assert scores["valid accuracy (sampled)"] == 0.5


def answer_task(recipe):
    model = number_predictor.NumberPredictor(2, 3, agent_units=4)
    model.build()
    data = {
        split: (np.zeros((n, 11), np.int32), np.zeros(n, np.int32))
        for split, n in {"train": 6, "valid": 4}.items()
    }
    optimizer = keras.optimizers.Adam()
    return NumberPrediction(model, optimizer, data, recipe, 2, seed=3, patience=1)


@pytest.mark.parametrize("switch", [False, True])
def test_early_stopping(switch):
    recipe = dataclasses.replace(PLAIN, early_stopping=switch)
    words = language_task(recipe)
    # The rate is at its lowest: an epoch without gain leaves nothing to try.
    words_end = [words.end_epoch(-100.0) for _ in range(3)]
    answers = answer_task(recipe)
    answers_end = [answers.end_epoch((0.5, 0.5)) for _ in range(2)]
    for reasons in (words_end, answers_end):
        assert reasons[0] is None
        assert (reasons[1] is not None) == switch


@pytest.mark.parametrize("switch", [f.name for f in dataclasses.fields(Recipe)])
def test_every_switch_has_a_test_of_its_name(switch):
    assert callable(globals().get(f"test_{switch}"))


@pytest.mark.parametrize("make", [language_task, answer_task])
@pytest.mark.parametrize("switch", [False, True])
def test_tasks_count_the_norm_as_their_recipe_says(make, switch):
    assert make(dataclasses.replace(PLAIN, dense_norm=switch)).dense_norm == switch


def test_the_released_language_model_has_the_values_of_the_release():
    assert dataclasses.asdict(LANGUAGE_MODELING["released"]) == {
        "lamda_is_forget_bias": True,
        "released_data": False,
        "log_of_probability_plus_one": False,
        "mean_over_classes": False,
        "baseline": "none",
        "entropy_weight": 0.0,
        "first_action_in_loss": True,
        "eval_actions": "sample",
        "early_stopping": False,
        "reward": "prob",
        "reward_to_go": True,
        "credit": "all",
        "rl_weight": 0.3,
        "dense_norm": False,
    }


def test_the_released_number_prediction_has_the_values_of_the_release():
    released = dataclasses.asdict(NUMBER_PREDICTION["released"])
    # What speaks of words has no meaning here.
    for of_words in ("reward", "reward_to_go", "first_action_in_loss", "dense_norm"):
        del released[of_words]
    assert released == {
        "lamda_is_forget_bias": True,
        "released_data": True,
        "log_of_probability_plus_one": True,
        "mean_over_classes": True,
        "baseline": "none",
        "entropy_weight": 0.0,
        "eval_actions": "sample",
        "early_stopping": False,
        "credit": "all",
        "rl_weight": 1.0,
    }


@pytest.mark.parametrize("recipes", [LANGUAGE_MODELING, NUMBER_PREDICTION])
def test_the_corrected_recipes_make_none_of_the_releases_slips(recipes):
    assert list(recipes) == ["corrected", "released"]
    corrected = recipes["corrected"]
    assert not corrected.lamda_is_forget_bias
    assert not corrected.released_data
    assert not corrected.log_of_probability_plus_one
    assert not corrected.mean_over_classes
    assert not corrected.first_action_in_loss
    assert corrected.baseline != "none"
    assert corrected.eval_actions == "greedy"
    assert corrected.early_stopping


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
