"""Classifies texts as positive or negative, with an LSTM and with a DSC-LSTM.

    python scripts/examples/sentiment.py [--data FOLDER_OR_NPZ] [--model dsc]

--data is a folder of .txt files, in train/pos, train/neg, test/pos and test/neg as in
the IMDb release, or in pos and neg alone; a fifth of them is then for the test. It can
also be a .npz with word ids [texts, words], 0 for padding, in x_train and x_test, and
labels in y_train and y_test: what keras.utils.pad_sequences makes of the lists that
keras.datasets.imdb.load_data returns. Pickled lists are refused: reading runs code.

The model has the setting of the paper's sentiment task, but the paper's data are not
included: bring your own. Without --data, texts are generated in which the first word
decides, and opinion words after it mislead. A result on them proves nothing about real
text.
"""

import sys
from collections import Counter
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
group.path("data", None, "folder of texts, or .npz (default: generate texts)")
group.enum("model", "both", ("dsc", "lstm", "both"), "what to train")
group.integer("units", 128, "size of the hidden state", 1)
group.integer("max_words", 400, "of a longer text, read only the last words", 1)
group.integer("vocab_size", 20_000, "words to know, the most frequent ones", 3)
group.integer("epochs", 12, "passes through the texts", 1)
group.integer("n_texts", 2500, "texts to generate for training", 50)
group.integer("seed", 3435, "seed of weights, actions and generated texts", 0)


def build(n_actions, n_ids):
    words = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(n_ids, 100, mask_zero=True)(words)
    x = dsc.DSCLSTM(FLAGS.units, n_actions, lamda=0.5)(x)
    x = keras.layers.Dropout(0.2)(x)
    positive = keras.layers.Dense(1, activation="sigmoid")(x)
    # In place of keras.Model. A text's reward is its negative loss.
    model = dsc.Reinforced(words, positive)
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    return model


def encode(texts, ids):
    """`(word ids [n, time], labels [n])`, given the dict from word to id."""
    rows = [[ids.get(word, corpora.UNKNOWN) for word in words] for words, _ in texts]
    max_words = min(FLAGS.max_words, max(map(len, rows)))
    return keras.utils.pad_sequences(rows, max_words), np.array([y for _, y in texts])


def main():
    rng = np.random.default_rng(FLAGS.seed)
    if FLAGS.data:
        train, test = corpora.read_texts(Path(FLAGS.data), rng)
    else:
        train = corpora.generate_texts(FLAGS.n_texts, rng)
        test = corpora.generate_texts(FLAGS.n_texts // 2, rng)
    counts = Counter(word for words, _ in train for word in words)
    frequent = counts.most_common(FLAGS.vocab_size - 2)
    ids = {word: n for n, (word, _) in enumerate(frequent, corpora.UNKNOWN + 1)}
    (x, y), test = encode(train, ids), encode(test, ids)

    table = ["model  test accuracy  mean skip"]
    for name in N_ACTIONS if FLAGS.model == "both" else [FLAGS.model]:
        print(f"Training {name} on {len(x)} texts", flush=True)
        keras.utils.set_random_seed(FLAGS.seed)
        model = build(N_ACTIONS[name], len(ids) + 2)
        best = keras.callbacks.EarlyStopping(
            "val_accuracy", mode="max", patience=5, restore_best_weights=True
        )
        model.fit(
            x,
            y,
            batch_size=50,
            epochs=FLAGS.epochs,
            validation_split=0.1,  # the last texts: they are shuffled
            callbacks=[best],
            verbose=2,
        )
        found = model.evaluate(*test, batch_size=50, return_dict=True, verbose=0)
        skip = found.get("mean_skip_length", 1.0)  # an LSTM has none
        table.append(f"{name:5}{found['accuracy']:15.1%}{skip:11.2f}")
    print(*table, sep="\n")


if __name__ == "__main__":
    program.parse(FLAGS, __doc__)
    program.main(FLAGS, main)
