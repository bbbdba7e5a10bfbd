"""Trains and evaluates the language model with dynamic skip connections.

    python language_modeling/rl_train.py --n_actions 5

The flags are those of the authors' release, with its defaults, and some new ones.
"""

import os

from dsc import interruption

if __name__ == "__main__":
    interruption.exit_on_signals()  # the imports below take seconds
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from pathlib import Path

import keras
from absl import app, flags

from dsc import flags as shared_flags
from dsc import program, recipes, training
from dsc.errors import RunError
from dsc.run_folder import RunFolder
from language_modeling import agreement, reader
from language_modeling.model import LanguageModel
from language_modeling.task import LanguageModeling, Schedule, describe_skips

ROOT = Path(__file__).resolve().parents[1]
FLAGS = flags.FLAGS
RECIPES = recipes.LANGUAGE_MODELING

# data
flags.DEFINE_string(
    "data_dir",
    None,
    "folder with ptb.{train,valid,test}.txt or {train,valid,test}.txt; without it "
    "data/ptb if it is there, else the embedded agreement corpus",
)
flags.DEFINE_string("EOS", "<eos>", "the word that stands for the end of a line")
flags.DEFINE_enum(
    "unknown",
    "drop",
    reader.UNKNOWN,
    "words that the training file does not have: drop them (release), read them as "
    "<unk>, or stop with an error",
)
flags.DEFINE_bool(
    "score_tail",
    False,
    "score every word of validation and test but the first, not only whole windows",
)
shared_flags.define_run(train_dir="cv")

# model
shared_flags.define_model(rnn_size=650, n_actions=5, agent_units=200)
flags.DEFINE_integer("rnn_layers", 2, "ordinary LSTMs below the DSC-LSTM", 0, 100)
flags.DEFINE_bool("carry_memory", False, "let a window look back into the one before")
shared_flags.define_float(
    "dropout", 0.5, "share of units dropped; 0 is none", 0.0, 0.999
)
shared_flags.define_float(
    "param_init", 0.05, "weights start uniform in [-param_init, param_init]", 0.0
)
flags.DEFINE_bool(
    "mixed_precision",
    False,
    "compute in bfloat16, faster where the machine has it; weights and losses stay "
    "float32",
)

# optimization
shared_flags.define_optimization(learning_rate=1.0, batch_size=20, max_epochs=100)
shared_flags.define_float(
    "learning_rate_decay",
    1 / 1.2,
    "factor on the learning rate when validation improves too little",
    1e-9,
    1.0,
)
shared_flags.define_float(
    "lr_threshold", 0.005, "the learning rate's lowest value", 0.0
)
shared_flags.define_float(
    "decay_when", 1.0, "decay unless validation perplexity falls by more than this"
)
flags.DEFINE_integer("num_unroll_steps", 35, "words per window", 2)
shared_flags.define_float(
    "max_grad_norm", 5.0, "global norm that clips gradients", 1e-9
)

# reinforcement learning
shared_flags.define_recipe(RECIPES)
flags.DEFINE_enum(
    "reward",
    None,
    recipes.REWARDS,
    "of a word: its probability, or the logarithm of it (default: the recipe's; "
    f"corrected: {RECIPES['corrected'].reward})",
)


def run():
    """Trains, or evaluates what was trained."""
    training.limit_gpu_memory(FLAGS.gpu_portion)
    keras.utils.set_random_seed(FLAGS.seed)
    saved = None
    if FLAGS.load_model:
        saved = RunFolder.open(FLAGS.load_model)
        saved.restore_flags(
            FLAGS,
            fixed=(*shared_flags.MODEL, "rnn_layers", "carry_memory"),
            preset=(
                "num_unroll_steps",
                "batch_size",
                "eval_actions",
                "seed",
                "EOS",
                "unknown",
                "score_tail",
                "mixed_precision",
            ),
        )
    corpus, floor = read_corpus()
    task = make_task(corpus)
    print(
        f"{task.model.count_params():,} weights, {len(corpus.vocabulary)} words in the "
        f"vocabulary, {task.n_batches} steps of {task.batch_units} words per epoch."
    )
    left_out = ", ".join(f"{split} {n}" for split, n in task.n_uncovered.items())
    print(f"Words that are in no window, and so not predicted: {left_out}.")
    if saved and saved.read_vocabulary() != corpus.vocabulary:
        raise RunError(
            f"--data_dir: its training file has another vocabulary than the run in "
            f"{FLAGS.load_model}; give the corpus that the model was trained on."
        )
    training.train_or_load(
        task, saved, FLAGS, reader.digests(corpus), corpus.vocabulary
    )
    if floor:
        print(f"lowest possible test perplexity = {floor:.6f} (exact, whole test file)")
    print(f"valid perplexity = {task.perplexity('valid'):.6f}")
    test = task.score("test")
    print(f"test skips chosen = {describe_skips(test.actions)}")
    print(f"test perplexity = {test.perplexity:.6f}")


def read_corpus():
    """The text that --data_dir names, or what is at hand, said in one line.

    Returns:
        `(reader.Corpus, lowest possible test perplexity or None if unknown)`.
    """
    folder, floor = FLAGS.data_dir, None
    if folder is None and (ROOT / "data" / "ptb").is_dir():
        folder = ROOT / "data" / "ptb"
        print(f"Using the Penn Treebank in {folder}.")
    elif folder is None:
        folder = ROOT / "data" / "agreement"
        floor = embedded_corpus(folder)
        print(
            "No --data_dir and no data/ptb (scripts/get_ptb.py fetches it): using the "
            f"embedded agreement corpus in {folder}."
        )
    corpus = reader.read(reader.find(folder), FLAGS.EOS, FLAGS.unknown)
    done = {"drop": "dropped, as the release does", "unk": "read as <unk>"}
    for split, n in corpus.n_unknown.items():
        if n:
            print(
                f"{split}: {n} words that the training file does not have are "
                f"{done[FLAGS.unknown]}."
            )
    return corpus, floor


def embedded_corpus(folder):
    """Makes the agreement corpus if it is not there; returns its test floor."""
    try:
        if not all((folder / f"{split}.txt").is_file() for split in reader.SPLITS):
            agreement.write(folder)
        return agreement.floor_perplexity(agreement.read(folder / "test.txt"))
    except (OSError, ValueError) as error:
        raise reader.DataError(
            f"The embedded corpus in {folder} cannot be made or read ({error}); delete "
            "the folder, and it is made again."
        ) from None


def make_task(corpus):
    """The model and what is learned, from the flags."""
    recipe = RECIPES[FLAGS.recipe].changed_by(FLAGS)
    lamda, forget_bias = recipe.cell_arguments(FLAGS.lamda, FLAGS.forget_bias)
    model = LanguageModel(
        len(corpus.vocabulary),
        rnn_size=FLAGS.rnn_size,
        rnn_layers=FLAGS.rnn_layers,
        n_actions=FLAGS.n_actions,
        lamda=lamda,
        forget_bias=forget_bias,
        agent_units=FLAGS.agent_units,
        observation=FLAGS.observation,
        carry_memory=FLAGS.carry_memory,
        param_init=FLAGS.param_init,
        dtype="mixed_bfloat16" if FLAGS.mixed_precision else "float32",
    )
    model.build()
    return LanguageModeling(
        model,
        keras.optimizers.SGD(FLAGS.learning_rate),
        corpus,
        recipe,
        batch_size=FLAGS.batch_size,
        n_steps=FLAGS.num_unroll_steps,
        dropout=FLAGS.dropout,
        seed=FLAGS.seed,
        max_grad_norm=FLAGS.max_grad_norm,
        schedule=Schedule(
            FLAGS.learning_rate_decay, FLAGS.lr_threshold, FLAGS.decay_when
        ),
        score_tail=FLAGS.score_tail,
    )


if __name__ == "__main__":
    app.run(program.main(run, reader.DataError))
