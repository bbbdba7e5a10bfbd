"""The cases of `benchmark.py`: steps of the models, and their matrix products alone.

Each case is a function that builds a model and returns a function, which takes one
step and waits for its end.
"""

import copy

import keras
import numpy as np
import tensorflow as tf

from dsc import recipes
from dsc.cli.flags import MAX_ACTIONS, MAX_UNITS, Group
from dsc.distributed.base import Distribution
from dsc.training.step import clip, make_train_step
from language_modeling import flags as language_flags
from language_modeling import training
from language_modeling.corpora import SPLITS, Corpus
from language_modeling.task import LanguageModeling
from number_prediction.model import NumberPredictor
from number_prediction.task import NumberPrediction

model = Group("model")
FLAGS = model.defined
model.integer("rnn_size", 650, "units of the language model", 1, MAX_UNITS)
model.integer("batch_size", 20, "rows of a window", 1)
model.integer("num_unroll_steps", 35, "steps of a window", 2)
model.integer("vocab_size", 10_000, "words", 2)
model.integer("n_actions", 5, "states to choose from", 2, MAX_ACTIONS)

RNN_LAYERS, DROPOUT = 2, 0.5  # of the language model, by default
NP_BATCH, NP_STEPS, NP_NUMBERS = 100, 11, 10
NP_UNITS, NP_ACTIONS, NP_AGENT = 200, 10, 10
AGENT_UNITS = 200


def lm_task(n_actions, steps, *options):
    """The language model's training, on random words; `options` are flags."""
    rng = np.random.default_rng(0)
    n_words = FLAGS.batch_size * (4 * steps + 1)
    ids = {
        split: rng.integers(0, FLAGS.vocab_size, n_words).astype(np.int32)
        for split in SPLITS
    }
    corpus = Corpus(tuple(map(str, range(FLAGS.vocab_size))), ids, {}, {})
    values = copy.deepcopy(language_flags.FLAGS)
    sizes = {name: FLAGS[name].value for name in ("rnn_size", "batch_size")}
    sizes |= {"n_actions": n_actions, "num_unroll_steps": steps}
    values(["", *(f"--{name}={size}" for name, size in sizes.items()), *options])
    return training.make_task(LanguageModeling, values, corpus, Distribution())


def training_step(task):
    """A function that takes the next training step of a task."""
    train_step = make_train_step(task)
    state, count = task.initial_state(), 0

    def step():
        nonlocal state, count
        batch = task.batch(0, count % task.n_batches)
        state, metrics = train_step(tf.constant(count, tf.int64), batch, state)
        count += 1
        metrics["loss"].numpy()

    return step


def lm(*options, n_actions=None, steps=None):
    steps = steps or FLAGS.num_unroll_steps
    return training_step(lm_task(n_actions or FLAGS.n_actions, steps, *options))


def lm_keras():
    """The same stack of `keras.layers.LSTM`, with the same loss, clipping and SGD."""
    shape = (FLAGS.batch_size, FLAGS.num_unroll_steps)
    model = keras.Sequential()
    model.add(keras.Input(batch_shape=shape, dtype="int32"))
    model.add(keras.layers.Embedding(FLAGS.vocab_size, FLAGS.rnn_size))
    model.add(keras.layers.Dropout(DROPOUT))
    for _ in range(RNN_LAYERS + 1):
        lstm = keras.layers.LSTM(FLAGS.rnn_size, return_sequences=True, stateful=True)
        model.add(lstm)
        model.add(keras.layers.Dropout(DROPOUT))
    model.add(keras.layers.Dense(FLAGS.vocab_size))
    optimizer = keras.optimizers.SGD(1.0)
    variables = model.trainable_variables
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, FLAGS.vocab_size, (2, *shape)).astype(np.int32)

    @tf.function(autograph=False)
    def train_step(x, y):
        with tf.GradientTape() as tape:
            logits = model(x, training=True)
            nll = keras.ops.sparse_categorical_crossentropy(y, logits, from_logits=True)
            loss = shape[1] * tf.reduce_mean(nll)
        gradients = tape.gradient(loss, variables)
        gradients, _ = clip(gradients, 5.0, dense_norm=True)
        optimizer.apply(gradients, variables)
        return loss

    return lambda: train_step(x, y).numpy()


def lm_products(backward):
    """The matrix products of a language model's step, with or without its gradients."""
    return products(
        batch=FLAGS.batch_size,
        steps=FLAGS.num_unroll_steps,
        layers=[(FLAGS.rnn_size, FLAGS.rnn_size)] * (RNN_LAYERS + 1),
        agent=(AGENT_UNITS, FLAGS.n_actions),
        readout=(FLAGS.batch_size * FLAGS.num_unroll_steps, FLAGS.vocab_size),
        backward=backward,
        first_input_gradient=backward,
    )


def evaluation():
    """Greedy evaluation of four windows of words."""
    task = lm_task(FLAGS.n_actions, FLAGS.num_unroll_steps)
    return lambda: task.score("valid")


def evaluation_floor():
    """The matrix products of `evaluation`."""
    window = lm_products(backward=False)
    return lambda: [window() for _ in range(4)]


def number_prediction(implementation="xla"):
    """Number prediction's training, as `rl_train.py` compiles it."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, NP_NUMBERS, (4 * NP_BATCH, NP_STEPS)).astype(np.int32)
    data = dict.fromkeys(("train", "valid", "test"), (x, x[:, 0]))
    model = NumberPredictor(
        NP_UNITS,
        NP_ACTIONS,
        agent_units=NP_AGENT,
        implementation=implementation,
        n_numbers=NP_NUMBERS,
    )
    model.build()
    recipe = recipes.NUMBER_PREDICTION["corrected"]
    optimizer = keras.optimizers.Adam(0.001)
    return training_step(
        NumberPrediction(model, optimizer, data, recipe, NP_BATCH, 0, patience=1)
    )


def number_prediction_floor():
    """The matrix products of `number_prediction`; the numbers need no gradient."""
    return products(
        batch=NP_BATCH,
        steps=NP_STEPS,
        layers=[(NP_NUMBERS, NP_UNITS)],
        agent=(NP_AGENT, NP_ACTIONS),
        readout=(NP_BATCH, NP_NUMBERS),
        backward=True,
        first_input_gradient=False,
    )


def products(batch, steps, layers, agent, readout, backward, first_input_gradient):
    """The matrix products of a step, and as little else as possible.

    Products that depend on one another in the step run in that order here: steps,
    layers, backward pass. The products of the weights' gradients may run beside them.

    Args:
        batch, steps: size of the window.
        layers: `(features, units)` of each recurrent layer.
        agent: `(units of the hidden layer, actions)` of the last layer's agent.
        readout: `(rows, classes)` of the output layer.
        backward: whether to include the products of the gradients.
        first_input_gradient: whether the first layer's inputs need a gradient.
    """
    rng = np.random.default_rng(0)

    def matrix(rows, columns):
        # Columns of length about 1: chained products neither vanish nor explode.
        values = rng.normal(size=(rows, columns)) / np.sqrt(rows)
        return tf.constant(values, tf.float32)

    rows = batch * steps
    units = layers[-1][1]
    hidden_units, n_actions = agent
    # W_h twice: the backward pass multiplies by its transpose, which is faster as a
    # copy in memory.
    weights = [
        (
            matrix(f, 4 * u),
            matrix(u, 4 * u),
            matrix(4 * u, u),
            matrix(rows, f),
            matrix(rows, 4 * u),
        )
        for f, u in layers
    ]
    # Each step has its own tensors, since TensorFlow merges equal products into one.
    starts = [[matrix(batch, 4 * u) for _ in range(steps)] for _, u in layers]
    agent_x, agent_h, agent_out = (
        matrix(layers[-1][0], hidden_units),
        matrix(units, hidden_units),
        matrix(hidden_units, n_actions),
    )
    agent_rows = matrix(rows, hidden_units), matrix(rows, n_actions)
    output, out_rows = matrix(units, readout[1]), matrix(readout[0], units)
    out_gradient = matrix(*readout)
    h_rows = [matrix(rows, u) for _, u in layers]

    @tf.function(autograph=False)
    def run():
        results = []
        last = None  # the product that the next serial one has to wait for

        def serial(*arguments, **transpose):
            nonlocal last
            with tf.control_dependencies([] if last is None else [last]):
                last = tf.matmul(*arguments, **transpose)
            return last

        for n, ((_, u), (w_x, w_h, _, x, _)) in enumerate(
            zip(layers, weights, strict=True)
        ):
            is_top = n == len(layers) - 1
            results.append(serial(x, w_x))
            if is_top:
                results.append(serial(x, agent_x))
            h = starts[n][0][:, :u]
            for _ in range(steps):
                if is_top:
                    results.append(serial(serial(h, agent_h), agent_out))
                h = serial(h, w_h)[:, :u]
            results.append(h)
        results.append(serial(out_rows, output))
        if backward:
            results.append(tf.matmul(out_rows, out_gradient, transpose_a=True))
            results.append(serial(out_gradient, output, transpose_b=True))
            hidden, d_logits = agent_rows
            results.append(tf.matmul(hidden, d_logits, transpose_a=True))
            d_hidden = tf.matmul(d_logits, agent_out, transpose_b=True)
            for side in (weights[-1][3], h_rows[-1]):
                results.append(tf.matmul(side, d_hidden, transpose_a=True))
            for n, (w_x, _, w_h_t, x, d_z) in reversed(list(enumerate(weights))):
                u = layers[n][1]
                d_h = starts[n][0][:, :u]
                for t in range(steps):
                    d_h = serial(starts[n][t] * d_h[:, :1], w_h_t)
                results += [
                    d_h,
                    tf.matmul(h_rows[n], d_z, transpose_a=True),
                    tf.matmul(x, d_z, transpose_a=True),
                ]
                if n > 0 or first_input_gradient:
                    results.append(serial(d_z, w_x, transpose_b=True))
        # One number of each result, so that TensorFlow prunes none.
        return tf.add_n([r[0, 0] for r in results])

    return lambda: run().numpy()


CASES = {
    "lm": lm,
    "lm_floor": lambda: lm_products(backward=True),
    "lm_plain": lambda: lm(n_actions=1),  # our LSTM in place of the DSC-LSTM
    "lm_keras": lm_keras,
    "lm_bfloat16": lambda: lm("--mixed_precision"),
    "lm_exact": lambda: lm("--estimator=exact"),
    "lm_states": lambda: lm("--observation=states"),
    "lm_k20": lambda: lm(n_actions=20),
    "lm_k50": lambda: lm(n_actions=50),
    "lm_t70": lambda: lm(steps=2 * FLAGS.num_unroll_steps),
    "lm_t140": lambda: lm(steps=4 * FLAGS.num_unroll_steps),
    "eval": evaluation,
    "eval_floor": evaluation_floor,
    "np": number_prediction,
    "np_without_xla": lambda: number_prediction("fast"),
    "np_floor": number_prediction_floor,
}
