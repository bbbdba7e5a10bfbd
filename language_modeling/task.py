"""The language model as something to train and to evaluate."""

import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from dsc import noise, training
from language_modeling import reader
from language_modeling.model import Noise, loss, word_losses

# Streams of the random numbers of one step; see `dsc.noise`.
ACTIONS, DROPOUT = 0, 1
EVALUATION_SEED = 1  # added to the run's seed


class Evaluation(NamedTuple):
    """How a model does on a text.

    Attributes:
        perplexity: exp of the mean word loss.
        actions: `[n_actions]`, how often each was chosen, oldest state first.
    """

    perplexity: float
    actions: np.ndarray


class LanguageModeling(training.Task):
    """Trains a `LanguageModel` on windows that follow one another.

    Args:
        model: built `LanguageModel`.
        optimizer: `keras.optimizers.Optimizer`.
        corpus: `reader.Corpus`.
        recipe: `dsc.recipes.Recipe`.
        batch_size, n_steps: size of a window.
        dropout: share of units that is dropped.
        seed: of dropout and actions.
        max_grad_norm: see `training.clip`.
        schedule: `Schedule` of the learning rate.
        score_tail: whether validation and test score every word after the first; see
            `reader.all_windows`.

    Attributes:
        n_uncovered: dict from split to the number of its words that are not predicted.
    """

    unit = "words"

    def __init__(
        self,
        model,
        optimizer,
        corpus,
        recipe,
        batch_size,
        n_steps,
        dropout,
        seed,
        max_grad_norm,
        schedule,
        score_tail=False,
    ):
        self.model = model
        self.optimizer = optimizer
        self.recipe = recipe
        self.dropout = dropout
        self.seed = seed
        self.max_grad_norm = max_grad_norm
        self.dense_norm = recipe.dense_norm
        self.schedule = schedule
        cut = dict.fromkeys(corpus.ids, reader.windows)
        if score_tail:
            cut |= dict.fromkeys(("valid", "test"), reader.all_windows)
        self.windows = {
            split: cut[split](ids, batch_size, n_steps, split)
            for split, ids in corpus.ids.items()
        }
        self.n_uncovered = {s: w.n_uncovered for s, w in self.windows.items()}
        self.n_batches = len(self.windows["train"])
        self.batch_size = batch_size
        self.n_steps = n_steps
        self.batch_units = batch_size * n_steps

    def batch(self, epoch, i):
        return self.windows["train"][i]

    def initial_state(self):
        return self.model.get_initial_state(self.batch_size)

    def loss(self, step, batch, state):
        tokens, targets = batch
        outputs = self.model(tokens, state, self._noise(step))
        total, metrics = loss(
            outputs, targets, self.recipe, self.model.dsc.carry_memory
        )
        return total, outputs.state, metrics

    def _noise(self, step):
        shape = (self.batch_size, self.n_steps)
        masks = None
        if self.dropout:
            masks = [
                noise.dropout_mask(
                    (*shape, self.model.rnn_size),
                    self.dropout,
                    self.seed,
                    step,
                    DROPOUT + i,
                )
                for i in range(self.model.n_dropout_masks)
            ]
        return Noise(self._action_noise(self.seed, step), masks)

    def _action_noise(self, seed, step):
        shape = (self.batch_size, self.n_steps, self.model.dsc.n_actions)
        return noise.gumbel(shape, seed, step, ACTIONS)

    def describe(self, metrics):
        return (
            f"loss {metrics['loss']:.4f}, perplexity {perplexity(metrics['nll']):.2f}, "
            f"RL loss {metrics['rl_loss']:.4f}, "
            f"policy entropy {metrics['entropy']:.3f}, "
            f"skips {describe_skips(metrics['actions'])}"
        )

    def evaluate(self):
        valid, test = self.perplexity("valid"), self.perplexity("test")
        scores = {"valid perplexity": valid, "test perplexity": test}
        return scores, -valid

    def end_epoch(self, score):
        rate, stop = self.schedule(float(self.optimizer.learning_rate), -score)
        self.optimizer.learning_rate = rate
        if stop and self.recipe.early_stopping:
            return "validation improves no more at the smallest learning rate"
        return None

    def schedule_state(self):
        return {"best": self.schedule.best}

    def restore_schedule(self, state):
        self.schedule.best = state["best"]

    def perplexity(self, split):
        """exp of the mean word loss over a split's windows, from a state of zeros."""
        return self.score(split).perplexity

    def score(self, split):
        """Evaluates a split from a state of zeros; returns an `Evaluation`."""
        total, n_words = 0.0, 0
        counts = np.zeros(self.model.dsc.n_actions)
        for nll, actions, scored in self.evaluated(split):
            total += float(np.sum(nll[scored], dtype=np.float64))
            n_words += np.count_nonzero(scored)
            counts += np.bincount(actions[scored], minlength=len(counts))
        return Evaluation(perplexity(total / n_words), counts / n_words)

    def evaluated(self, split):
        """Yields `(word losses, actions, which of them count)` window by window.

        Each is `[batch, time]`; see `reader.Windows.is_scored`.
        """
        state = self.initial_state()
        for i, (tokens, targets) in enumerate(self.windows[split]):
            nll, actions, state = self._eval_step(
                tf.constant(i, tf.int64), tokens, targets, state
            )
            yield nll.numpy(), actions.numpy(), self.windows[split].is_scored(i)

    @tf.function
    def _eval_step(self, step, tokens, targets, state):
        actions = None
        if self.recipe.eval_actions == "sample":
            actions = self._action_noise(self.seed + EVALUATION_SEED, step)
        outputs = self.model(tokens, state, Noise(actions))
        nll = word_losses(outputs.logits, targets)
        return nll, outputs.skips.actions, outputs.state


def perplexity(nll):
    """exp of a mean word loss in nats; infinite when a float cannot hold it."""
    try:
        return math.exp(nll)
    except OverflowError:
        return math.inf


def describe_skips(shares):
    """`1: 0.25, 2: 0.40, ...`: how often each skip length was chosen, shortest first.

    Args:
        shares: `[n_actions]`, share of each action, oldest state first.
    """
    return " ".join(f"{k}: {share:.2f}" for k, share in enumerate(shares[::-1], 1))


class Schedule:
    """The release's learning rate: slower whenever validation improves too little.

    Args:
        decay: factor.
        threshold: the rate never falls below it.
        decay_when: by how much validation perplexity must fall below the best to keep
            the rate. As in the release, "the best" moves only when it does.
    """

    def __init__(self, decay, threshold, decay_when):
        self.decay = decay
        self.threshold = threshold
        self.decay_when = decay_when
        self.best = None

    def __call__(self, rate, perplexity):
        """The next rate, and whether no smaller one is left to try.

        A perplexity that is no number is no improvement and no best.
        """
        improved = self.best is None or perplexity < self.best - self.decay_when
        if improved and not math.isnan(perplexity):
            self.best = perplexity
            return rate, False
        # The optimizer keeps the rate in float32, which may round it up.
        smallest = rate <= self.threshold * (1 + 1e-6)
        lowest = min(rate, self.threshold)  # a rate that begins below it stays
        return max(rate * self.decay, lowest), smallest
