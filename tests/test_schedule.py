"""The learning-rate schedule of the language model."""

import math

import pytest

from language_modeling.schedule import Schedule


def test_the_rate_decays_unless_perplexity_improves_by_more_than_one():
    schedule = Schedule(decay=1 / 1.2, threshold=0.005, decay_when=1.0)
    d = 1 / 1.2
    table = [  # perplexity, next rate
        (100.0, 1.0),  # the first: best 100
        (98.0, 1.0),  # 2 better: best 98
        (97.5, d),  # 0.5 better: the best stays
        (97.0, d**2),  # exactly 1 better is not more than 1
        (98.0, d**3),  # equal to the best
        (96.9, d**3),  # 1.1 better: best 96.9
        (96.0, d**4),  # 0.9 better
        (200.0, d**5),  # worse
    ]
    rate = 1.0
    for perplexity, expected in table:
        rate, stop = schedule(rate, perplexity)
        assert rate == pytest.approx(expected, rel=1e-12), perplexity
        assert not stop


def test_training_stops_when_the_lowest_rate_brings_no_improvement():
    schedule = Schedule(decay=0.5, threshold=0.3, decay_when=1.0)
    assert schedule(1.0, 50.0) == (1.0, False)
    assert schedule(1.0, 50.0) == (0.5, False)
    assert schedule(0.5, 50.0) == (0.3, False)  # the threshold, not 0.25
    assert schedule(0.3, 50.0) == (0.3, True)
    assert schedule(0.3, 40.0) == (0.3, False)


@pytest.mark.parametrize("perplexities", [(math.nan, 9.0, 7.0), (9.0, math.nan, 7.0)])
def test_a_perplexity_of_nan_is_no_improvement(perplexities):
    schedule = Schedule(decay=0.5, threshold=0.3, decay_when=1.0)
    rates = [schedule(1.0, perplexity)[0] for perplexity in perplexities]
    assert rates == [0.5 if math.isnan(p) else 1.0 for p in perplexities]
    assert schedule.best == 7.0
