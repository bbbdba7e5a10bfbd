"""The language model: its weights, its state, its loss, its schedule."""

import dataclasses
import json
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from dsc import Skips
from dsc.recipes import LANGUAGE_MODELING
from dsc.runs.folder import RunFolder
from dsc.training.loop import fit
from language_modeling.corpora import Corpus
from language_modeling.metrics import describe_skips
from language_modeling.model import LanguageModel, Noise, Outputs, loss, word_losses
from language_modeling.schedule import Schedule
from language_modeling.task import LanguageModeling

VOCAB, BATCH, STEPS, UNITS, ACTIONS = 11, 2, 5, 6, 3
RELEASED = LANGUAGE_MODELING["released"]
# With weights of its own: the tests do not depend on how the recipe is tuned.
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
        param_init=0.8,  # large enough that the state matters
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


def small_task(
    model, recipe=CORRECTED, learning_rate=0.0, dropout=0.0, seed=3, corpus=None
):
    return LanguageModeling(
        model,
        keras.optimizers.SGD(learning_rate),
        corpus or small_corpus(),
        recipe,
        batch_size=BATCH,
        n_steps=STEPS,
        dropout=dropout,
        seed=seed,
        max_grad_norm=5.0,
        schedule=Schedule(1 / 1.2, 0.005, 1.0),
    )


def rows_of(ids):
    """The text as the task cuts it: what is read and what is predicted, all windows."""
    per_row = len(ids) // BATCH
    n = (per_row - 1) // STEPS * STEPS
    rows = ids[: BATCH * per_row].reshape(BATCH, per_row)
    return rows[:, :n], rows[:, 1 : n + 1]


def log_softmax(logits):
    logits = np.asarray(logits, np.float64)
    return logits - np.log(np.sum(np.exp(logits), axis=-1, keepdims=True))


def pick(values, index):
    return np.take_along_axis(values, np.asarray(index)[..., None], axis=-1)[..., 0]


# Weights. The release's initial values: TensorFlow 1's BasicLSTMCell starts its biases
# at 0, as does the `LSTMCell` of its `supercell_new.py`; `W_hh` there is orthogonal by
# gate; the agent's layers are in `RL_brain.py`; `param_init` is for all others.


def test_the_default_model_has_the_weights_of_the_release():
    embedding = 10_000 * 650
    lstm = 2 * 650 * 4 * 650 + 4 * 650
    agent = (2 * 650 * 200 + 200) + (200 * 5 + 5)
    softmax = 650 * 10_000 + 10_000
    model = LanguageModel(10_000)
    model.build()
    assert model.count_params() == embedding + 3 * lstm + agent + softmax == 23_419_005


@pytest.fixture(scope="module")
def initial():
    """Name and values of each weight of a model with uniform range 0.07."""
    model = LanguageModel(503, rnn_size=48, param_init=0.07, seed=5)
    model.build()
    return {weight.path: weight.numpy() for weight in model.weights}


def is_agent(name):
    return "agent" in name


def is_orthogonal(name):
    return "dsc" in name and name.endswith("recurrent_kernel")


def is_lstm_bias(name):
    return "/cell/bias" in name


def test_the_biases_of_all_lstms_start_at_zero(initial):
    biases = [w for n, w in initial.items() if is_lstm_bias(n)]
    assert [w.shape for w in biases] == [(4 * 48,)] * 3
    assert not np.any(biases)


def test_other_weights_start_uniform_but_for_agent_and_recurrent_blocks(initial):
    others = (is_agent, is_orthogonal, is_lstm_bias)
    uniform = [n for n in initial if not any(other(n) for other in others)]
    # Embedding, 2 * 2 kernels of the LSTMs, the kernel of the DSC, the softmax.
    assert len(uniform) == 1 + 4 + 1 + 2
    for name in uniform:
        values = initial[name].astype(float)
        n, deviation = values.size, 0.07 / math.sqrt(3)
        assert abs(values.mean()) < 4 * deviation / math.sqrt(n), name
        # The fourth moment of a uniform variable is 9/5 of its squared variance.
        assert abs(values.var() / deviation**2 - 1) < 4 * math.sqrt(0.8 / n), name
        # Far out, but never beyond: all n within 1 - 20/n of it has odds of e^-20.
        for end in values.max(), -values.min():
            assert 0.07 * (1 - 20 / n) < end <= 0.07 * (1 + 1e-6), name


def test_no_two_weights_start_with_the_same_numbers(initial):
    firsts = [w.ravel()[:16].tobytes() for n, w in initial.items() if np.ptp(w) > 0]
    assert len(set(firsts)) == len(firsts) == len(initial) - 5  # constant biases


def test_the_default_range_is_the_releases():
    model = LanguageModel(9_001, rnn_size=4, rnn_layers=0, agent_units=3, seed=1)
    model.build()
    largest = np.abs(model.embedding.embeddings.numpy()).max()
    assert 0.0499 < largest <= 0.05


def test_each_gate_of_the_dsc_starts_with_an_orthogonal_block_of_its_own(initial):
    (kernel,) = (w for n, w in initial.items() if is_orthogonal(n))
    blocks = np.split(kernel.astype(float), 4, axis=1)
    for i, block in enumerate(blocks):
        np.testing.assert_allclose(block.T @ block, np.eye(48), atol=1e-5)
        assert all(np.abs(block - other).max() > 0.1 for other in blocks[:i])


def test_the_agent_starts_normal_with_small_positive_biases(initial):
    agent = {name: w for name, w in initial.items() if is_agent(name)}
    assert sorted(w.shape for w in agent.values()) == [
        (5,),
        (96, 200),
        (200,),
        (200, 5),
    ]
    for name, values in agent.items():
        n = values.size
        if name.endswith("bias"):
            np.testing.assert_array_equal(values, np.float32(0.1))
            continue
        assert abs(values.mean()) < 4 * 0.3 / math.sqrt(n)
        assert abs(values.var() / 0.09 - 1) < 4 * math.sqrt(2 / n)
        # A normal variable is beyond two deviations in 4.55% of cases, others not.
        beyond = np.mean(np.abs(values) > 0.6)
        assert abs(beyond - 0.0455) < 4 * math.sqrt(0.0455 * 0.9545 / n)


def test_a_seed_makes_the_same_weights_again_and_another_seed_others():
    first, again, other = (small_model(seed=seed).get_weights() for seed in (5, 5, 6))
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first[0], other[0])


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
    # The state is what makes the difference.
    forgotten = model(tokens[:, 7:]).logits
    assert np.abs(forgotten - second.logits).max() > 1e-2


def test_a_window_without_state_starts_from_zeros():
    model = small_model()
    tokens = np.random.default_rng(2).integers(0, VOCAB, (BATCH, STEPS))
    zeros = [[np.zeros((BATCH, UNITS), np.float32)] * 2] * 2
    np.testing.assert_array_equal(model(tokens).logits, model(tokens, zeros).logits)


def unigram_model(probabilities):
    """A model that gives each word the same probabilities whatever came before."""
    model = small_model(len(probabilities))
    model.softmax.kernel.assign(np.zeros((UNITS, len(probabilities))))
    model.softmax.bias.assign(np.log(probabilities))
    return model


@pytest.mark.parametrize("split", ["valid", "test"])
def test_perplexity_is_exp_of_the_mean_word_loss_over_all_windows(split):
    probabilities = np.arange(1, VOCAB + 1) / np.sum(np.arange(1, VOCAB + 1))
    task = small_task(unigram_model(probabilities))
    _, targets = rows_of(small_corpus().ids[split])
    expected = math.exp(-np.mean(np.log(probabilities[targets])))
    assert task.perplexity(split) == pytest.approx(expected, rel=1e-6)


def test_perplexity_lies_between_one_and_the_size_of_the_vocabulary():
    blind = small_task(unigram_model(np.full(VOCAB, 1 / VOCAB)))
    assert blind.perplexity("test") == pytest.approx(VOCAB, rel=1e-6)
    sure = small_task(unigram_model([1 - 1e-7] + [1e-8] * (VOCAB - 1)))
    sure.windows["test"].ids[:] = 0
    assert sure.perplexity("test") == pytest.approx(1, abs=1e-6)


def test_with_the_tail_the_perplexity_is_that_of_the_whole_text():
    model = small_model(n_actions=1)
    ids = small_corpus().ids["valid"]
    nll = -pick(log_softmax(model(ids[None, :-1]).logits), ids[None, 1:])
    task = LanguageModeling(
        model,
        keras.optimizers.SGD(0.0),
        small_corpus(),
        CORRECTED,
        batch_size=1,
        n_steps=STEPS,
        dropout=0.0,
        seed=3,
        max_grad_norm=5.0,
        schedule=None,
        score_tail=True,
    )
    assert task.perplexity("valid") == pytest.approx(math.exp(nll.mean()), rel=1e-5)
    assert task.n_unscored["valid"] == 1 < task.n_unscored["train"]
    assert (len(ids) - 1) % STEPS  # so the last window is not whole


def test_evaluation_needs_no_window_of_the_training_text():
    corpus = small_corpus()
    expected = small_task(small_model()).perplexity("test")
    del corpus.ids["train"]
    task = small_task(small_model(), corpus=corpus)
    assert task.perplexity("test") == expected
    assert task.n_unscored.keys() == {"valid", "test"}


def test_weights_that_were_evaluated_are_not_evaluated_again(tmp_path, capsys):
    task, read = small_task(small_model(), learning_rate=0.3), []
    evaluator = task.evaluator
    task.read = lambda split: read.append(split) or evaluator.run(task.windows[split])
    folder = RunFolder.begin(tmp_path, {})
    best = fit(task, folder, max_epochs=2, print_every=9).best_score
    folder.checkpoints.load_weights(task.model)
    capsys.readouterr()
    task.report(best)
    assert read == ["valid", "test"] * 2  # each epoch once
    told = capsys.readouterr().out
    task.report()
    assert read == ["valid", "test"] * 3
    assert capsys.readouterr().out == told


def test_a_model_that_has_diverged_has_an_infinite_perplexity():
    model = unigram_model(np.full(VOCAB, 1 / VOCAB))
    bias = np.zeros(VOCAB)
    bias[0] = 1e6  # almost every word is then a million nats away
    model.softmax.bias.assign(bias)
    assert small_task(model).perplexity("test") == math.inf


def test_evaluation_drops_nothing_carries_the_state_and_starts_from_zeros():
    model = small_model(n_actions=1)  # so that windows have no first step
    task = small_task(model, dropout=0.9)
    words, targets = rows_of(small_corpus().ids["valid"])
    nll = -pick(log_softmax(model(words).logits), targets)
    for _ in range(2):
        assert task.perplexity("valid") == pytest.approx(math.exp(nll.mean()), rel=1e-5)
        task.perplexity("test")  # leaves no state behind


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


def test_a_score_counts_how_often_each_state_was_chosen():
    model = small_model()
    model.dsc.cell.agent_logits.kernel.assign(np.zeros((4, ACTIONS)))
    model.dsc.cell.agent_logits.bias.assign([0.0, 2.0, 1.0])
    score = small_task(model).score("test")
    np.testing.assert_array_equal(score.actions, [0, 1, 0])  # greedy: always the best
    assert score.perplexity == small_task(model).perplexity("test")


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
    return Outputs(draw(BATCH, STEPS, VOCAB), None, skips, None), targets


def released_loss(word_nll, log_pi, **_):
    """STEPS * (mean nll + L_RL / STEPS), every step credited with all later ones."""
    policy = 0.0
    for row in range(BATCH):
        for t in range(STEPS):
            to_go = sum(math.exp(-word_nll[row, s]) for s in range(t, STEPS))
            policy += -log_pi[row, t] * to_go / (BATCH * STEPS)
    return word_nll.mean() * STEPS + 0.3 * policy


def corrected_loss(word_nll, log_pi, entropy, first):
    """Each choice is credited with its own word, less what the other row earned."""
    policy = 0.0
    for t in range(first, STEPS):
        rewards = -word_nll[:, t]
        for row in range(BATCH):
            others = np.delete(rewards, row).mean()
            advantage = (rewards[row] - others) / (rewards.std() + 1e-6)
            policy += -log_pi[row, t] * advantage / (BATCH * (STEPS - first))
    return word_nll.mean() * STEPS + 0.7 * policy - 0.05 * entropy[:, first:].mean()


@pytest.mark.parametrize(
    ("recipe", "carry_memory", "expected", "first"),
    [
        (RELEASED, False, released_loss, 0),
        (CORRECTED, False, corrected_loss, 1),
        (CORRECTED, True, corrected_loss, 0),  # then the first step chooses too
        (
            dataclasses.replace(CORRECTED, first_action_in_loss=True),
            False,
            corrected_loss,
            0,
        ),
    ],
    ids=["released", "corrected", "carried memory", "first action"],
)
def test_loss_is_that_of_a_loop_in_numpy(recipe, carry_memory, expected, first):
    outputs, targets = literal_outputs()
    total, metrics = loss(outputs, targets, recipe, carry_memory)
    word_nll = -pick(log_softmax(outputs.logits), targets)
    log_policy = log_softmax(outputs.skips.logits)
    log_pi = pick(log_policy, outputs.skips.actions)
    entropy = -np.sum(np.exp(log_policy) * log_policy, axis=-1)
    value = expected(word_nll, log_pi, entropy=entropy, first=first)
    assert float(total) == pytest.approx(value, rel=1e-5)
    assert float(metrics["nll"]) == pytest.approx(word_nll.mean(), rel=1e-5)
    assert float(metrics["entropy"]) == pytest.approx(
        entropy[:, first:].mean(), rel=1e-5
    )
    # The policy's part is what the words and the entropy bonus do not explain.
    rest = value - STEPS * word_nll.mean()
    rest += recipe.entropy_weight * entropy[:, first:].mean()
    assert float(metrics["rl_loss"]) == pytest.approx(rest, rel=1e-4)
    counts = np.bincount(outputs.skips.actions[:, first:].numpy().ravel(), minlength=3)
    np.testing.assert_allclose(metrics["actions"], counts / counts.sum(), rtol=1e-6)


def numpy_word_losses(logits, targets):
    """In float64, so that the largest logits lose nothing."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    log_probs = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return -np.take_along_axis(log_probs, targets[..., None], axis=-1)[..., 0]


@pytest.mark.parametrize("scale", [1.0, 30.0, 1000.0])
def test_word_losses_and_their_gradient_are_those_of_numpy(scale, rng):
    given = tf.constant(scale * rng.normal(size=(BATCH, STEPS, VOCAB)), "float32")
    logits = given.numpy().astype("float64")
    targets = rng.integers(0, VOCAB, (BATCH, STEPS))
    weights = rng.normal(size=(BATCH, STEPS))
    with tf.GradientTape() as tape:
        tape.watch(given)
        found = word_losses(given, targets)
        weighted = tf.reduce_sum(found * weights.astype("float32"))
    np.testing.assert_allclose(
        found, numpy_word_losses(logits, targets), rtol=1e-6, atol=1e-6
    )
    probs = np.exp(
        -np.stack(
            [numpy_word_losses(logits, np.full_like(targets, k)) for k in range(VOCAB)],
            axis=-1,
        )
    )
    expected = (probs - np.eye(VOCAB)[targets]) * weights[..., None]
    np.testing.assert_allclose(tape.gradient(weighted, given), expected, atol=1e-5)


def test_in_bfloat16_the_loss_is_close_and_losses_and_weights_are_float32(rng):
    tokens = rng.integers(0, VOCAB, (BATCH, STEPS))
    noise = Noise(1e3 * np.eye(ACTIONS)[rng.integers(0, ACTIONS, (BATCH, STEPS))])
    exact, coarse = (
        loss(small_model(dtype=dtype)(tokens, noise=noise), tokens, CORRECTED)[1]
        for dtype in ("float32", "mixed_bfloat16")
    )
    assert all(part.dtype == "float32" for part in coarse.values())
    np.testing.assert_allclose(coarse["nll"], exact["nll"], rtol=0.02)
    assert coarse["nll"] != exact["nll"]
    model = small_model(dtype="mixed_bfloat16")
    assert all(w.dtype == "float32" for w in model.weights)
    state = tf.nest.flatten(model(tokens).state)
    assert all(part.dtype == "bfloat16" for part in state)


def test_released_loss_of_one_row_worked_by_hand():
    # Two words of probability 1/2 and 1/4; actions of probability 1/2 and 4/5.
    words = np.log([[[0.5, 0.25, 0.25], [0.5, 0.25, 0.25]]]).astype(np.float32)
    policy = np.log([[[0.5, 0.5], [0.2, 0.8]]]).astype(np.float32)
    outputs = Outputs(words, None, Skips(policy, np.array([[0, 1]])), None)
    total, _ = loss(outputs, np.array([[0, 2]]), RELEASED)
    task_loss = 2 * (math.log(2) + math.log(4)) / 2
    rl_loss = 0.3 * (math.log(2) * (1 / 2 + 1 / 4) + math.log(5 / 4) * 1 / 4) / 2
    assert float(total) == pytest.approx(task_loss + rl_loss, rel=1e-6)


def gradients(recipe):
    outputs, targets = literal_outputs()
    with tf.GradientTape() as tape:
        watched = (outputs.logits, outputs.skips.logits)
        tape.watch(watched)
        total, _ = loss(outputs, targets, recipe)
    return outputs, targets, tape.gradient(total, watched)


@pytest.mark.parametrize("recipe", [RELEASED, CORRECTED], ids=["released", "corrected"])
def test_rewards_give_the_words_no_gradient(recipe):
    outputs, targets, (d_words, _) = gradients(recipe)
    # Of STEPS * mean nll alone: (softmax - one-hot) / BATCH.
    expected = (np.exp(log_softmax(outputs.logits)) - np.eye(VOCAB)[targets]) / BATCH
    np.testing.assert_allclose(d_words, expected, rtol=1e-4, atol=1e-6)


def test_released_policy_gradient_is_the_score_times_the_reward_to_go():
    outputs, targets, (_, d_policy) = gradients(RELEASED)
    rewards = np.exp(pick(log_softmax(outputs.logits), targets))
    to_go = np.cumsum(rewards[:, ::-1], axis=1)[:, ::-1]
    score = np.eye(ACTIONS)[outputs.skips.actions] - np.exp(
        log_softmax(outputs.skips.logits)
    )
    expected = -0.3 * score * to_go[..., None] / (BATCH * STEPS)
    np.testing.assert_allclose(d_policy, expected, rtol=1e-4, atol=1e-6)


# Dropout


@pytest.mark.parametrize("rnn_layers", [0, 1, 4])
def test_there_is_a_mask_for_the_embedding_and_for_each_recurrent_layer(rnn_layers):
    assert small_model(rnn_layers=rnn_layers).n_dropout_masks == 1 + rnn_layers + 1


def test_masks_stand_after_the_embedding_and_after_each_recurrent_layer():
    model, rnn_layers, n_masks = small_model(), 1, 3
    rng = np.random.default_rng(4)
    tokens, others = rng.integers(0, VOCAB, (2, BATCH, STEPS))
    ones = np.ones((BATCH, STEPS, UNITS), np.float32)
    for dropped in range(n_masks):
        masks = [ones * (i != dropped) for i in range(n_masks)]
        noise = Noise(dropout=masks)
        one, other = model(tokens, noise=noise), model(others, noise=noise)
        # Nothing passes a mask of zeros: layers below it see the words, others do not.
        np.testing.assert_array_equal(one.logits, other.logits)
        sees = [
            not np.array_equal(a[0], b[0])
            for a, b in zip(one.state, other.state, strict=True)
        ]
        assert sees == [layer < dropped for layer in range(rnn_layers + 1)]


def test_masks_scale_what_passes_them():
    model = small_model(rnn_layers=0)
    tokens = np.random.default_rng(4).integers(0, VOCAB, (BATCH, STEPS))
    plain = model(tokens)
    ones = np.ones((BATCH, STEPS, UNITS), np.float32)
    doubled = model(tokens, noise=Noise(dropout=[ones, 2 * ones]))
    bias = model.softmax.bias.numpy()
    np.testing.assert_allclose(
        doubled.logits - bias, 2 * (plain.logits - bias), rtol=1e-4, atol=1e-5
    )


class Recorder:
    """Stands for a model, and keeps the noise that it is called with."""

    def __init__(self, model):
        self.model = model

    def __call__(self, tokens, state, noise):
        self.noise = noise
        raise InterruptedError  # nothing else of the step is of interest

    def __getattr__(self, name):
        return getattr(self.model, name)


def noises_of(dropout, steps, seed=3):
    recorder = Recorder(small_model())
    task = small_task(recorder, dropout=dropout, seed=seed)
    for step in steps:
        with pytest.raises(InterruptedError):
            task.loss(tf.constant(step, tf.int64), task.batch(0, 0), None)
        yield recorder.noise


def test_a_training_step_draws_its_own_masks_and_actions():
    first, second = noises_of(0.25, (0, 1))
    draws = [*first.dropout, *second.dropout]
    assert len(first.dropout) == 3
    assert len({mask.numpy().tobytes() for mask in draws}) == 6
    for mask in draws:
        assert mask.shape == (BATCH, STEPS, UNITS)
        np.testing.assert_allclose(np.unique(mask), [0, 4 / 3], rtol=1e-6)
    assert first.actions.shape == (BATCH, STEPS, ACTIONS)
    assert not np.array_equal(first.actions, second.actions)
    (again,) = noises_of(0.25, (1,))
    np.testing.assert_array_equal(again.actions, second.actions)
    np.testing.assert_array_equal(again.dropout[0], second.dropout[0])
    (other,) = noises_of(0.25, (1,), seed=4)
    assert not np.array_equal(other.actions, second.actions)


def test_without_dropout_there_are_no_masks():
    (noise,) = noises_of(0.0, (0,))
    assert noise.dropout is None


# Schedule


def test_learning_rate_falls_unless_the_best_perplexity_falls_by_more_than_one():
    schedule = Schedule(decay=1 / 1.2, threshold=0.005, decay_when=1.0)
    d = 1 / 1.2
    table = [  # perplexity, next rate: the anchor is the last that beat it by > 1
        (100.0, 1.0),  # the first; anchor 100
        (98.0, 1.0),  # 2 better; anchor 98
        (97.5, d),  # 0.5 better; anchor stays
        (97.0, d**2),  # exactly 1 better than the anchor is not more than 1
        (98.0, d**3),  # a tie with the anchor
        (96.9, d**3),  # 1.1 better than the anchor, though 0.1 than the best; anchor
        (96.0, d**4),  # 0.9 better
        (200.0, d**5),  # worse
    ]
    rate = 1.0
    for perplexity, expected in table:
        rate, stop = schedule(rate, perplexity)
        assert rate == pytest.approx(expected, rel=1e-12), perplexity
        assert not stop


def test_learning_rate_stops_at_the_threshold_and_only_then_there_is_no_smaller():
    schedule = Schedule(decay=0.5, threshold=0.3, decay_when=1.0)
    assert schedule(1.0, 50.0) == (1.0, False)
    assert schedule(1.0, 50.0) == (0.5, False)
    assert schedule(0.5, 50.0) == (0.3, False)  # not 0.25; and 0.3 is yet to be tried
    assert schedule(0.3, 50.0) == (0.3, True)
    assert schedule(0.3, 40.0) == (0.3, False)  # it does improve again


@pytest.mark.parametrize("recipe", [RELEASED, CORRECTED], ids=["released", "corrected"])
def test_an_epoch_without_gain_slows_the_optimizer(recipe):
    task = small_task(small_model(), recipe, learning_rate=0.6)
    for perplexity, rate in [(90.0, 0.6), (89.5, 0.5), (80.0, 0.5), (81.0, 0.5 / 1.2)]:
        assert task.end_epoch(-perplexity) is None
        assert float(task.optimizer.learning_rate) == pytest.approx(rate, rel=1e-6)


# The optimizer keeps the rate in float32, where 0.1 is a little more than 0.1.
@pytest.mark.parametrize("threshold", [0.005, 0.1])
def test_training_ends_when_the_smallest_rate_brings_no_gain(threshold):
    task = small_task(small_model(), learning_rate=threshold)
    task.schedule = Schedule(1 / 1.2, threshold, 1.0)
    assert task.end_epoch(-90.0) is None
    assert "improves no more" in task.end_epoch(-90.0)


@pytest.mark.parametrize("perplexities", [(math.nan, 9.0, 7.0), (9.0, math.nan, 7.0)])
def test_a_perplexity_that_is_no_number_slows_down_and_is_forgotten(perplexities):
    schedule = Schedule(decay=0.5, threshold=0.3, decay_when=1.0)
    rates = [schedule(1.0, perplexity)[0] for perplexity in perplexities]
    assert rates == [0.5 if math.isnan(p) else 1.0 for p in perplexities]
    assert schedule.best == 7.0
