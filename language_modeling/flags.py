"""Flags of the language model: those of the authors' release, and new ones."""

from dsc import recipes
from dsc.cli import flags as shared_flags
from language_modeling.corpora.corpus import UNKNOWN
from language_modeling.metrics import LEVELS
from language_modeling.schedule import Schedule

RECIPES = recipes.LANGUAGE_MODELING

data = shared_flags.Group("data")
FLAGS = data.defined
data.path(
    "data_dir",
    None,
    "folder with ptb.{train,valid,test}.txt, {train,valid,test}.txt or "
    "wiki.{train,valid,test}.tokens (default: data/ptb if it exists, else the embedded "
    "agreement corpus, data/agreement)",
)
data.enum(
    "level",
    "word",
    LEVELS,
    "what the model reads and predicts: words, or the characters of any of these files "
    "or of ptb.char.{train,valid,test}.txt, scored in bits per character",
)
data.string("EOS", "<eos>", "the word that stands for the end of a line")
data.enum(
    "unknown",
    "drop",
    UNKNOWN,
    "words that are not in the training file: drop them (release), read them as "
    "<unk>, or stop with an error",
)
data.integer("vocab_size", None, "most frequent words to keep; others become <unk>", 2)
data.path(
    "cache_dir",
    None,
    "folder that caches word ids; it may be deleted (default: data/cache)",
)
data.bool("score_tail", False, "score all words of validation and test but the first")

shared_flags.define_model(FLAGS, rnn_size=650, n_actions=5, agent_units=200)
model = shared_flags.Group("model", FLAGS)
model.integer("rnn_layers", 2, "ordinary LSTMs below the DSC-LSTM", 0, 100)
model.bool("carry_memory", False, "let a window look back into the previous one")
model.bool("tie_weights", False, "the output layer has the embedding's matrix")
model.float("dropout", 0.5, "share of units to drop", 0.0, 0.999)
model.float(
    "recurrent_dropout",
    0.0,
    "share of the candidates to drop in each recurrent layer (Semeniuta et al., 2016)",
    0.0,
    0.999,
)
model.bool(
    "variational",
    False,
    "hold the masks of --dropout and --recurrent_dropout along a window (Gal and "
    "Ghahramani, 2016)",
)
model.float(
    "zoneout",
    0.0,
    "probability with which a unit of h or c keeps, in each recurrent layer, the value "
    "that the step continues from (Krueger et al., 2017)",
    0.0,
    0.999,
)
model.float(
    "param_init", 0.05, "weights start uniform in [-param_init, param_init]", 0.0
)
model.bool("mixed_precision", False, "compute in bfloat16 with float32 weights")
shared_flags.define_recipe(FLAGS, RECIPES)
shared_flags.Group("agent", FLAGS).enum(
    "reward",
    None,
    recipes.REWARDS,
    "reward of a word: its probability or log-probability (default: the recipe's; "
    f"corrected: {RECIPES['corrected'].reward})",
)

shared_flags.define_optimization(
    FLAGS, learning_rate=1.0, batch_size=20, max_epochs=100
)
optimization = shared_flags.Group("optimisation", FLAGS)
optimization.float(
    "learning_rate_decay", 1 / 1.2, "factor if validation improves little", 1e-9, 1.0
)
optimization.float("lr_threshold", 0.005, "lowest learning rate", 0.0)
optimization.float(
    "decay_when",
    1.0,
    "decay unless validation perplexity falls by more than this (--level char: 0)",
)
optimization.integer("num_unroll_steps", 35, "words per window", 2, 10**6)
optimization.float("max_grad_norm", 5.0, "global norm to clip gradients at", 1e-9)

shared_flags.define_run(FLAGS, train_dir="cv")

use = shared_flags.define_use(
    FLAGS,
    ("evaluate", "visualize", "score", "generate"),
    "what to do with the model of --load_model: print its perplexity on validation and "
    "test, sentences with their skips, or a text word by word as TSV; or sample text",
)
use.path(
    "input",
    None,
    "text to score or visualize, one sentence per line; - is the standard input "
    "(default: - to score, the validation split to visualize)",
)
use.integer("sentences", 10, "number of sentences to visualize", 1)
use.string("prompt", "", "words that the generated text continues")
use.integer("n_words", 200, "number of words or characters to generate", 1)
use.float(
    "temperature", 1.0, "divides the logits when generating; 0: likeliest word", 0.0
)
use.integer("top_k", None, "generate only from so many likeliest words", 1)


def apply_recipe(values):
    """Gives flags that were not given the values of --recipe and --level."""
    shared_flags.apply_recipe(values)
    if values.level == "char" and not values["decay_when"].present:
        values.decay_when = 0.0  # perplexities of characters are about 3


def unknown(values):
    """Treatment of words outside the vocabulary; see `corpora.read_corpus`."""
    reads_unk = values.vocab_size is not None and values.unknown == "drop"
    return "unk" if reads_unk else values.unknown


def recipe(values):
    """The `dsc.recipes.Recipe` of the flags."""
    return RECIPES[values.recipe].with_flag_overrides(values).for_model(values.model)


def model_arguments(values):
    """Arguments of `LanguageModel` except the vocabulary size, a dict."""
    return {
        **shared_flags.layer_arguments(values, recipe(values)),
        "rnn_layers": values.rnn_layers,
        "carry_memory": values.carry_memory,
        "zoneout": values.zoneout,
        "tie_weights": values.tie_weights,
        "param_init": values.param_init,
        "dtype": "mixed_bfloat16" if values.mixed_precision else "float32",
    }


def task_arguments(values):
    """Arguments of `LanguageModelTask` except model, optimizer and corpus, a dict."""
    return {
        "recipe": recipe(values),
        "batch_size": values.batch_size,
        "n_steps": values.num_unroll_steps,
        "dropout": values.dropout,
        "recurrent_dropout": values.recurrent_dropout,
        "variational": values.variational,
        "seed": values.seed,
        "max_grad_norm": values.max_grad_norm,
        "schedule": Schedule(
            values.learning_rate_decay, values.lr_threshold, values.decay_when
        ),
        "score_tail": values.score_tail,
        "level": values.level,
    }
