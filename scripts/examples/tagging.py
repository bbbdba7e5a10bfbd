"""Finds names and their types in sentences, with an LSTM and with a DSC-LSTM.

    python scripts/examples/tagging.py [--data FOLDER] [--glove FILE] [--model dsc]

--data is a folder with train.txt, valid.txt and test.txt in CoNLL columns: the word
first, its tag (IOB or BIOES) last, an empty line between sentences. --glove is a text
file of GloVe vectors; without it, the words' vectors are learnt. The paper's character
model and CRF are left out.

The paper's data are not included: bring your own. Without --data, sentences are
generated in which the first word decides the type of all names. A result on them
proves nothing about real text.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # scripts
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this clone's code

from dsc.cli import startup

with startup.backend("tensorflow"):
    import keras

import numpy as np

import dsc
from dsc.cli import program
from dsc.cli.flags import Group
from examples import corpora

N_ACTIONS = {"lstm": 1, "dsc": 3}  # with one action it is an LSTM

group = Group("flags")
FLAGS = group.defined
group.path("data", None, "folder of sentences (default: generate sentences)")
group.path("glove", None, "file with the vectors of words (default: learn them)")
group.enum("model", "both", ("dsc", "lstm", "both"), "what to train")
group.integer("units", 64, "size of the hidden state, in each direction", 1)
group.integer("epochs", 10, "passes through the sentences", 1)
group.integer("n_sentences", 1000, "sentences to generate for training", 10)
group.integer("seed", 3435, "seed of weights, actions and generated sentences", 0)


def f1(expected, predicted):
    """F1 of entities over sentences: right ones have the exact span and type.

    Args:
        expected, predicted: lists of rows of tags; predicted rows may be padded.
    """
    n_right = n_expected = n_predicted = 0
    for tags, found in zip(expected, predicted, strict=True):
        right, found = map(corpora.entities, (tags, found[: len(tags)]))
        n_right += len(right & found)
        n_expected += len(right)
        n_predicted += len(found)
    return 2 * n_right / max(n_expected + n_predicted, 1)


def build(n_actions, n_ids, n_tags, vectors):
    """A compiled model; `vectors` are the initial ones of the words, or None."""
    words = keras.Input((None,), dtype="int32")
    size = vectors.shape[1] if FLAGS.glove else 50
    x = keras.layers.Embedding(n_ids, size, mask_zero=True, weights=vectors)(words)
    layer = dsc.DSCLSTM(FLAGS.units, n_actions, lamda=0.5, return_sequences=True)
    x = keras.layers.Bidirectional(layer)(x)
    tags = keras.layers.Dense(n_tags, activation="softmax")(x)
    # In place of keras.Model. An action's reward is the negative loss at its word.
    model = dsc.Reinforced(words, tags, entropy_weight=0.1)
    model.compile(keras.optimizers.Adam(0.003), "sparse_categorical_crossentropy")
    return model


def pad(rows):
    """Rows of numbers as one array, filled up with 0."""
    return keras.utils.pad_sequences(rows, padding="post")


def main():
    n = FLAGS.n_sentences
    splits = {"train": n, "valid": n // 5, "test": n // 2}
    rng = np.random.default_rng(FLAGS.seed)
    for split, n in splits.items():
        if FLAGS.data:
            sentences = corpora.read_sentences(Path(FLAGS.data) / f"{split}.txt")
        else:
            sentences = corpora.generate_sentences(n, rng)
        splits[split] = [(words, corpora.to_bioes(tags)) for words, tags in sentences]
    sentences = [sentence for split in splits.values() for sentence in split]
    names = sorted({tag for _, tags in sentences for tag in tags})
    ids, vectors = corpora.known_words(splits["train"], sentences, FLAGS.glove, rng)
    (x, y), valid, (x_test, y_test) = (
        (
            pad([[ids.get(word, corpora.UNKNOWN) for word in words] for words, _ in s]),
            pad([[names.index(tag) for tag in tags] for _, tags in s]),
        )
        for s in splits.values()
    )
    table = ["model  test F1  mean skip"]
    for model_name in N_ACTIONS if FLAGS.model == "both" else [FLAGS.model]:
        print(f"Training {model_name} on {len(x)} sentences", flush=True)
        keras.utils.set_random_seed(FLAGS.seed)
        model = build(N_ACTIONS[model_name], len(ids) + 2, len(names), vectors)
        best = keras.callbacks.EarlyStopping(patience=4, restore_best_weights=True)
        fit = {"batch_size": 20, "epochs": FLAGS.epochs, "verbose": 2}
        model.fit(x, y, validation_data=valid, callbacks=[best], **fit)
        rows = model.predict(x_test, verbose=0).argmax(axis=-1)
        predicted = [[names[n] for n in row] for row in rows]
        score = f1([tags for _, tags in splits["test"]], predicted)
        found = model.evaluate(x_test, y_test, return_dict=True, verbose=0)
        skip = found.get("mean_skip_length", 1.0)  # an LSTM has none
        table.append(f"{model_name:5}{score:9.1%}{skip:11.2f}")
    print(*table, sep="\n")


if __name__ == "__main__":
    program.parse(FLAGS, __doc__)
    program.main(FLAGS, main)
