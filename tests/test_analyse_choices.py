"""What the choices of a trained model are worth is measured rightly."""

import re

import numpy as np
import pytest
import small
import tensorflow as tf
from choices import gradients, one_step, reading

from language_modeling.evaluation import Evaluator
from language_modeling.metrics import evaluation
from language_modeling.model import LanguageModel, word_losses
from tests.stress import programs

SCRIPT = programs.ROOT / "scripts" / "analyse_choices.py"
VOCAB, UNITS, K, BATCH, TIME, N_WINDOWS = 13, 6, 3, 4, 5, 6


def make(n_actions=K, **options):
    """`(model, windows)`."""
    model = LanguageModel(
        VOCAB, UNITS, 1, n_actions, agent_units=4, param_init=0.9, seed=1, **options
    )
    model.build()
    rng = np.random.default_rng(2)
    texts = rng.integers(0, VOCAB, (N_WINDOWS, 2, BATCH, TIME)).astype(np.int32)
    scored = np.ones((BATCH, TIME), bool)
    return model, [(words, targets, scored) for words, targets in texts]


def copy_weights(model, to):
    """Those that both have."""
    by_name = {v.path.partition("/")[2]: v for v in model.weights}
    for variable in to.weights:
        variable.assign(by_name[variable.path.partition("/")[2]])


@pytest.mark.slow
def test_each_way_to_choose_has_the_perplexity_of_its_actions(rng):
    model, windows = make()
    reader = reading.Reader(model, windows)
    found = dict(reading.perplexities(reader, 40, rng))
    greedy = evaluation(Evaluator(model).run(windows), K)
    assert found["greedy"] == pytest.approx(greedy.perplexity, rel=1e-6)
    sampled = evaluation(Evaluator(model, "sample").run(windows), K)
    # Jensen: the mean of probabilities is better than their geometric mean.
    assert found["mean probability of 40 draws"] < found["sampled"]
    assert found["sampled"] == pytest.approx(sampled.perplexity, rel=0.02)
    lstm, _ = make(1)
    copy_weights(model, lstm)
    newest = evaluation(Evaluator(lstm).run(windows), 1).perplexity
    assert found["always 1 back (the newest)"] == pytest.approx(newest, rel=1e-5)
    assert len(np.unique(reader.log_probs()[1])) > 1
    assert len(set(found.values())) == len(found)


def test_the_squared_gradients_are_means_over_all_actions(rng):
    batch, time = 3, 2
    rewards = rng.normal(size=(batch, time, K)) - 3.0
    policy = one_step.softmax(rng.normal(size=(batch, time, K)))
    actions = rng.integers(0, K, (batch, time))
    predicted = rng.normal(size=(batch, time))
    expected = dict.fromkeys(("none", "others", "value", "learned", "exact"), 0.0)
    for b, t in np.ndindex(batch, time):
        pi, r = policy[b, t], rewards[b, t]
        others = [rewards[o, t, actions[o, t]] for o in range(batch) if o != b]
        for name, base in zip(
            expected,
            (0.0, np.mean(others), pi @ r, np.mean(others) + predicted[b, t], None),
            strict=True,
        ):
            if base is not None:
                each = [(np.eye(K)[a] - pi) * (r[a] - base) for a in range(K)]
                expected[name] += sum(p * g @ g for p, g in zip(pi, each, strict=True))
        mean = sum(pi[a] * (np.eye(K)[a] - pi) * r[a] for a in range(K))
        expected["exact"] += mean @ mean
    found = one_step.squared_gradients(rewards, policy, actions, predicted)
    np.testing.assert_allclose(list(found.values()), list(expected.values()))


def test_the_probe_explains_what_is_linear_and_nothing_else(rng):
    noisy, linear = one_step.Probe(), one_step.Probe()
    weights = rng.normal(size=(8, K))
    for part in range(3):
        x = rng.normal(size=(2000, 8)).astype(np.float32)
        y = x @ weights + 1.0
        linear.add(part, x, y + rng.normal(size=y.shape) * np.std(x @ weights))
        noisy.add(part, x, rng.normal(size=y.shape))
    assert linear.explained() == pytest.approx(0.5, abs=0.05)
    assert abs(noisy.explained()) < 0.02


def test_a_reading_in_detail_gives_the_rewards_of_forced_actions(rng):
    model, windows = make(estimator="exact", carry_memory=True)
    reader = reading.Reader(model, windows)
    first, *_ = reader.read(in_detail=True)
    rewards = one_step.rewards_by_action(first)
    for t, k in np.ndindex(TIME, K):
        actions = first.actions.copy()
        actions[:, t] = k
        forced = next(reader.read(lambda _, a=actions: reading.forced(a, K)))
        np.testing.assert_allclose(rewards[:, t, k], forced.log_probs[:, t], atol=1e-5)
    carried = np.zeros((BATCH, K, UNITS), np.float32)
    memory = one_step.memories(first.hidden, carried)
    np.testing.assert_array_equal(memory[:, 4], first.hidden[:, 4 - K : 4])
    values, ratios, explained = one_step.analyse(reader)
    assert values["the best state, over the choice"] > 0.0
    assert ratios["exact"] == 1.0
    assert all(share < 1.0 for share in explained.values())


def test_a_learned_value_is_taken_for_its_own_steps(rng):
    model, windows = make(baseline="value")
    model.dsc.return_alternatives = True
    weights = rng.normal(size=(UNITS, 1)), np.array([0.3])
    model.value.linear.set_weights(weights)
    reader = reading.Reader(model, windows)
    totals = {}
    for read in reader.read(in_detail=True):
        parts = one_step.rewards_by_action(read), one_step.softmax(read.logits)
        used = (part[:, 1:] for part in (*parts, read.actions, read.predicted))
        for name, total in one_step.squared_gradients(*used).items():
            totals[name] = totals.get(name, 0.0) + total
    found = one_step.analyse(reader)[1]
    assert found == pytest.approx({k: v / totals["exact"] for k, v in totals.items()})


@pytest.mark.parametrize("n_actions", [1, K])
def test_the_gradient_of_a_state_is_that_of_a_later_start(n_actions):
    """Of an LSTM: the state before the last steps is where they start from."""
    model, windows = make(n_actions)
    newest = reading.forced(np.full((BATCH, TIME), n_actions - 1), n_actions)
    found = gradients.norms(model, windows[:1], newest)
    words, targets, _ = windows[0]
    x = reading.inputs(model, words, model.get_initial_state(BATCH))
    for distance in range(1, TIME):
        start = TIME - distance
        zeros = model.dsc.get_initial_state(BATCH)
        _, *state, _ = model.dsc(x[:, :start], zeros, noise=newest[:, :start])
        with tf.GradientTape() as tape:
            tape.watch(state)
            hidden, *_ = model.dsc(x[:, start:], state, noise=newest[:, start:])
            logits = model.softmax(hidden[:, -1:])
            loss = tf.reduce_sum(word_losses(logits, targets[:, -1:]))
        lengths = tf.norm(tape.gradient(loss, state)[0], axis=-1)
        np.testing.assert_allclose(found[distance], np.mean(lengths), rtol=1e-4)


def test_the_newest_states_are_taken_in_all_windows():
    model, windows = make()
    lstm, _ = make(1)
    copy_weights(model, lstm)
    newest = reading.forced(np.full((BATCH, TIME), K - 1), K)
    found = gradients.norms(model, windows, newest)
    np.testing.assert_allclose(found, gradients.norms(lstm, windows), rtol=1e-4)


@pytest.mark.slow
def test_the_gradients_of_random_skips_are_those_of_their_actions():
    agent, windows = make()
    random, _ = make(choice="random_skip")
    copy_weights(agent, random)
    (_, actions, _), *_ = Evaluator(random, "sample", seed=1).run(windows)
    expected = gradients.norms(agent, windows[:1], reading.forced(actions, K))
    found = gradients.norms(random, windows[:1], seed=1)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_a_path_that_cannot_be_written_is_refused_before_a_run_is_read(call, tmp_path):
    (tmp_path / "file").touch()
    for out in (".", "file/x"):
        result = call(tmp_path, SCRIPT, "nowhere", f"--out={out}")
        assert result.code == 1
        assert result.err[-1].startswith("--out: ")


@pytest.mark.slow
def test_a_run_is_analysed_and_an_lstm_is_not(
    language_run, data, tmp_path, call, monkeypatch
):
    cache = f"--cache_dir={data / 'cache'}"
    result = programs.run(tmp_path, SCRIPT, *[language_run.run] * 2, cache)
    page = (tmp_path / "choices.md").read_text()
    assert page.count("| greedy |") == 2
    assert page in "\n".join(small.succeeds(result).out)
    assert (tmp_path / "choices.png").stat().st_size > 10_000
    lstm = small.train_language(
        tmp_path, data / "corpus", "--model=lstm", "--max_steps=5"
    )
    result = programs.run(tmp_path, SCRIPT, lstm.run, cache)
    assert result.code == 1
    assert "no agent that chooses; give a run of --model dsc" in result.err[-1]
    monkeypatch.setattr(reading, "perplexities", None)  # all runs are opened before
    result = call(tmp_path, SCRIPT, language_run.run, "nowhere", cache)
    assert result.code == 1 and "nowhere" in result.err[-1]


@pytest.mark.slow
def test_a_model_of_characters_has_bits_per_character(data, call, tmp_path):
    run, _ = small.train_language(
        tmp_path, data / "corpus", "--level=char", "--max_steps=5"
    )
    flags = (f"--cache_dir={data / 'cache'}", "--max_windows=6", "--draws=1")
    small.succeeds(call(tmp_path, SCRIPT, run, *flags))
    page = (tmp_path / "choices.md").read_text()
    assert "| choices | bits per character |" in page
    assert "nats a character" in page
    (bits,) = re.findall(r"^\| greedy \| (\S+) \| \+0.00", page, re.MULTILINE)
    n_characters = len((run / "vocabulary.txt").read_text().split())
    assert float(bits) == pytest.approx(np.log2(n_characters), abs=0.5)
