"""The language model as something to train and to evaluate."""

from dsc import losses, noise, training
from language_modeling import reader
from language_modeling.evaluation import Evaluator
from language_modeling.measures import describe, record
from language_modeling.model import ACTIONS, DROPOUT, Noise, loss


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
        distribution: see `training.Task`.

    Attributes:
        evaluator: `Evaluator` of the model.
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
        distribution=training.Task.distribution,
    ):
        self.distribution = distribution
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
        self.evaluator = Evaluator(model, recipe.eval_actions, seed)
        self.n_uncovered = {s: w.n_uncovered for s, w in self.windows.items()}
        self.n_batches = len(self.windows["train"])
        self.batch_size = batch_size
        self.n_steps = n_steps
        self.batch_units = batch_size * n_steps

    def batch(self, epoch, i):
        words, targets, _ = self.windows["train"][i]
        return words, targets

    def initial_state(self):
        return self.model.get_initial_state(self.batch_size)

    def loss(self, step, batch, state):
        tokens, targets = batch
        outputs = self.model(tokens, state, self.distribution.rows(self._noise(step)))
        total, metrics = loss(
            outputs,
            targets,
            self.recipe,
            self.model.dsc.carry_memory,
            self.distribution.over_batch(losses.advantages),
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
        actions = (*shape, self.model.dsc.n_actions)
        return Noise(noise.gumbel(actions, self.seed, step, ACTIONS), masks)

    def record(self, metrics):
        return record(metrics)

    def describe(self, record):
        return describe(record)

    def evaluate(self):
        valid, test = self.perplexity("valid"), self.perplexity("test")
        scores = {"valid perplexity": valid, "test perplexity": test}
        return scores, -valid

    def end_epoch(self, score):
        rate, stop = self.schedule(self.learning_rate, -score)
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
        return self.evaluator.score(self.windows[split])
