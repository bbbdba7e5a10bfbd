"""A trained language model with its words: what reads and writes text with it."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf
from keras import ops

from dsc import flags as shared_flags
from dsc.run_folder import RunFolder
from language_modeling import flags as language_flags
from language_modeling.model import LanguageModel
from language_modeling.reader import UNK, DataError

# What the weights mean depends on the first flags, only their use on the others.
FIXED = (*shared_flags.MODEL, "rnn_layers", "carry_memory")
PRESET = (
    "num_unroll_steps",
    "batch_size",
    "eval_actions",
    "seed",
    "EOS",
    "unknown",
    "vocab_size",
    "score_tail",
    "mixed_precision",
)


def restore(path):
    """Gives the flags the values of a run.

    Args:
        path: the run's folder, as `--load_model` gives it.

    Returns:
        `RunFolder`.

    Raises:
        RunError: it is no run of a language model with weights, or the user gave a
            flag that does not fit its model.
    """
    run = RunFolder.open(path)
    run.restore_flags(language_flags.FLAGS, FIXED, PRESET)
    return run


class Reading(NamedTuple):
    """What a model makes of a text, word by word.

    Attributes:
        log_probs: `[time, vocab_size]`, in nats, of the word after each.
        policy: `[time, n_actions]`, the agent's probabilities of the actions, oldest
            state first.
        actions: `[time]`, the likeliest; `n_actions - action` is the length of the
            skip, and 1 an ordinary LSTM step.
    """

    log_probs: np.ndarray
    policy: np.ndarray
    actions: np.ndarray


class Trained:
    """A model and the words behind its ids.

    Args:
        model: built `LanguageModel` with the weights of a run.
        vocabulary: tuple of words; a word's id is its place.
    """

    def __init__(self, model, vocabulary):
        self.model = model
        self.vocabulary = vocabulary
        self.n_actions = model.dsc.n_actions
        self._ids = {word: i for i, word in enumerate(vocabulary)}

    @classmethod
    def open(cls, path):
        """The best model of a run; see `restore` for arguments and errors."""
        run = restore(path)
        vocabulary = run.read_vocabulary()
        model = LanguageModel(len(vocabulary), **language_flags.model_arguments())
        model.build()
        run.checkpoints.load_weights(model)
        return cls(model, vocabulary)

    def encode(self, word, unknown="drop"):
        """A word's id.

        Args:
            word: any word.
            unknown: what becomes of one that the vocabulary does not have; see
                `reader.read`.

        Returns:
            An integer, or None for a word to drop.

        Raises:
            DataError: there is an unknown word where none may be, or no `<unk>`.
        """
        known = self._ids.get(word)
        if known is not None or unknown == "drop":
            return known
        if unknown == "error":
            raise DataError(
                f"--unknown error: the model does not know the word {word!r}; give "
                "--unknown drop or unk."
            )
        if UNK not in self._ids:
            raise DataError(
                f"--unknown unk: the model has no word {UNK}; give --unknown drop."
            )
        return self._ids[UNK]

    def read(self, ids):
        """Reads a text in one window, from a state of zeros, with greedy actions.

        Args:
            ids: sequence of word ids, at least one.

        Returns:
            `Reading` with as many steps.

        Raises:
            DataError: the model skips at random, so there is no likeliest action.
        """
        if self.model.dsc.cell.choice == "uniform":
            raise DataError(
                "The model skips at random (--model random_skip): it has no likeliest "
                "skips to show; give a run of another model."
            )
        reading = self._read(tf.constant([ids], tf.int32))
        return Reading(*(part[0].numpy() for part in reading))

    @tf.function(reduce_retracing=True, autograph=False)
    def _read(self, tokens):
        outputs = self.model(tokens)
        logits, actions = outputs.skips
        return (
            ops.log_softmax(ops.cast(outputs.logits, "float32")),
            ops.softmax(ops.cast(logits, "float32")),
            actions,
        )
