"""The learning rate over the epochs."""

import math


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
