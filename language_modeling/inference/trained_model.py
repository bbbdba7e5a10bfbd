"""A trained language model with its vocabulary."""

from dsc.cli.errors import RunError
from dsc.runs.folder import RunFolder
from language_modeling import flags as language_flags
from language_modeling.corpora import UNK
from language_modeling.model import LanguageModel


class TrainedModel:
    """A model and the words behind its ids.

    Args:
        model: built `LanguageModel` with the weights of a run.
        vocabulary: tuple of words; a word's id is its index.
        run: the `RunFolder` that both are from, or None.
    """

    def __init__(self, model, vocabulary, run=None):
        self.model = model
        self.vocabulary = vocabulary
        self.run = run
        self.n_actions = model.dsc.n_actions
        self._ids = {word: i for i, word in enumerate(vocabulary)}

    @classmethod
    def open(cls, values):
        """Loads the best model of the run in --load_model.

        Args:
            values: `absl.flags.FlagValues` of `language_modeling.flags`, parsed. Flags
                that were not given get the run's values.

        Raises:
            RunError: the folder has no trained language model, or a flag that was given
                does not fit it.
        """
        run = RunFolder.open(values.load_model)
        run.restore_flags(values)
        vocabulary = run.read_vocabulary()
        model = LanguageModel(len(vocabulary), **language_flags.model_arguments(values))
        model.build()
        run.checkpoints.load_weights(model)
        return cls(model, vocabulary, run)

    def encode(self, word, unknown="drop"):
        """A word's id, or None for a word to drop.

        Args:
            word: any word.
            unknown: treatment of words outside the vocabulary; see
                `corpora.read_corpus`.

        Raises:
            RunError: the word is unknown, and `unknown` is `error`, or `unk` and the
                vocabulary has no `<unk>`.
        """
        known = self._ids.get(word)
        if known is not None or unknown == "drop":
            return known
        if unknown == "error":
            raise RunError(
                f"--unknown error: the model does not know the word {word!r}; give "
                "--unknown drop or unk."
            )
        if UNK not in self._ids:
            raise RunError(
                f"--unknown unk: the model has no word {UNK}; leave the flag out."
            )
        return self._ids[UNK]
