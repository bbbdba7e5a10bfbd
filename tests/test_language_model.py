"""The language model: initial weights, recurrent state, loss, noise, evaluation."""

import dataclasses
import itertools
import json
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from dsc import Skips
from dsc.noise import gumbel
from dsc.recipes import LANGUAGE_MODELING
from dsc.runs.folder import RunFolder
from dsc.training.loop import fit
from language_modeling.corpora import Corpus
from language_modeling.metrics import describe_skips, perplexity
from language_modeling.model import ACTIONS as ACTIONS_STREAM
from language_modeling.model import (
    EVALUATION_SEED,
    LanguageModel,
    Noise,
    Outputs,
    loss,
    word_losses,
)
from language_modeling.schedule import Schedule
from language_modeling.task import LanguageModeling

VOCAB, BATCH, STEPS, UNITS, ACTIONS = 11, 2, 5, 6, 3
RELEASED = LANGUAGE_MODELING["released"]
# With weights of its own, so that tuning the recipe changes no test.
CORRECTED = dataclasses.replace(
    LANGUAGE_MODELING["corrected"], rl_weight=0.7, entropy_weight=0.05
)


def small_model(vocab=VOCAB, rnn_layers=1, n_actions=ACTIONS, seed=1, **kwargs):
    model = LanguageModel(
        vocab,
        rnn_size=UNITS,
        rnn_layers=rnn_layers,
        n_actions=n_actions,
        agent_units=4,
        param_init=0.8,  # large enough for the state to matter
        seed=seed,
        **kwargs,
    )
    model.build()
    return model


def small_corpus(n_train=53, n_valid=47, n_test=43):
    rng = np.random.default_rng(7)
    sizes = {"train": n_train, "valid": n_valid, "test": n_test}
    ids = {s: rng.integers(0, VOCAB, n, dtype=np.int32) for s, n in sizes.items()}
    words = tuple(f"w{i}" for i in range(VOCAB))
    return Corpus(words, ids, dict.fromkeys(sizes, 0), {})


def small_task(model, learning_rate=0.0, **changes):
    arguments = {
        "corpus": small_corpus(),
        "recipe": CORRECTED,
        "batch_size": BATCH,
        "n_steps": STEPS,
        "dropout": 0.0,
        "seed": 3,
        "max_grad_norm": 5.0,
        "schedule": Schedule(1 / 1.2, 0.005, 1.0),
    }
    optimizer = keras.optimizers.SGD(learning_rate)
    return LanguageModeling(model, optimizer, **{**arguments, **changes})


def rows_of(ids):
    """The words and targets of all windows, as the task cuts the text into rows."""
    per_row = len(ids) // BATCH
    n = (per_row - 1) // STEPS * STEPS
    rows = ids[: BATCH * per_row].reshape(BATCH, per_row)
    return rows[:, :n], rows[:, 1 : n + 1]


def log_softmax(logits):
    logits = np.asarray(logits, np.float64)
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.sum(np.exp(shifted), axis=-1, keepdims=True))


def pick(values, index):
    return np.take_along_axis(values, np.asarray(index)[..., None], axis=-1)[..., 0]


def test_the_exact_estimator_is_the_mean_over_all_forced_actions(rng):
    n, model = 4, small_model(n_actions=4, estimator="exact", carry_memory=True)
    words, targets = rng.integers(0, VOCAB, (2, BATCH, STEPS))
    masks = list(rng.integers(0, 2, (3, BATCH, STEPS, UNITS)) * 2.0)
    with tf.GradientTape(persistent=True) as tape:
        noise = Noise(rng.gumbel(size=(BATCH, STEPS, n)), masks)
        outputs = model(words, noise=noise, targets=targets)
        total, metrics = loss(outputs, targets, CORRECTED, carry_memory=True)
        actions = outputs.skips.actions.numpy()
        policy_loss = total - STEPS * metrics["nll"]
        # By enumeration: one step is forced to one action, the others stay.
        expected = -CORRECTED.entropy_weight * metrics["entropy"]
        for t, k in itertools.product(range(STEPS), range(n)):
            forced = actions.copy()
            forced[:, t] = k
            noise = Noise(1e4 * np.eye(n)[forced], masks)
            logits = model(words, noise=noise).logits.numpy()
            reward = pick(log_softmax(logits[:, t]), targets[:, t])
            log_pi = tf.nn.log_softmax(outputs.skips.logits[:, t])[:, k]
            term = tf.stop_gradient(tf.exp(log_pi)) * log_pi * reward
            expected -= CORRECTED.rl_weight * tf.reduce_mean(term) / STEPS
    agent = [w.value for w in model.trainable_weights if "agent" in w.path]
    assert len(agent) == 4
    for actual, part in zip(
        tape.gradient(policy_loss, agent), tape.gradient(expected, agent), strict=True
    ):
        assert np.abs(part).max() > 1e-4
        np.testing.assert_allclose(actual, part, rtol=1e-4, atol=1e-7)


def test_a_learned_value_is_that_of_the_inputs_whatever_the_actions(rng):
    model = small_model(baseline="value")
    words = rng.integers(0, VOCAB, (BATCH, STEPS))
    kernel = rng.normal(size=(UNITS, 1))
    model.value.linear.set_weights([kernel, np.array([0.5])])
    draw = lambda: rng.gumbel(size=(BATCH, STEPS, ACTIONS))  # noqa: E731
    one, other = (model(words, noise=Noise(draw())) for _ in range(2))
    assert np.any(one.hidden != other.hidden)
    x, *_ = model.lstms[0](model.embedding(words))
    x = x / np.linalg.norm(x, axis=-1, keepdims=True)
    expected = np.asarray(x) @ kernel[:, 0] + 0.5
    for values in (one.values, other.values):
        np.testing.assert_allclose(values, expected, rtol=1e-5)


@pytest.mark.parametrize("options", [{"n_actions": 1}, {"estimator": "exact"}])
def test_what_reinforce_does_not_train_learns_no_value(options):
    assert small_model(baseline="value", **options).value is None


# Weights


def test_the_default_model_has_the_number_of_weights_of_the_release():
    model = LanguageModel(10_000)
    model.build()
    assert model.count_params() == 23_419_005


def test_weights_start_as_in_the_release():
    model = LanguageModel(503, rnn_size=48, param_init=0.07, seed=5)
    model.build()
    initial = {weight.path: weight.numpy() for weight in model.weights}
    firsts = [w.ravel()[:16].tobytes() for w in initial.values() if np.ptp(w) > 0]
    assert len(set(firsts)) == len(firsts) == len(initial) - 5  # constant biases
    biases = [w for name, w in initial.items() if "/cell/bias" in name]
    assert [w.shape for w in biases] == [(4, 48)] * 3
    assert not np.any(biases)
    agent = [w for name, w in initial.items() if "agent" in name]
    assert [w.shape for w in agent] == [(96, 200), (200,), (200, 5), (5,)]
    assert all(np.abs(w).max() > 0.09 for w in agent)  # beyond `param_init`
    (kernel,) = (w for name, w in initial.items() if "dsc/cell/recurrent" in name)
    for block in np.split(kernel, 4, axis=1):
        np.testing.assert_allclose(block.T @ block, np.eye(48), atol=1e-5)
    others = ("/cell/bias", "agent", "dsc/cell/recurrent")
    uniform = [n for n in initial if not any(other in n for other in others)]
    # Embedding, 2 * 2 kernels of the LSTMs, the kernel of the DSC-LSTM, the softmax.
    assert len(uniform) == 1 + 4 + 1 + 2
    for name in uniform:
        values = initial[name].astype(float)
        n, deviation = values.size, 0.07 / math.sqrt(3)
        assert abs(values.mean()) < 4 * deviation / math.sqrt(n), name
        # The fourth moment of a uniform variable is 9/5 of its squared variance.
        assert abs(values.var() / deviation**2 - 1) < 4 * math.sqrt(0.8 / n), name
        assert np.abs(values).max() <= 0.07 * (1 + 1e-6), name


def test_the_seed_determines_the_initial_weights():
    first, again, other = (small_model(seed=seed).get_weights() for seed in (5, 5, 6))
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first[0], other[0])


def test_tied_weights_are_one_matrix(tmp_path):
    model, untied = small_model(tie_weights=True), small_model()
    assert untied.count_params() - model.count_params() == VOCAB * UNITS
    embedding, bias = model.embedding.embeddings, model.softmax.bias
    outputs = model(np.array([[3, 1], [4, 1]]))
    expected = outputs.hidden @ np.transpose(embedding) + bias
    np.testing.assert_allclose(outputs.logits, expected, rtol=1e-5)
    model.save_weights(tmp_path / "a.weights.h5")
    other = small_model(tie_weights=True, seed=2)
    other.load_weights(tmp_path / "a.weights.h5")
    np.testing.assert_array_equal(other.get_weights()[0], model.get_weights()[0])
    again = other(np.array([[3, 1], [4, 1]])).logits
    np.testing.assert_array_equal(again, outputs.logits)


# State


@pytest.mark.parametrize(("n_actions", "carry_memory"), [(1, False), (ACTIONS, True)])
def test_two_windows_with_carried_state_are_one_long_window(n_actions, carry_memory):
    model = small_model(n_actions=n_actions, carry_memory=carry_memory, rnn_layers=2)
    tokens = np.random.default_rng(2).integers(0, VOCAB, (BATCH, 7 + STEPS))
    before = model(tokens[:, 3:7]).state  # not zeros
    whole = model(tokens, before)
    first = model(tokens[:, :7], before)
    second = model(tokens[:, 7:], first.state)
    joined = np.concatenate([first.logits, second.logits], axis=1)
    np.testing.assert_allclose(joined, whole.logits, rtol=1e-5, atol=1e-5)
    for a, b in zip(
        tf.nest.flatten(second.state), tf.nest.flatten(whole.state), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    # The state makes a difference.
    forgotten = model(tokens[:, 7:]).logits
    assert np.abs(forgotten - second.logits).max() > 1e-2


def test_with_the_tail_the_perplexity_is_that_of_the_whole_text():
    model = small_model(n_actions=1)
    ids = small_corpus().ids["valid"]
    nll = -pick(log_softmax(model(ids[None, :-1]).logits), ids[None, 1:])
    task = small_task(model, batch_size=1, schedule=None, score_tail=True)
    assert task.score("valid").perplexity == pytest.approx(
        math.exp(nll.mean()), rel=1e-5
    )
    assert task.n_unscored["valid"] == 1 < task.n_unscored["train"]
    assert (len(ids) - 1) % STEPS  # so the last window is not whole


def test_evaluation_needs_no_window_of_the_training_text():
    corpus = small_corpus()
    del corpus.ids["train"]
    task = small_task(small_model(), corpus=corpus)
    assert task.n_unscored.keys() == task.windows.keys() == {"valid", "test"}


def test_weights_are_evaluated_once(tmp_path, capsys):
    task, read = small_task(small_model(), learning_rate=0.3), []
    evaluator = task.evaluator
    task.read = lambda split: read.append(split) or evaluator.run(task.windows[split])
    folder = RunFolder.begin(tmp_path, {})
    best = fit(task, folder, max_epochs=2, print_every=9).best_score
    folder.checkpoints.load_weights(task.model)
    capsys.readouterr()
    task.report(best)
    assert read == ["valid", "test"] * 2  # once per epoch
    told = capsys.readouterr().out
    task.report()
    assert read == ["valid", "test"] * 3
    assert capsys.readouterr().out == told


def test_bits_per_character_are_the_binary_logarithm_of_the_perplexity(capsys):
    task = small_task(small_model(), level="char")
    (valid, test), score = task.evaluate()[0].items(), task.evaluate()[1]
    assert valid == ("valid bits per character", math.log2(-score))
    assert test == ("test bits per character", math.log2(task.score("test").perplexity))
    assert task.report() == dict([valid, test])
    assert capsys.readouterr().out.endswith(f"\n{test[0]} = {test[1]:.6f}\n")
    record = task.record({"loss": 7.0, "nll": math.log(8), "entropy": 0.5})
    assert record["bits per character"] == pytest.approx(3.0)
    assert task.describe(record) == "loss 7.000, bits 3.000, entropy 0.50"


@pytest.mark.parametrize("choice", ["agent", "fixed_skip"])
def test_the_newest_state_in_evaluation_makes_an_lstm(choice):
    lstm = small_model(n_actions=1)
    model = small_model(choice=choice)
    for layer, other in zip(
        (*model.recurrent_layers, model.embedding, model.softmax),
        (*lstm.recurrent_layers, lstm.embedding, lstm.softmax),
        strict=True,
    ):
        other.set_weights(layer.get_weights()[: len(other.weights)])
    recipe = dataclasses.replace(CORRECTED, eval_actions="newest")
    found = small_task(model, recipe=recipe).score("valid")
    expected = small_task(lstm).score("valid")
    assert found.perplexity == pytest.approx(expected.perplexity, rel=1e-5)
    np.testing.assert_array_equal(found.actions, [0, 0, 1])


def test_passes_are_averaged_as_probabilities_and_carry_their_own_states():
    model, n = small_model(choice="random_skip"), 3
    recipe = dataclasses.replace(CORRECTED, eval_actions=f"mean:{n}")
    task = small_task(model, recipe=recipe)
    states, total, n_words = [None] * n, 0.0, 0
    seed = task.seed + EVALUATION_SEED
    windows = zip(task.windows["valid"], task.read("valid"), strict=True)
    for i, ((words, targets, _), (nll, actions, _)) in enumerate(windows):
        drawn = gumbel((n * BATCH, STEPS, ACTIONS), seed, i, ACTIONS_STREAM)
        passes = [
            model(words, state, Noise(rows))
            for state, rows in zip(states, tf.split(drawn, n), strict=True)
        ]
        states = [outputs.state for outputs in passes]
        log_probs = [pick(log_softmax(o.logits), targets) for o in passes]
        expected = -np.log(np.mean(np.exp(log_probs), axis=0))
        np.testing.assert_allclose(nll, expected, rtol=1e-4)
        np.testing.assert_array_equal(actions, passes[0].skips.actions)
        total, n_words = total + expected.sum(), n_words + expected.size
    perplexity = task.score("valid").perplexity
    assert perplexity == pytest.approx(math.exp(total / n_words), rel=1e-4)


def test_a_huge_loss_is_an_infinite_perplexity():
    assert perplexity(1e6) == math.inf


def test_evaluation_drops_nothing_carries_the_state_and_starts_from_zeros():
    model = small_model(n_actions=1)  # so that windows have no first step
    task = small_task(model, dropout=0.9)
    words, targets = rows_of(small_corpus().ids["valid"])
    nll = -pick(log_softmax(model(words).logits), targets)
    for _ in range(2):
        assert task.score("valid").perplexity == pytest.approx(
            math.exp(nll.mean()), rel=1e-5
        )
        task.score("test")  # leaves no state behind


def test_every_training_epoch_carries_the_state_and_starts_from_zeros(tmp_path):
    model = small_model(n_actions=1)
    task = small_task(model, learning_rate=0.0)  # the weights stay
    fit(task, RunFolder.begin(tmp_path, {}), max_epochs=2, print_every=1)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    reported = [record["nll"] for record in records if "nll" in record]
    words, targets = rows_of(small_corpus().ids["train"])
    nll = -pick(log_softmax(model(words).logits), targets)  # one long window
    per_window = nll.reshape(BATCH, -1, STEPS).mean(axis=(0, 2))
    assert len(per_window) == 5
    np.testing.assert_allclose(reported, [*per_window, *per_window], rtol=1e-5)


def test_skips_are_described_by_length_shortest_first():
    # Action 0 is the oldest state: the longest skip.
    assert describe_skips(np.array([0.125, 0.25, 0.625])) == "1: 0.62 2: 0.25 3: 0.12"
    assert describe_skips(np.arange(6) / 15) == (
        "1: 0.33 2: 0.27 3: 0.20 4: 0.13 5: 0.07 6+: 0.00"
    )


# Loss


def literal_outputs():
    rng = np.random.default_rng(11)
    draw = lambda *shape: tf.constant(rng.normal(size=shape), tf.float32)  # noqa: E731
    actions = tf.constant(rng.integers(0, ACTIONS, (BATCH, STEPS)), tf.int32)
    skips = Skips(draw(BATCH, STEPS, ACTIONS), actions)
    targets = rng.integers(0, VOCAB, (BATCH, STEPS))
    logits, values = draw(BATCH, STEPS, VOCAB), draw(BATCH, STEPS)
    return Outputs(logits, None, skips, None, values=values), targets


def loop_loss(recipe, word_nll, log_pi, entropy, values, first):
    """The loss and its policy part, from the formulas, a row and a step at a time."""
    rewards = np.exp(-word_nll) if recipe.reward == "prob" else -word_nll
    policy = error = 0.0
    for t in range(first, STEPS):
        last = STEPS if recipe.reward_to_go else t + 1
        returns = rewards[:, t:last].sum(axis=1)
        for row in range(BATCH):
            advantage = returns[row]
            if recipe.baseline != "none":
                advantage -= np.delete(returns, row).mean()
            if recipe.baseline == "value":
                advantage -= values[row, t]
                error += advantage**2 / 4
            if recipe.baseline == "standardised":
                advantage /= returns.std() + 1e-6
            policy -= recipe.rl_weight * log_pi[row, t] * advantage
    policy /= BATCH * (STEPS - first)
    error /= BATCH * (STEPS - first)
    bonus = recipe.entropy_weight * entropy[:, first:].mean()
    return STEPS * word_nll.mean() + policy + error - bonus, policy


@pytest.mark.parametrize(
    ("recipe", "switch"),
    [
        (RELEASED, {}),
        (CORRECTED, {}),
        *((CORRECTED, {"baseline": name}) for name in ("none", "mean", "value")),
        (CORRECTED, {"entropy_weight": 0.3}),
        (CORRECTED, {"first_action_in_loss": True}),
        (CORRECTED, {"reward": "prob"}),
        (CORRECTED, {"reward_to_go": True}),
        (CORRECTED, {"rl_weight": 2.0}),
        (CORRECTED, {"carry_memory": True}),  # so the first step chooses too
    ],
    ids=str,
)
def test_loss_is_that_of_a_loop_in_numpy(recipe, switch):
    switch = dict(switch)
    carry_memory = switch.pop("carry_memory", False)
    recipe = dataclasses.replace(recipe, **switch)
    first = 0 if recipe.first_action_in_loss or carry_memory else 1
    outputs, targets = literal_outputs()
    values = outputs.values.numpy()
    if recipe.baseline != "value":
        outputs = outputs._replace(values=None)
    with tf.GradientTape() as tape:
        tape.watch(outputs.logits)
        total, metrics = loss(outputs, targets, recipe, carry_memory)
    log_words = log_softmax(outputs.logits)
    word_nll = -pick(log_words, targets)
    log_policy = log_softmax(outputs.skips.logits)
    log_pi = pick(log_policy, outputs.skips.actions)
    entropy = -np.sum(np.exp(log_policy) * log_policy, axis=-1)
    value, policy = loop_loss(recipe, word_nll, log_pi, entropy, values, first)
    assert float(total) == pytest.approx(value, rel=1e-5)
    assert float(metrics["nll"]) == pytest.approx(word_nll.mean(), rel=1e-5)
    assert float(metrics["rl_loss"]) == pytest.approx(policy, rel=1e-4)
    mean_entropy = entropy[:, first:].mean()
    assert float(metrics["entropy"]) == pytest.approx(mean_entropy, rel=1e-5)
    counts = np.bincount(outputs.skips.actions[:, first:].numpy().ravel(), minlength=3)
    np.testing.assert_allclose(metrics["actions"], counts / counts.sum(), rtol=1e-6)
    # Rewards pass no gradient: the words' is that of STEPS * mean nll alone.
    expected = (np.exp(log_words) - np.eye(VOCAB)[targets]) / BATCH
    gradient = tape.gradient(total, outputs.logits)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("scale", [1.0, 30.0, 1000.0])
def test_word_losses_and_their_gradient_are_those_of_numpy(scale, rng):
    logits = tf.constant(scale * rng.normal(size=(BATCH, STEPS, VOCAB)), "float32")
    targets = rng.integers(0, VOCAB, (BATCH, STEPS))
    weights = rng.normal(size=(BATCH, STEPS))
    with tf.GradientTape() as tape:
        tape.watch(logits)
        found = word_losses(logits, targets)
        weighted = tf.reduce_sum(found * weights.astype("float32"))
    log_probs = log_softmax(logits)
    np.testing.assert_allclose(found, -pick(log_probs, targets), rtol=1e-6, atol=1e-6)
    expected = (np.exp(log_probs) - np.eye(VOCAB)[targets]) * weights[..., None]
    np.testing.assert_allclose(tape.gradient(weighted, logits), expected, atol=1e-5)


def test_in_bfloat16_losses_and_weights_stay_float32(rng):
    tokens = rng.integers(0, VOCAB, (BATCH, STEPS))
    actions = rng.integers(0, ACTIONS, (BATCH, STEPS))
    noise = Noise(1e4 + 8 * np.eye(ACTIONS)[actions])  # all the same in bfloat16
    outputs = [
        small_model(dtype=dtype)(tokens, noise=noise)
        for dtype in ("float32", "mixed_bfloat16")
    ]
    for part in outputs:
        np.testing.assert_array_equal(part.skips.actions, actions)
    exact, coarse = (loss(part, tokens, CORRECTED)[1] for part in outputs)
    assert all(part.dtype == "float32" for part in coarse.values())
    np.testing.assert_allclose(coarse["nll"], exact["nll"], rtol=0.02)
    assert coarse["nll"] != exact["nll"]
    model = small_model(dtype="mixed_bfloat16")
    assert all(w.dtype == "float32" for w in model.weights)
    state = tf.nest.flatten(model(tokens).state)
    assert all(part.dtype == "bfloat16" for part in state)


# Dropout


def test_masks_follow_the_embedding_and_each_recurrent_layer():
    model, rnn_layers, n_masks = small_model(), 1, 3
    rng = np.random.default_rng(4)
    tokens, others = rng.integers(0, VOCAB, (2, BATCH, STEPS))
    ones = np.ones((BATCH, STEPS, UNITS), np.float32)
    for dropped in range(n_masks):
        masks = [ones * (i != dropped) for i in range(n_masks)]
        noise = Noise(dropout=masks)
        one, other = model(tokens, noise=noise), model(others, noise=noise)
        # Only the layers below a mask of zeros see the words.
        np.testing.assert_array_equal(one.logits, other.logits)
        sees = [
            not np.array_equal(a[0], b[0])
            for a, b in zip(one.state, other.state, strict=True)
        ]
        assert sees == [layer < dropped for layer in range(rnn_layers + 1)]


def test_candidates_are_dropped_and_units_kept_in_the_layer_of_the_mask():
    model, n_layers = small_model(zoneout=0.3), 2
    tokens = np.random.default_rng(4).integers(0, VOCAB, (BATCH, STEPS))
    # Candidates of zeros leave a state of zeros, as does zoneout; the layer above then
    # reads zeros.
    for masks in (
        {"recurrent_dropout": np.ones((BATCH, 1, UNITS))},
        {"zoneout": np.zeros((BATCH, STEPS, 2 * UNITS))},
    ):
        ((name, other),) = masks.items()
        for layer in range(n_layers):
            parts = [1 - other if i == layer else other for i in range(n_layers)]
            state = model(tokens, noise=Noise(**{name: parts})).state
            assert [bool(np.any(h)) for h, c in state] == [
                i < layer for i in range(n_layers)
            ]


def test_a_variational_mask_is_the_same_at_every_step():
    model, rng = small_model(estimator="exact"), np.random.default_rng(4)
    tokens, targets = rng.integers(0, VOCAB, (2, BATCH, STEPS))
    held = rng.uniform(size=(5, BATCH, 1, UNITS))
    repeated = np.repeat(held, STEPS, axis=2)
    found = [
        model(tokens, None, Noise(None, list(m[:3]), list(m[3:])), targets)
        for m in (held, repeated)
    ]
    for name in ("logits", "alternatives"):
        np.testing.assert_array_equal(*(getattr(part, name) for part in found))


def noise_of(step, dropout=0.25, seed=3, zoneout=0.0, **changes):
    model = small_model(zoneout=zoneout)
    task = small_task(model, dropout=dropout, seed=seed, **changes)
    return task._noise(tf.constant(step, tf.int64))


def test_a_training_step_draws_its_own_masks_and_actions():
    first, second = noise_of(0), noise_of(1)
    draws = [*first.dropout, *second.dropout]
    assert len(first.dropout) == 3
    assert len({mask.numpy().tobytes() for mask in draws}) == 6
    for mask in draws:
        assert mask.shape == (BATCH, STEPS, UNITS)
        np.testing.assert_allclose(np.unique(mask), [0, 4 / 3], rtol=1e-6)
    assert first.actions.shape == (BATCH, STEPS, ACTIONS)
    assert not np.array_equal(first.actions, second.actions)
    again = noise_of(1)
    np.testing.assert_array_equal(again.actions, second.actions)
    np.testing.assert_array_equal(again.dropout[0], second.dropout[0])
    assert not np.array_equal(noise_of(1, seed=4).actions, second.actions)
    assert noise_of(0, dropout=0.0)[1:] == (None,) * 3
    held = noise_of(0, recurrent_dropout=0.2, variational=True, zoneout=0.3)
    for masks, shape in (
        (held.dropout, (BATCH, 1, UNITS)),
        (held.recurrent_dropout, (BATCH, 1, UNITS)),
        (held.zoneout, (BATCH, STEPS, 2 * UNITS)),
    ):
        assert {mask.shape for mask in masks} == {shape}
    masks = [*held.dropout, *held.recurrent_dropout, *held.zoneout]
    assert len({mask.numpy().tobytes() for mask in masks}) == 7
    np.testing.assert_array_equal(held.actions, first.actions)


# The end of an epoch


# The optimizer stores the rate in float32, where 0.1 is a little more than 0.1.
@pytest.mark.parametrize("threshold", [0.005, 0.1])
def test_training_ends_when_the_lowest_rate_brings_no_improvement(threshold):
    task = small_task(small_model(), learning_rate=threshold)
    task.schedule = Schedule(1 / 1.2, threshold, 1.0)
    assert task.end_epoch(-90.0) is None
    assert "improves no more" in task.end_epoch(-90.0)
