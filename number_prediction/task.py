"""The number-prediction task under TensorFlow."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from dsc import evaluation, losses, noise
from dsc.training.task import Task
from number_prediction import LAST_ACTIONS
from number_prediction.model import answers, loss

EVALUATION_BATCH = 1000
PERFECT_EPOCHS = 2  # successive epochs without a mistake that end training
EVALUATION_SEED = 1  # added to the run's seed
MAX_COLUMNS = 12  # of a printed table
LABELS = {"greedy": "greedy", "sample": "sampled"}  # actions whose accuracy is shown


class Predictions(NamedTuple):
    """Predictions for a split.

    Attributes:
        answers: int32 `[n]`, the likeliest numbers.
        last_actions: int32 `[n]`, the agent's actions at the index, the last step.
    """

    answers: np.ndarray
    last_actions: np.ndarray


class NumberPrediction(Task):
    """Trains a `NumberPredictor`.

    Args:
        model: built `NumberPredictor`.
        optimizer: `keras.optimizers.Optimizer`.
        data: dict from split to `(x [n, time], y [n])`.
        recipe: `dsc.recipes.Recipe`.
        batch_size: sequences per step.
        seed: of the order of the data and the actions.
        patience: stop after so many epochs without better validation accuracy.
        distribution: see `Task`.
        fresh: function from an epoch to the `(x, y)` to train on in it, of the size of
            the training split; None trains on that split.
    """

    unit = "sequences"
    schedule_fields = ("best", "epochs_since_best", "perfect_epochs")

    def __init__(
        self,
        model,
        optimizer,
        data,
        recipe,
        batch_size,
        seed,
        patience,
        distribution=Task.distribution,
        fresh=None,
    ):
        self.distribution = distribution
        self.model = model
        self.optimizer = optimizer
        self.data = data
        self.recipe = recipe
        self.dense_norm = recipe.dense_norm
        self.batch_size = self.batch_units = batch_size
        self.seed = seed
        self.patience = patience
        self.best = None
        self.epochs_since_best = 0
        self.perfect_epochs = 0
        self.n_batches = len(data["train"][1]) // batch_size
        self.fresh = fresh
        self._epoch = (None, None, None, None)  # epoch, its permutation, x, y
        self.jit_compile = model.dsc.implementation == "xla"
        self._predict_batch = tf.function(
            self._predict_rows,
            jit_compile=self.jit_compile,
            reduce_retracing=True,
            autograph=False,
        )

    def batch(self, epoch, i):
        if self._epoch[0] != epoch:
            rng = np.random.Generator(np.random.PCG64([self.seed, epoch]))
            x, y = self.fresh(epoch) if self.fresh else self.data["train"]
            self._epoch = (epoch, rng.permutation(len(y)), x, y)
        _, order, x, y = self._epoch
        rows = order[i * self.batch_size : (i + 1) * self.batch_size]
        return x[rows], y[rows]

    def loss(self, step, batch, state):
        x, y = batch
        noise = self._noise(self.batch_size, x.shape[1], self.seed, step)
        total, metrics = loss(
            self.model(x, self.distribution.local_rows(noise)),
            y,
            self.recipe.after(tf.cast(step, "float32") / self.n_batches),
            self.distribution.on_global_batch(losses.advantages),
        )
        return total, state, metrics

    def _noise(self, n, time, seed, step):
        shape = (n, time, self.model.dsc.n_actions)
        return noise.gumbel(shape, seed, step, stream=0)

    def describe(self, metrics):
        return (
            f"loss {metrics['loss']:#.4g}, accuracy {metrics['accuracy']:.4f}, "
            f"entropy {metrics['entropy']:.2f}"
        )

    def evaluate(self):
        predictions, accuracies = self._accuracies("valid")
        scores = {f"valid accuracy ({name})": a for name, a in accuracies.items()}
        scores[LAST_ACTIONS] = self._places("valid", predictions).tolist()
        # The accuracy with sampled actions breaks ties: the greedy one can be 100%
        # before the policy is certain.
        first = LABELS.get(self.recipe.eval_actions, self.recipe.eval_actions)
        second = "greedy" if first == "sampled" else "sampled"
        return scores, (accuracies[first], accuracies[second])

    def report(self, score=None):
        predictions, accuracies = self._accuracies("test")
        n_numbers, dsc = self.model.n_numbers, self.model.dsc
        if score is None:
            y = self.data["test"][1]
            print(describe_confusion(counts(y, predictions.answers, [n_numbers] * 2)))
        if 1 < dsc.n_actions <= MAX_COLUMNS and dsc.cell.choice != "attention":
            print(describe_places(self._places("test", predictions)))
        shown = ", ".join(f"{a:.6f} ({name})" for name, a in accuracies.items())
        print(f"test accuracy = {shown}")
        return {f"test accuracy ({name})": a for name, a in accuracies.items()}

    def _accuracies(self, split):
        """`(greedy Predictions, dict from the actions to the accuracy)` of a split."""
        kinds = dict.fromkeys((*LABELS, self.recipe.eval_actions))
        predictions = {LABELS.get(a, a): self.predict(split, a) for a in kinds}
        y = self.data[split][1]
        accuracies = {n: float(np.mean(p.answers == y)) for n, p in predictions.items()}
        return predictions["greedy"], accuracies

    def _places(self, split, predictions):
        """Counts of last actions by index, int `[n_numbers, n_actions]`."""
        index = self.data[split][0][:, -1]
        shape = self.model.n_numbers, self.model.dsc.n_actions
        return counts(index, predictions.last_actions, shape)

    def end_epoch(self, score):
        improved = self.best is None or score > self.best
        self.best = score if improved else self.best
        self.epochs_since_best = 0 if improved else self.epochs_since_best + 1
        self.perfect_epochs = self.perfect_epochs + 1 if score[0] == 1.0 else 0
        if not self.recipe.early_stopping:
            return None
        if self.perfect_epochs == PERFECT_EPOCHS:
            return f"{PERFECT_EPOCHS} epochs without a mistake on the validation split"
        if self.epochs_since_best == self.patience:
            return f"no better validation accuracy for {self.patience} epochs"
        return None

    def predict(self, split, actions):
        """The `Predictions` for a split; for actions see `dsc.evaluation`.

        A model that skips at random samples instead of being greedy.
        """
        x, _ = self.data[split]
        if actions == "greedy" and self.model.dsc.cell.choice == "random_skip":
            actions = "sample"
        size = max(1, EVALUATION_BATCH // evaluation.n_passes(actions))
        batches = [
            self._predict_batch(noise.number(step), x[start : start + size], actions)
            for step, start in enumerate(range(0, len(x), size))
        ]
        return Predictions(*(np.concatenate(p) for p in zip(*batches, strict=True)))

    def _predict_rows(self, step, x, actions):
        n, (batch, time) = evaluation.n_passes(actions), tf.unstack(tf.shape(x))

        def draw(shape):
            return self._noise(*shape[:2], self.seed + EVALUATION_SEED, step)

        shape = (n * batch, time, self.model.dsc.n_actions)
        noise = evaluation.noise(actions, shape, draw)
        outputs = self.model(tf.tile(x, (n, 1)), noise)
        logits = evaluation.mean_over_passes(outputs.logits, n)
        return answers(logits), outputs.skips.actions[:batch, -1]


def counts(rows, columns, shape):
    """Table of counts of pairs, int64 `shape`; rows and columns are int `[n]`."""
    pairs = np.ravel_multi_index((rows, columns), shape)
    return np.bincount(pairs, minlength=np.prod(shape)).reshape(shape)


def describe_confusion(table):
    """Text of a confusion matrix `[n_numbers, n_numbers]`, right answers in rows."""
    lines = ["answer  predicted" + "".join(f"{n:7}" for n in range(len(table)))]
    for number, row in enumerate(table):
        lines.append(f"{number:6}           " + "".join(f"{n:7}" for n in row))
    return "\n".join(lines)


def describe_places(table):
    """Text with the percentage of each skip by index.

    Args:
        table: int `[n_numbers, n_actions]`, counts of greedy actions by index, oldest
            state first. With ten of each, the right skips are the diagonal.
    """
    n_actions = table.shape[1]
    lines = ["index  steps back" + "".join(f"{n:5}" for n in range(n_actions, 0, -1))]
    shares = 100 * table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    for index, row in enumerate(shares):
        cells = "".join(f"{share:5.0f}" if share >= 0.5 else "    ." for share in row)
        lines.append(f"{index:5}            {cells}")
    return "\n".join(lines)
