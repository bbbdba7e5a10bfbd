"""What training a language model is, whatever computes its steps: windows, schedule."""

from dsc.distributed.base import Distribution
from language_modeling import metrics
from language_modeling.agreement import lookback
from language_modeling.corpora import all_windows, whole_windows


class LanguageModelTask:
    """Trains a `LanguageModel` on windows that follow one another.

    Without TensorFlow: `task.py` and `jax_task.py` add the steps and `read`, which
    reads a split's windows from a state of zeros, as `Evaluator.run` does.

    Args:
        model: built `LanguageModel`.
        optimizer: `keras.optimizers.Optimizer`.
        corpus: `corpora.Corpus`.
        recipe: `dsc.recipes.Recipe`.
        batch_size, n_steps: size of a window.
        dropout: share of units that is dropped.
        seed: of dropout and actions.
        max_grad_norm: global norm at which gradients are clipped.
        schedule: `Schedule` of the learning rate.
        score_tail: whether validation and test score every word after the first; see
            `corpora.all_windows`.
        facts: `data.GrammarFacts` of the embedded corpus, or None of another.
        distribution: see `dsc.training.task.Task`; None is one process.

    Attributes:
        windows: dict from split to `corpora.Windows`.
        n_uncovered: dict from split to the number of its words that are not predicted.
    """

    unit = "words"
    record = staticmethod(metrics.record)
    describe = staticmethod(metrics.describe)

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
        facts=None,
        distribution=None,
    ):
        self.model = model
        self.optimizer = optimizer
        self.recipe = recipe
        self.dropout = dropout
        self.seed = seed
        self.max_grad_norm = max_grad_norm
        self.schedule = schedule
        self.facts = facts
        self.distribution = distribution or Distribution()
        # Attention weighs all states and chooses none.
        self.chooses = model.dsc.cell.choice != "attention"
        self._evaluated = {}  # by score, what `_score_both` gave first
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
        """Windows per epoch, of a corpus with a training text."""
        return len(self.windows["train"])

    def evaluate(self):
        """`(scores, score)` after an epoch, as `dsc.training.task.Task` says."""
        evaluated = self._score_both()
        valid, test = (evaluation.perplexity for evaluation in evaluated[:2])
        self._evaluated.setdefault(-valid, evaluated)
        return {"valid perplexity": valid, "test perplexity": test}, -valid

    def _score_both(self):
        """`(Evaluation of valid, of test, counts of deciding.count or None)`."""
        valid = self.score("valid")
        dsc, read, counts = self.model.dsc, self.read("test"), None
        if self.facts and self.chooses:
            read = list(read)  # to be gone through twice; other texts may be too large
            counts = lookback.count(
                read,
                self.windows["test"],
                self.facts.deciders,
                dsc.n_actions,
                dsc.carry_memory,
            )
        return valid, metrics.evaluation(read, dsc.n_actions), counts

    def perplexity(self, split):
        """exp of the mean word loss over a split's windows, from a state of zeros."""
        return self.score(split).perplexity

    def score(self, split):
        """Evaluates a split from a state of zeros; returns a `measures.Evaluation`."""
        return metrics.evaluation(self.read(split), self.model.dsc.n_actions)

    def report(self, score=None):
        """Prints the scores on validation and test; see `dsc.training.task.Task`."""
        valid, test, counts = self._evaluated.get(score) or self._score_both()
        if self.facts:
            print(
                f"lowest possible test perplexity = {self.facts.floor:.6f} (exact, "
                "whole test file)"
            )
        print(f"valid perplexity = {valid.perplexity:.6f}")
        if self.chooses:
            print(f"test skips chosen = {metrics.describe_skips(test.actions)}")
        scores = {
            "valid perplexity": valid.perplexity,
            "test perplexity": test.perplexity,
        }
        if counts is not None:
            scores |= lookback.scores(counts)
            for line in lookback.describe(counts):
                print(line)
        print(f"test perplexity = {test.perplexity:.6f}")
        return scores

    def end_epoch(self, score):
        """Adapts the learning rate to a score; returns why to stop, or None."""
        rate, stop = self.schedule(self.learning_rate, -score)
        self.optimizer.learning_rate = rate
        if stop and self.recipe.early_stopping:
            return "validation improves no more at the smallest learning rate"
        return None

    def schedule_state(self):
        """What `end_epoch` remembers, by name."""
        return {"best": self.schedule.best}

    def restore_schedule(self, state):
        """Takes back what `schedule_state` gave."""
        self.schedule.best = state["best"]
