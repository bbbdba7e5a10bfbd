"""A trained language model: scoring and writing text with it."""

import itertools
import math

import numpy as np
import pytest
import tensorflow as tf

from language_modeling import corpora
from language_modeling.corpora import DataError
from language_modeling.evaluation import Evaluator
from language_modeling.inference.generation import Sampler
from language_modeling.inference.scoring import Scored, Scorer, sentences
from language_modeling.inference.trained_model import TrainedModel
from language_modeling.metrics import evaluation
from language_modeling.model import LanguageModel, Noise

WORDS = ("<eos>", "the", "<unk>", *(f"w{i}" for i in range(14)))
K, T = 3, 5


def make(n_actions=K, carry_memory=False, vocabulary=WORDS):
    model = LanguageModel(
        len(vocabulary),
        rnn_size=11,
        rnn_layers=1,
        n_actions=n_actions,
        agent_units=4,
        carry_memory=carry_memory,
        param_init=0.7,
        seed=6,
    )
    model.build()
    return TrainedModel(model, vocabulary)


@pytest.fixture(scope="module")
def trained():
    return make()


def some_text(n, seed=1):
    return [WORDS[i] for i in np.random.default_rng(seed).integers(0, len(WORDS), n)]


def test_unknown_words_are_dropped_read_as_unk_or_refused(trained):
    assert trained.encode("the") == 1
    assert trained.encode("xyzzy", "drop") is None
    assert trained.encode("xyzzy", "unk") == WORDS.index("<unk>")
    with pytest.raises(DataError, match="does not know the word 'xyzzy'"):
        trained.encode("xyzzy", "error")
    with pytest.raises(DataError, match="no word <unk>; leave the flag out"):
        make(vocabulary=("a", "b")).encode("xyzzy", "unk")


# Scoring


@pytest.fixture(
    scope="module", params=itertools.product(["greedy", "sample"], [False, True])
)
def evaluator(request):
    actions, carry_memory = request.param
    return Evaluator(make(carry_memory=carry_memory).model, actions, seed=8)


@pytest.mark.parametrize("n_words", [2, 4, 5, 6, 10, 11, 23])
def test_scoring_a_stream_is_evaluating_it_in_one_row(evaluator, n_words):
    words = some_text(n_words)
    trained = TrainedModel(evaluator.model, WORDS)
    scorer = Scorer(trained, T, actions=evaluator.actions, seed=evaluator.seed)
    scored = list(scorer.score(words))
    ids = np.array([WORDS.index(word) for word in words], np.int32)
    windows = corpora.all_windows(ids, 1, T, "test")
    expected = evaluation(evaluator.run(windows), K)
    assert scorer.perplexity == expected.perplexity  # to the last bit
    assert [row.word for row in scored] == words
    assert scored[0].log_prob is None
    total = sum(row.log_prob for row in scored[1:])
    assert math.exp(-total / (n_words - 1)) == pytest.approx(scorer.perplexity)


def test_skips_say_which_state_a_word_was_read_from(trained):
    n_words = 3 * T
    scored = list(Scorer(trained, T).score(some_text(n_words)))
    assert len({row.skip for row in scored}) > 2  # the agent does this and that
    for i, row in enumerate(scored):
        step = i % T
        if step == 0:
            assert row.skip == (i > 0)  # the state that was carried, or none at all
        else:
            assert 0 <= row.skip <= min(step, K)


@pytest.mark.parametrize("carry_memory", [False, True])
def test_the_skip_that_is_told_is_the_one_that_was_taken(carry_memory):
    # The same words with the actions forced to what was told give the same numbers.
    trained = make(carry_memory=carry_memory)
    words = some_text(T, seed=3)
    ids = [WORDS.index(word) for word in words]
    scored = list(Scorer(trained, T).score(words))
    noise = np.zeros((1, T, K), np.float32)
    for t, row in enumerate(scored):
        if row.skip:
            noise[0, t, K - row.skip] = 1e6
        else:
            empty = range(K - t) if t or carry_memory else range(K)
            noise[0, t, empty[0]] = 1e6
    forced = trained.model(tf.constant([ids]), noise=Noise(tf.constant(noise)))
    log_probs = tf.nn.log_softmax(forced.logits[0]).numpy()
    told = [row.log_prob for row in scored[1:]]
    np.testing.assert_allclose(told, log_probs[np.arange(T - 1), ids[1:]], rtol=1e-4)


@pytest.mark.parametrize("carry_memory", [False, True])
def test_policy_and_guesses_are_what_the_model_computes(carry_memory):
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
        n = min(i if carry_memory else step, K)  # states that can be looked back to
        expected = dict(enumerate(policy[:n], 1)) | (
            {0: policy[n:].sum()} if n < K else {}
        )
        if start and step == 0 and not carry_memory:
            expected = {1: 1.0}  # whatever the agent says
        assert row.policy == pytest.approx(expected, rel=1e-4)
        assert row.skip in row.policy
        assert row.guesses == guesses
        probs = tf.nn.softmax(outputs.logits[0, step]).numpy()
        best = np.argsort(-probs)[:5]
        guesses = tuple((WORDS[k], pytest.approx(probs[k], rel=1e-4)) for k in best)


def test_each_dropped_word_has_its_row_and_others_are_scored_as_if_alone(trained):
    words, n = some_text(13), 2 * T
    with_others = [w for word in words for w in (*["xyzzy"] * n, word)]
    scorer, alone = Scorer(trained, T), Scorer(trained, T)
    rows = list(scorer.score(with_others))
    assert [row.word for row in rows] == with_others
    assert [row for row in rows if row.read_as] == list(alone.score(words))
    assert {row for row in rows if not row.read_as} == {Scored("xyzzy")}
    assert scorer.n_unknown == 13 * n
    assert alone.n_unknown == 0


def test_a_text_of_dropped_words_has_a_row_for_each(trained):
    assert list(Scorer(trained, T).score(["x"] * 9)) == [Scored("x")] * 9


def test_a_sentence_ends_with_its_line_even_where_the_model_knows_no_ends():
    words = ["the", "w1", "<eos>", "w2", "xyzzy", "<eos>", "<eos>", "w3"]

    def found(trained):
        rows = Scorer(trained, T).score(words)
        return [[row.word for row in some] for some in sentences(rows, "<eos>")]

    ends = [["the", "w1", "<eos>"], ["w2", "<eos>"], ["<eos>"], ["w3"]]
    assert found(make()) == ends
    without = [[word for word in some if word != "<eos>"] for some in ends]
    assert found(make(vocabulary=WORDS[1:])) == [some for some in without if some]


def test_words_read_as_unk_are_shown_as_they_are(trained):
    scorer = Scorer(trained, T, "unk")
    scored = list(scorer.score(["the", "xyzzy", "<unk>"]))
    assert [(r.word, r.read_as) for r in scored][1:] == [
        ("xyzzy", "<unk>"),
        ("<unk>", "<unk>"),
    ]
    assert scorer.n_unknown == 1


def test_a_text_without_a_second_word_has_no_perplexity(trained):
    scorer = Scorer(trained, T)
    assert len(list(scorer.score(["the", "xyzzy"]))) == 2
    assert math.isnan(scorer.perplexity)


# Writing


@pytest.mark.parametrize("carry_memory", [False, True])
def test_at_temperature_0_the_likeliest_word_of_evaluation_is_written(carry_memory):
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


def test_words_are_sampled_from_the_model_and_repeat_with_the_seed(trained):
    def write(seed, n=60, **kwargs):
        written = Sampler(trained, T, seed=seed).sample([0], **kwargs)
        return list(itertools.islice(written, n))

    assert write(1) == write(1)
    assert write(1) != write(2)
    assert write(1, top_k=1) == write(2, temperature=0)
    sampler = Sampler(trained, T)  # one, since each compiles the model anew

    def first_word(seed, **kwargs):
        sampler.seed = seed
        return next(sampler.sample([0], **kwargs))

    first = [first_word(seed) for seed in range(400)]
    probs = tf.nn.softmax(trained.model(tf.constant([[0]])).logits[0, 0]).numpy()
    shares = np.bincount(first, minlength=len(WORDS)) / 400
    assert np.abs(shares - probs).max() < 4 * math.sqrt(0.25 / 400)
    likeliest = set(np.argsort(probs)[-3:])
    assert {first_word(seed, top_k=3) for seed in range(60)} == likeliest
