"""Learning-rate schedule."""

import math


class Schedule:
    """The release's schedule: decays when validation perplexity improves too little.

    Args:
        decay: factor on the learning rate.
        threshold: lowest learning rate.
        decay_when: improvement over the best perplexity that keeps the rate. As in the
            release, the best is updated only by such an improvement.
    """

    def __init__(self, decay, threshold, decay_when):
        self.decay = decay
        self.threshold = threshold
        self.decay_when = decay_when
        self.best = None

    def __call__(self, rate, perplexity):
        """`(next rate, whether the lowest rate brought no improvement)`.

        A perplexity of NaN is no improvement.
        """
        improved = self.best is None or perplexity < self.best - self.decay_when
        if improved and not math.isnan(perplexity):
            self.best = perplexity
            return rate, False
        # The optimizer stores the rate in float32, which may round it up.
        smallest = rate <= self.threshold * (1 + 1e-6)
        lowest = min(rate, self.threshold)  # an initial rate may be lower
        return max(rate * self.decay, lowest), smallest
