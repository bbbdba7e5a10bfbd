"""Number prediction: initial weights, loss, batches, scores."""

import dataclasses
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from dsc import Skips
from dsc.recipes import NUMBER_PREDICTION
from number_prediction import LAST_ACTIONS
from number_prediction.model import NumberPredictor, Outputs, loss
from number_prediction.task import (
    EVALUATION_SEED,
    NumberPrediction,
    counts,
    describe_confusion,
    describe_places,
)

BATCH, TIME, UNITS, ACTIONS = 4, 7, 6, 3
RELEASED = NUMBER_PREDICTION["released"]
# With weights of its own, so that tuning the recipe changes no test.
CORRECTED = dataclasses.replace(
    NUMBER_PREDICTION["corrected"], rl_weight=0.7, entropy_weight=0.05
)


# Model and loss


def test_the_weights_start_as_in_the_release():
    """See `supercell_new.py` and, for the output layer, `fc3` in `rl_train.py`."""
    keras.utils.set_random_seed(3)
    model = NumberPredictor(rnn_size=400)
    model.build()
    limit = math.sqrt(6 / (10 + 1600))  # Glorot uniform, TensorFlow 1's default
    kernel = model.dsc.cell.kernel.numpy()
    assert 0.99 * limit < np.abs(kernel).max() <= limit
    assert not np.any(model.dsc.cell.bias)
    kernel, bias = model.out.get_weights()
    np.testing.assert_array_equal(bias, np.float32(0.1))
    assert abs(kernel.mean()) < 4 * 0.3 / math.sqrt(kernel.size)
    assert abs(kernel.var() / 0.09 - 1) < 4 * math.sqrt(2 / kernel.size)


@pytest.mark.parametrize("n_numbers", [8, 10, 25])
def test_numbers_enter_as_one_hot_rows_of_the_kernel(n_numbers):
    model = NumberPredictor(UNITS, ACTIONS, n_numbers=n_numbers)
    model.build()
    kernel = np.zeros((n_numbers, 4 * UNITS), np.float32)
    kernel[-1] = 5.0  # for the last number opens each gate and proposes 1
    model.dsc.cell.kernel.assign(kernel)
    model.dsc.cell.recurrent_kernel.assign(np.zeros((UNITS, 4 * UNITS)))
    outputs = model(np.array([[n_numbers - 1], [3]]))
    assert outputs.logits.shape == (2, n_numbers)
    hidden = outputs.hidden
    opened = 1 / (1 + math.exp(-5))
    expected = math.tanh(opened * math.tanh(5)) * opened
    np.testing.assert_allclose(hidden, [[expected] * UNITS, [0.0] * UNITS], rtol=1e-5)


def log_softmax(logits):
    logits = np.asarray(logits, np.float64)
    return logits - np.log(np.sum(np.exp(logits), axis=-1, keepdims=True))


def literal_outputs():
    """Two right answers, two wrong ones."""
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(BATCH, 10))
    order = np.argsort(logits, axis=1)
    targets = np.where([True, False, False, True], order[:, -1], order[:, 4])
    actions = tf.constant(rng.integers(0, ACTIONS, (BATCH, TIME)), tf.int32)
    policy = tf.constant(rng.normal(size=(BATCH, TIME, ACTIONS)), tf.float32)
    values = tf.constant(rng.normal(size=(BATCH, TIME)), tf.float32)
    logits = tf.constant(logits, tf.float32)
    return Outputs(logits, None, Skips(policy, actions), values=values), targets


def test_the_exact_estimator_is_the_mean_over_all_forced_last_actions(rng):
    recipe = dataclasses.replace(CORRECTED, credit="last", estimator="exact")
    model = NumberPredictor(UNITS, ACTIONS, agent_units=4, estimator="exact")
    model.build()
    numbers = rng.integers(0, 10, (BATCH, TIME))
    noise = rng.gumbel(size=(BATCH, TIME, ACTIONS))
    outputs = model(numbers, noise)
    answers = []
    for k in range(ACTIONS):
        noise[:, -1] = 1e4 * np.eye(ACTIONS)[k]
        answers.append(np.argmax(model(numbers, noise).logits, axis=-1))
    targets = answers[0]
    rewards = [np.where(answer == targets, 1.0, -1.0) for answer in answers]
    assert np.any(rewards[1:] != rewards[0])
    policy = np.exp(log_softmax(outputs.skips.logits[:, -1]))
    expected = -recipe.rl_weight * np.mean(np.sum(policy * np.transpose(rewards), -1))
    _, metrics = loss(outputs, targets, recipe)
    assert float(metrics["rl_loss"]) == pytest.approx(expected, rel=1e-5)


def loop_loss(recipe, log_answer, log_pi, rewards, entropy, values):
    """`(nll, policy loss, loss)` row by row and step by step."""
    nll = -np.mean(log_answer)
    if recipe.mean_over_classes:
        nll = -np.mean(np.log(np.exp(log_answer) + 1e-7)) / 10
    first = TIME - 1 if recipe.credit == "last" else 1
    policy = error = 0.0
    for row in range(BATCH):
        for t in range(first, TIME):
            advantage = rewards[row]
            if recipe.baseline != "none":
                advantage -= np.delete(rewards, row).mean()
            if recipe.baseline == "value":
                advantage -= values[row, t]
                error += advantage**2 / 4 / (BATCH * (TIME - first))
            log = log_pi[row, t]
            if recipe.log_of_probability_plus_one:
                log = math.log(math.exp(log) + 1)
            policy -= recipe.rl_weight * log * advantage / (BATCH * (TIME - first))
    bonus = recipe.entropy_weight * entropy[:, first:].mean()
    return nll, policy, nll + policy + error - bonus


@pytest.mark.parametrize(
    ("recipe", "switch"),
    [
        (RELEASED, {}),
        (CORRECTED, {}),
        (CORRECTED, {"baseline": "none"}),
        (CORRECTED, {"baseline": "value"}),
        (CORRECTED, {"baseline": "value", "credit": "last"}),
        (CORRECTED, {"credit": "last"}),
        (CORRECTED, {"entropy_weight": 0.3}),
        (CORRECTED, {"log_of_probability_plus_one": True}),
        (CORRECTED, {"mean_over_classes": True}),
        (CORRECTED, {"rl_weight": 2.0}),
    ],
    ids=str,
)
def test_loss_is_that_of_a_loop_in_numpy(recipe, switch):
    recipe = dataclasses.replace(recipe, **switch)
    outputs, targets = literal_outputs()
    values = outputs.values.numpy()
    if recipe.baseline != "value":
        outputs = outputs._replace(values=None)
    with tf.GradientTape() as tape:
        tape.watch(outputs.logits)
        total, metrics = loss(outputs, targets, recipe)
    log_policy = log_softmax(outputs.skips.logits)
    actions = outputs.skips.actions.numpy()
    log_pi = np.take_along_axis(log_policy, actions[..., None], axis=-1)[..., 0]
    entropy = -np.sum(np.exp(log_policy) * log_policy, axis=-1)
    log_answers = log_softmax(outputs.logits)
    log_answer = log_answers[np.arange(BATCH), targets]
    rewards = np.array([1.0, -1.0, -1.0, 1.0])
    nll, policy, value = loop_loss(recipe, log_answer, log_pi, rewards, entropy, values)
    assert float(metrics["nll"]) == pytest.approx(nll, rel=1e-5)
    assert float(metrics["rl_loss"]) == pytest.approx(policy, rel=1e-5)
    assert float(total) == pytest.approx(value, rel=1e-5)
    assert float(metrics["accuracy"]) == 0.5
    first = TIME - 1 if recipe.credit == "last" else 1
    mean_entropy = entropy[:, first:].mean()
    assert float(metrics["entropy"]) == pytest.approx(mean_entropy, rel=1e-5)
    chosen = np.bincount(np.ravel(actions[:, first:]), minlength=ACTIONS)
    np.testing.assert_allclose(metrics["actions"], chosen / chosen.sum(), rtol=1e-6)
    if not recipe.mean_over_classes:
        # Rewards pass no gradient: only the mean nll does.
        expected = (np.exp(log_answers) - np.eye(10)[targets]) / BATCH
        gradient = tape.gradient(total, outputs.logits)
        np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)


# Task


def small_task(n_train=23, recipe=CORRECTED, seed=3, patience=2, test=(), n_numbers=10):
    """A task whose row i starts with the digits of i, which determine the answer."""
    numbers = np.arange(n_train, dtype=np.int32)
    x = np.zeros((n_train, 11), np.int32)
    x[:, 0], x[:, 1] = numbers // 10, numbers % 10
    splits = {"train": (x, (3 * numbers) % 10)}
    for split in ("valid", "test"):
        y = np.asarray(test, np.int32)
        splits[split] = (np.zeros((len(y), 11), np.int32), y)
    model = NumberPredictor(UNITS, ACTIONS, n_numbers=n_numbers)
    model.build()
    return NumberPrediction(
        model, keras.optimizers.Adam(), splits, recipe, 5, seed, patience
    )


def epoch_of(task, epoch):
    """The rows in an epoch's order."""
    order = []
    for i in range(task.n_batches):
        x, y = task.batch(epoch, i)
        assert x.shape == (5, 11) and y.shape == (5,)
        rows = 10 * x[:, 0] + x[:, 1]
        np.testing.assert_array_equal(y, (3 * rows) % 10)  # answers stay with rows
        order += rows.tolist()
    return order


def test_each_epoch_shuffles_the_training_split():
    task = small_task(n_train=25)
    first, second = epoch_of(task, 0), epoch_of(task, 1)
    assert sorted(first) == sorted(second) == list(range(25))
    assert first != second and list(range(25)) not in (first, second)
    assert epoch_of(task, 0) == first  # whatever was read in between
    assert epoch_of(small_task(n_train=25), 1) == second
    assert epoch_of(small_task(n_train=25, seed=4), 1) != second


def test_fresh_data_are_shuffled_in_the_same_order():
    task, file = small_task(n_train=25), small_task(n_train=25)
    x, y = file.data["train"]
    task.fresh = lambda epoch: (np.roll(x, epoch, axis=0), np.roll(y, epoch))
    for epoch in 0, 3, 1:
        order = [(row - epoch) % 25 for row in epoch_of(file, epoch)]
        assert epoch_of(task, epoch) == order


def test_an_incomplete_batch_is_left_out():
    task = small_task(n_train=23)
    assert task.n_batches == 4
    assert len(set(epoch_of(task, 0))) == 20


def test_accuracy_counts_every_row_of_a_split():
    # More than two batches; all answers but the last 40 are 7.
    answers = np.full(2_130, 7)
    answers[-40:] = 2
    task = small_task(test=answers)
    task.model.out.kernel.assign(np.zeros((UNITS, 10)))
    task.model.out.bias.assign(np.eye(10)[7])
    for accuracy in task.report(score=(1.0, 1.0)).values():
        assert accuracy == pytest.approx(2090 / 2130, abs=1e-12)


def test_passes_are_averaged_as_probabilities():
    task, n = small_task(test=np.zeros(40)), 3
    task.data["valid"] = (np.random.default_rng(1).integers(0, 10, (40, 11)),) * 2
    for weight in task.model.trainable_weights:  # the passes are to differ
        weight.assign(3.0 * weight)
    x, _ = task.data["valid"]
    drawn = task._noise(n * len(x), 11, task.seed + EVALUATION_SEED, 0)
    passes = [task.model(x, rows) for rows in tf.split(drawn, n)]
    probs = np.mean([tf.nn.softmax(outputs.logits) for outputs in passes], axis=0)
    found = task.predict("valid", f"mean:{n}")
    np.testing.assert_array_equal(found.answers, np.argmax(probs, axis=-1))
    assert np.any(found.answers != np.argmax(passes[0].logits, axis=-1))
    np.testing.assert_array_equal(found.last_actions, passes[0].skips.actions[:, -1])
    assert np.all(task.predict("valid", "newest").last_actions == ACTIONS - 1)


@pytest.mark.parametrize("n_numbers", [10, 26])
def test_the_last_actions_are_those_of_the_step_that_reads_the_index(n_numbers):
    indices = np.array([4, 4, n_numbers - 1, 0, 4])
    task = small_task(test=np.zeros(len(indices)), n_numbers=n_numbers)
    x, _ = task.data["valid"]
    x[:, -1] = indices
    # The agent takes the newest state at an even number, the oldest one at an odd.
    hidden, logits = task.model.dsc.cell.agent_hidden, task.model.dsc.cell.agent_logits
    parity = np.zeros(hidden.kernel.shape)
    parity[:n_numbers, 0] = [1.0, -1.0] * (n_numbers // 2)
    hidden.kernel.assign(parity)
    hidden.bias.assign(np.zeros(hidden.bias.shape))
    newest_if_even = np.zeros(logits.kernel.shape)
    newest_if_even[0] = [-5.0, 0.0, 5.0]
    logits.kernel.assign(newest_if_even)
    scores, _ = task.evaluate()
    expected = np.zeros((n_numbers, ACTIONS), int)
    expected[4, 2], expected[-1, 0], expected[0, 2] = 3, 1, 1
    assert scores[LAST_ACTIONS] == expected.tolist()


@pytest.mark.parametrize("n_numbers", [7, 101])
def test_the_confusion_matrix_has_the_right_answers_in_its_rows(n_numbers):
    last = n_numbers - 1
    table = counts([3, 3, last, 3], [5] * 4, (n_numbers, n_numbers))
    header, *rows = describe_confusion(table).split("\n")
    assert header.split() == ["answer", "predicted", *map(str, range(n_numbers))]
    expected = np.zeros((n_numbers, n_numbers), int)
    expected[3, 5], expected[last, 5] = 3, 1
    for number, (row, numbers) in enumerate(zip(rows, expected, strict=True)):
        assert row.split() == [str(number), *map(str, numbers)]
    assert {len(line) for line in (header, *rows)} == {len(header)}


def test_places_are_percentages_by_index():
    table = np.array([[9, 0, 0], [1, 0, 3], [0, 0, 0]])
    header, *rows = describe_places(table).split("\n")
    assert header.split() == ["index", "steps", "back", "3", "2", "1"]
    assert [row.split() for row in rows] == [
        ["0", "100", ".", "."],
        ["1", "25", ".", "75"],
        ["2", ".", ".", "."],
    ]
    assert {len(line) for line in (header, *rows)} == {len(header)}


def test_training_ends_after_two_epochs_without_a_mistake():
    task = small_task(patience=9)
    assert task.end_epoch((1.0, 0.3)) is None
    assert task.end_epoch((0.9, 0.9)) is None  # restarts the count
    assert task.end_epoch((1.0, 0.4)) is None
    assert "2 epochs without a mistake" in task.end_epoch((1.0, 0.5))


def test_training_ends_after_patience_epochs_without_better_accuracy():
    task = small_task(patience=2)
    assert task.end_epoch((0.5, 0.2)) is None
    assert task.end_epoch((0.4, 0.9)) is None
    assert task.end_epoch((0.5, 0.3)) is None  # the sampled accuracy breaks the tie
    assert task.end_epoch((0.5, 0.3)) is None
    assert "no better validation accuracy for 2" in task.end_epoch((0.5, 0.1))
