"""Trains the language model under JAX, without TensorFlow.

    python scripts/train_jax.py --n_actions 5

The flags are those of `language_modeling/rl_train.py`, which also evaluates what was
trained here (--load_model).
"""

import os

from dsc import interruption

if __name__ == "__main__":
    interruption.exit_on_signals()  # the imports below take seconds
os.environ["KERAS_BACKEND"] = "jax"

import logging
import random
import sys

try:
    import jax
except ImportError as error:
    sys.exit(f"JAX is missing ({error}); install it with `pip install -e '.[jax]'`.")

import keras
import numpy as np
from absl import app, flags

from dsc import flags as shared_flags
from dsc import program
from dsc.about import about
from dsc.errors import RunError
from dsc.interruption import delayed
from dsc.report import Report, epoch_done
from dsc.resuming import Saver, resume
from dsc.run_folder import RunFolder
from dsc.state import Means
from language_modeling import corpora, reader
from language_modeling import flags as language_flags
from language_modeling.jax_task import JaxLanguageModeling
from language_modeling.measures import describe_skips
from language_modeling.model import LanguageModel
from language_modeling.schedule import Schedule

FLAGS = flags.FLAGS
flags.adopt_module_key_flags(shared_flags)  # for --help
flags.adopt_module_key_flags(language_flags)
logging.getLogger("jax").setLevel(logging.WARNING)  # not of devices that are not there


def run():
    """Trains, and evaluates the best weights."""
    check_flags()
    if FLAGS.gpu_portion < 1.0:  # read when JAX first looks for its devices
        os.environ["XLA_PYTHON_CLIENT_MEM_FRACTION"] = str(FLAGS.gpu_portion)
    # Of the initial weights. Keras has a function for it, which imports TensorFlow.
    random.seed(FLAGS.seed)
    paths, floor = corpora.find()
    corpus = corpora.read(paths)
    task = make_task(corpus)
    print(
        f"{task.model.count_params():,} weights, {len(corpus.vocabulary)} words in the "
        f"vocabulary, {task.n_batches} steps of {task.batch_units} words per epoch, on "
        f"{jax.devices()[0].device_kind}."
    )
    left_out = ", ".join(f"{split} {n}" for split, n in task.n_uncovered.items())
    print(f"Words that are in no window, and so not predicted: {left_out}.")
    config = {
        **shared_flags.values(FLAGS),
        "data": corpus.digests,
        "about": about(task.model, paths["train"].resolve().parent.name),
        "trained with": "JAX",  # with other random numbers than TensorFlow's script
    }
    folder = RunFolder.begin(FLAGS.train_dir, config, FLAGS.restart)
    folder.write_vocabulary(corpus.vocabulary)
    try:
        fit(task, folder)
        folder.checkpoints.load_weights(task.model)
        print(f"The best weights on validation are in {folder.checkpoints.best}.")
        valid, test = task.score("valid"), task.score("test")
    except jax.errors.JaxRuntimeError as error:
        raise MemoryError if "RESOURCE_EXHAUSTED" in str(error) else error from None
    if floor:
        print(f"lowest possible test perplexity = {floor:.6f} (exact, whole test file)")
    print(f"valid perplexity = {valid.perplexity:.6f}")
    print(f"test skips chosen = {describe_skips(test.actions)}")
    print(f"test perplexity = {test.perplexity:.6f}")


def check_flags():
    """Refuses what only TensorFlow's script does.

    Raises:
        RunError: says which flag.
    """
    if FLAGS.load_model or FLAGS.mode != "evaluate" or not FLAGS.max_epochs:
        raise RunError(
            "--load_model, --mode and --max_epochs 0 evaluate a model, which "
            "language_modeling/rl_train.py does with those of this script too; leave "
            "the flag out."
        )
    if FLAGS.strategy != "none":
        raise RunError(
            f"--strategy {FLAGS.strategy} is TensorFlow's, and this script trains on "
            "one device; leave the flag out, or use language_modeling/rl_train.py."
        )
    if not language_flags.recipe().dense_norm:
        raise RunError(
            f"--recipe {FLAGS.recipe} counts a word's gradient each time that it is "
            "looked up, which JAX does not tell apart; leave the flag out, or use "
            "language_modeling/rl_train.py."
        )


def make_task(corpus):
    """The model and what is learned, from the flags."""
    model = LanguageModel(len(corpus.vocabulary), **language_flags.model_arguments())
    model.build()
    return JaxLanguageModeling(
        model,
        keras.optimizers.SGD(FLAGS.learning_rate),
        corpus,
        language_flags.recipe(),
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


def fit(task, folder):
    """Trains, or goes on where the folder's newest state stands.

    `dsc.training.fit` for a task of JAX: what is computed is the same whether training
    was interrupted or not.

    Args:
        task: `JaxLanguageModeling`.
        folder: `dsc.run_folder.RunFolder`.

    Raises:
        RunError: the folder cannot be written, or training has left the numbers.
        Interrupted: a signal; the state is saved.
    """
    max_epochs, max_steps = FLAGS.max_epochs, FLAGS.max_steps
    task.optimizer.build(task.model.trainable_variables)
    state, path = resume(task, folder, max_steps)
    if state.is_finished(max_epochs, max_steps):
        print(f"The run in {folder.path} is finished.", flush=True)
        return
    saver = Saver(task, folder, state, path, FLAGS.save_every)
    with saver.guarding():
        while not state.is_finished(max_epochs, max_steps):
            report = Report(task, state, max_epochs, FLAGS.print_every)
            while state.position < task.n_batches and state.step != max_steps:
                with delayed():  # until the step is counted, logged and saved
                    state.recurrent, metrics = task.train(
                        state.step, state.position, state.recurrent
                    )
                    state.means.add(state.step, metrics)
                    state.position += 1
                    state.step += 1
                    if record := report.after_step():
                        folder.log(record)
                    saver.save_if_due()
            report.close()
            with delayed():
                saver.save()
            scores, score = task.evaluate()
            with delayed():
                end_epoch(task, folder, state, scores, score, report.elapsed())
                saver.save()
    if state.ended or state.step == max_steps:
        reason = state.ended or f"--max_steps {max_steps} reached"
        print(f"Training ends: {reason}.", flush=True)


def end_epoch(task, folder, state, scores, score, elapsed):
    """Logs an epoch, and keeps the weights if they are the best so far."""
    rate = task.learning_rate
    state.epochs += 1
    print(epoch_done(state.epochs, elapsed, scores, rate), flush=True)
    record = {"epoch": state.epochs, "step": state.step, "learning_rate": rate}
    folder.log({**record, **scores})
    state.ended = task.end_epoch(score)
    if not np.isnan(score) and (state.best_score is None or score > state.best_score):
        state.best_score = score
        state.best_weights = folder.checkpoints.save_weights(
            task.model, state.epochs, state.step
        )
    state.cut_short = state.position < task.n_batches
    state.position = 0
    state.recurrent = task.initial_state()
    state.means = Means()


if __name__ == "__main__":
    app.run(program.main(run, reader.DataError))
