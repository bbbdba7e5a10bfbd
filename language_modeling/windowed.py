"""What training a language model is, whatever computes its steps: windows, schedule."""

from language_modeling import deciding, measures, reader


class OnWindows:
    """Trains a `LanguageModel` on windows that follow one another.

    Without TensorFlow: `task.py` and `jax_task.py` add the steps and `read`, which
    reads a split's windows from a state of zeros, as `Evaluator.run` does.

    Args:
        model: built `LanguageModel`.
        optimizer: `keras.optimizers.Optimizer`.
        corpus: `reader.Corpus`.
        recipe: `dsc.recipes.Recipe`.
        batch_size, n_steps: size of a window.
        dropout: share of units that is dropped.
        seed: of dropout and actions.
        max_grad_norm: global norm at which gradients are clipped.
        schedule: `Schedule` of the learning rate.
        score_tail: whether validation and test score every word after the first; see
            `reader.all_windows`.

    Attributes:
        windows: dict from split to `reader.Windows`.
        n_uncovered: dict from split to the number of its words that are not predicted.
    """

    unit = "words"
    record = staticmethod(measures.record)
    describe = staticmethod(measures.describe)

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

    def evaluate(self):
        """`(scores, score)` after an epoch, as `dsc.training.Task` says."""
        valid, test = self.perplexity("valid"), self.perplexity("test")
        # The score is finite: a state keeps it as JSON.
        return {"valid perplexity": valid, "test perplexity": test}, -min(valid, 1e308)

    def perplexity(self, split):
        """exp of the mean word loss over a split's windows, from a state of zeros."""
        return self.score(split).perplexity

    def score(self, split):
        """Evaluates a split from a state of zeros; returns a `measures.Evaluation`."""
        return measures.evaluation(self.read(split), self.model.dsc.n_actions)

    def report(self, known):
        """Prints how the model does on validation and test.

        Args:
            known: `data.Known` of the embedded corpus, or None of another.
        """
        if known:
            print(
                f"lowest possible test perplexity = {known.floor:.6f} (exact, whole "
                "test file)"
            )
        print(f"valid perplexity = {self.perplexity('valid'):.6f}")
        dsc, read = self.model.dsc, self.read("test")
        if known:
            read = list(read)  # to be gone through twice; other texts may be too large
        test = measures.evaluation(read, dsc.n_actions)
        print(f"test skips chosen = {measures.describe_skips(test.actions)}")
        if known and dsc.cell.choice != "attention":  # which weighs, and skips nowhere
            counts = deciding.count(
                read,
                self.windows["test"],
                known.deciders,
                dsc.n_actions,
                dsc.carry_memory,
            )
            for line in deciding.describe(counts):
                print(line)
        print(f"test perplexity = {test.perplexity:.6f}")

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
