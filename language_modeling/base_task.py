"""The language-model task without the training step: windows, schedule and scores."""

from dsc.distributed.base import Distribution
from language_modeling import metrics
from language_modeling.agreement import lookback
from language_modeling.corpora import all_windows, whole_windows


class LanguageModelTask:
    """Trains a `LanguageModel` on successive windows of a text.

    Independent of the backend: `task.py` and `jax_task.py` add the training step and
    `read(split)`, which evaluates a split's windows as `Evaluator.run` does.

    Args:
        model: built `LanguageModel`.
        optimizer: `keras.optimizers.Optimizer`.
        corpus: `corpora.Corpus`.
        recipe: `dsc.recipes.Recipe`.
        batch_size, n_steps: shape of a window.
        dropout: share of units to drop.
        recurrent_dropout: share of the recurrent layers' candidates to drop.
        variational: whether the masks of both are held along a window.
        seed: of dropout and actions.
        max_grad_norm: global norm at which gradients are clipped.
        schedule: learning-rate `Schedule`.
        score_tail: whether validation and test score every word after the first; see
            `corpora.all_windows`.
        level: key of `metrics.LEVELS`.
        facts: `lookback.GrammarFacts` of the embedded corpus, None for any other.
        distribution: see `dsc.training.task.Task`; None is one process.

    Attributes:
        windows: dict from split to `corpora.Windows`.
        n_unscored: dict from split to the number of words that are not predicted.
    """

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
        level="word",
        recurrent_dropout=0.0,
        variational=False,
        facts=None,
        distribution=None,
    ):
        self.model = model
        self.optimizer = optimizer
        self.recipe = recipe
        self.dropout = dropout
        self.recurrent_dropout = recurrent_dropout
        self.variational = variational
        self.seed = seed
        self.max_grad_norm = max_grad_norm
        self.schedule = schedule
        self.level = level
        self.unit = metrics.LEVELS[level].unit
        self.facts = facts
        self.distribution = distribution or Distribution()
        # Attention weighs all states and chooses none.
        self.chooses = model.dsc.cell.choice != "attention"
        self._evaluated = {}  # from score to the first result of `_score_splits`
        cut = dict.fromkeys(corpus.ids, whole_windows)
        if score_tail:
            cut |= dict.fromkeys(("valid", "test"), all_windows)
        self.windows = {
            split: cut[split](ids, batch_size, n_steps, split)
            for split, ids in corpus.ids.items()
        }
        self.n_unscored = {s: w.n_unscored for s, w in self.windows.items()}
        self.batch_size = batch_size
        self.n_steps = n_steps
        self.batch_units = batch_size * n_steps

    @property
    def n_batches(self):
        """Windows per epoch."""
        return len(self.windows["train"])

    def record(self, means):
        """See `dsc.training.task.Task`."""
        return metrics.record(means, self.level)

    def describe(self, record):
        """See `dsc.training.task.Task`."""
        return metrics.describe(record, self.level)

    def evaluate(self):
        """`(scores, score)` after an epoch, see `dsc.training.task.Task`."""
        valid, test, counts = self._score_splits()
        self._evaluated.setdefault(-valid.perplexity, (valid, test, counts))
        return self._scores(valid, test), -valid.perplexity

    def _score_splits(self):
        """`(Evaluation of valid, of test, result of lookback.count or None)`."""
        valid = self.score("valid")
        dsc, read, counts = self.model.dsc, self.read("test"), None
        if self.facts and self.chooses:
            read = list(read)  # only here: other texts may not fit into memory
            counts = lookback.count(
                read,
                self.windows["test"],
                self.facts.deciders,
                dsc.n_actions,
                dsc.carry_memory,
            )
        return valid, metrics.evaluation(read, dsc.n_actions), counts

    def score(self, split):
        """The `metrics.Evaluation` of a split, read from a state of zeros."""
        return metrics.evaluation(self.read(split), self.model.dsc.n_actions)

    def report(self, score=None):
        """Prints and returns the final scores; see `dsc.training.task.Task`."""
        valid, test, counts = self._evaluated.get(score) or self._score_splits()
        if self.facts:
            print(
                f"lowest possible test perplexity = {self.facts.floor:.6f} (exact, "
                "whole test file)"
            )
        scores = self._scores(valid, test)
        shown_valid, shown_test = (f"{k} = {v:.6f}" for k, v in scores.items())
        print(shown_valid)
        if self.chooses:
            print(f"test skips chosen = {metrics.describe_skips(test.actions)}")
        if counts is not None:
            scores |= lookback.scores(counts)
            for line in lookback.describe(counts):
                print(line)
        print(shown_test)
        return scores

    def _scores(self, valid, test):
        """Dict with the scores of two `Evaluation`s by name, in this order."""
        level = metrics.LEVELS[self.level]
        return {
            f"valid {level.score}": level.of_perplexity(valid.perplexity),
            f"test {level.score}": level.of_perplexity(test.perplexity),
        }

    def end_epoch(self, score):
        """Updates the learning rate; returns the reason to stop training, or None."""
        rate, stop = self.schedule(self.learning_rate, -score)
        self.optimizer.learning_rate = rate
        if stop and self.recipe.early_stopping:
            return "validation improves no more at the smallest learning rate"
        return None

    def schedule_state(self):
        """See `dsc.training.task.Task`."""
        return {"best": self.schedule.best}

    def restore_schedule(self, state):
        """See `dsc.training.task.Task`."""
        self.schedule.best = state["best"]
