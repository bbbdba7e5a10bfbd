"""A trained language model: encoding, scoring and sampling text."""

import functools
import itertools
import math
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf

from dsc.noise import gumbel
from language_modeling import corpora
from language_modeling.evaluation import Evaluator
from language_modeling.inference import scoring
from language_modeling.inference.generation import Sampler
from language_modeling.inference.scoring import Scored, Scorer, sentences
from language_modeling.inference.trained_model import TrainedModel
from language_modeling.metrics import evaluation
from language_modeling.model import ACTIONS, EVALUATION_SEED, LanguageModel, Noise

WORDS = ("<eos>", "the", "<unk>", *(f"w{i}" for i in range(14)))
K, T = 3, 5


@functools.cache
def make(carry_memory=False):
    model = LanguageModel(
        len(WORDS),
        rnn_size=11,
        rnn_layers=1,
        n_actions=K,
        agent_units=4,
        carry_memory=carry_memory,
        param_init=0.7,
        seed=6,
    )
    model.build()
    return TrainedModel(model, WORDS)


@pytest.fixture(scope="module", autouse=True)
def compile_once():
    """Lets the scorers of a model share its compiled evaluation."""
    shared = functools.cache(scoring._DetailedEvaluator)
    with mock.patch.object(scoring, "_DetailedEvaluator", shared):
        yield


@pytest.fixture
def trained():
    return make()


def some_text(n, seed=1):
    return [WORDS[i] for i in np.random.default_rng(seed).integers(0, len(WORDS), n)]


# Scoring


@pytest.mark.parametrize("actions", ["greedy", "sample"])
@pytest.mark.parametrize("carry_memory", [False, True])
def test_scoring_a_text_is_evaluating_it_in_one_row(carry_memory, actions):
    trained = make(carry_memory)
    evaluator = Evaluator(trained.model, actions, seed=8)
    for n_words in 2, 5, 6, 11, 23:
        words = some_text(n_words)
        scorer = Scorer(trained, T, actions=actions, seed=8)
        scored = list(scorer.score(words))
        ids = np.array([WORDS.index(word) for word in words], np.int32)
        windows = corpora.all_windows(ids, 1, T, "test")
        expected = evaluation(evaluator.run(windows), K)
        assert scorer.perplexity == expected.perplexity  # to the last bit
        assert [row.word for row in scored] == words
        assert scored[0].log_prob is None
        total = sum(row.log_prob for row in scored[1:])
        assert math.exp(-total / (n_words - 1)) == pytest.approx(scorer.perplexity)


@pytest.mark.parametrize("carry_memory", [False, True])
def test_skips_policy_and_guesses_are_what_the_model_computes(carry_memory):
    trained = make(carry_memory=carry_memory)
    words = some_text(2 * T + 2)
    scored = list(Scorer(trained, T).score(words))
    state, guesses = None, ()
    for i, row in enumerate(scored):
        start, step = divmod(i, T)
        if step == 0:
            ids = [WORDS.index(word) for word in words[i : i + T]]
            outputs = trained.model(tf.constant([ids]), state)
            state = outputs.state
        policy = tf.nn.softmax(outputs.skips.logits[0, step]).numpy()[::-1]
        n = min(i if carry_memory else step, K)  # states in the memory
        expected = dict(enumerate(policy[:n], 1)) | (
            {0: policy[n:].sum()} if n < K else {}
        )
        skip = K - int(outputs.skips.actions[0, step])
        if start and step == 0 and not carry_memory:
            expected, skip = {1: 1.0}, 1  # the action has no effect
        elif skip > n:
            skip = 0
        assert row.policy == pytest.approx(expected, rel=1e-4)
        assert row.skip == skip
        assert row.guesses == guesses
        probs = tf.nn.softmax(outputs.logits[0, step]).numpy()
        best = np.argsort(-probs)[:5]
        guesses = tuple((WORDS[k], pytest.approx(probs[k], rel=1e-4)) for k in best)
        if i + 1 < len(words):
            next_id = WORDS.index(words[i + 1])
            expected = pytest.approx(np.log(probs[next_id]), rel=1e-4)
            assert scored[i + 1].log_prob == expected
    assert len({row.skip for row in scored}) > 2


def test_dropped_words_do_not_change_the_scores_of_others(trained):
    words, n = some_text(13), 2 * T
    with_others = [w for word in words for w in (*["xyzzy"] * n, word)]
    scorer, alone = Scorer(trained, T), Scorer(trained, T)
    rows = list(scorer.score(with_others))
    assert [row.word for row in rows] == with_others
    assert [row for row in rows if row.read_as] == list(alone.score(words))
    assert {row for row in rows if not row.read_as} == {Scored("xyzzy")}
    assert scorer.n_unknown == 13 * n
    assert alone.n_unknown == 0
    assert list(Scorer(trained, T).score(["x"] * 9)) == [Scored("x")] * 9


def test_sentences_end_with_their_lines():
    rows = [
        Scored("the", "the"),
        Scored("<eos>", "<eos>"),
        Scored("w2", "w2"),
        Scored("xyzzy"),  # dropped
        Scored("<eos>"),  # unknown to the model, but an end
        Scored("<eos>"),
        Scored("w3", "w3"),
    ]
    found = [[row.word for row in some] for some in sentences(rows, "<eos>")]
    assert found == [["the", "<eos>"], ["w2"], ["w3"]]


def test_words_read_as_unk_are_shown_as_in_the_text(trained):
    scorer = Scorer(trained, T, "unk")
    scored = list(scorer.score(["xyzzy", "<unk>"]))
    read = [("xyzzy", "<unk>"), ("<unk>", "<unk>")]
    assert [(row.word, row.read_as) for row in scored] == read
    assert scorer.n_unknown == 1


def test_a_text_of_one_known_word_has_no_perplexity(trained):
    scorer = Scorer(trained, T)
    assert len(list(scorer.score(["the", "xyzzy"]))) == 2
    assert math.isnan(scorer.perplexity)


# Sampling


@pytest.mark.parametrize("carry_memory", [False, True])
def test_at_temperature_0_the_likeliest_word_of_evaluation_is_taken(carry_memory):
    trained = make(carry_memory=carry_memory)
    prompt = [0, 4, 7]
    written = Sampler(trained, T).sample(prompt, temperature=0)
    ids = prompt + list(itertools.islice(written, 4 * T))
    words = [WORDS[i] for i in ids]
    evaluated = tf.function(lambda *read: trained.model(*read), autograph=False)
    best = []
    for n in range(len(prompt), len(ids)):
        state = None
        windows = corpora.all_windows(np.array([*ids[:n], 0], np.int32), 1, T, "")
        for window, _, _ in windows:
            outputs = evaluated(tf.constant(window), state)
            state = outputs.state
        best.append(int(np.argmax(outputs.logits[0, (n - 1) % T])))
    assert best == ids[len(prompt) :]
    assert len(set(words)) > 3


def test_a_word_is_sampled_from_the_mean_of_the_passes(trained):
    n, prompt = 3, [0, 4, 7, 2]
    sampler = Sampler(trained, T, actions=f"mean:{n}")
    word = next(sampler.sample(prompt, temperature=0))
    probs = np.zeros(len(WORDS))
    for i in range(n):
        drawn = [gumbel((n, K), EVALUATION_SEED, t, ACTIONS)[i] for t in range(4)]
        noise = Noise(tf.stack(drawn)[None])
        logits = trained.model(tf.constant([prompt]), noise=noise).logits
        probs += tf.nn.softmax(logits[0, -1]).numpy()
    assert word == np.argmax(probs)


def test_words_are_sampled_from_the_model_and_repeat_with_the_seed(trained):
    sampler = Sampler(trained, T)  # only one, since each compiles the model

    def write(seed, n_words=60, **kwargs):
        sampler.seed = seed
        return list(itertools.islice(sampler.sample([0], **kwargs), n_words))

    assert write(1) == write(1)
    assert write(1) != write(2)
    assert write(1, top_k=1) == write(2, temperature=0)
    first = [write(seed, 1)[0] for seed in range(400)]
    probs = tf.nn.softmax(trained.model(tf.constant([[0]])).logits[0, 0]).numpy()
    shares = np.bincount(first, minlength=len(WORDS)) / 400
    assert np.abs(shares - probs).max() < 4 * math.sqrt(0.25 / 400)
    likeliest = set(np.argsort(probs)[-3:])
    assert {write(seed, 1, top_k=3)[0] for seed in range(60)} == likeliest
