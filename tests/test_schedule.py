"""When the learning rate of the language model falls, and when training ends."""

import math

import pytest

from language_modeling.schedule import Schedule


def test_the_rate_falls_unless_perplexity_falls_by_more_than_one_below_the_anchor():
    schedule = Schedule(decay=1 / 1.2, threshold=0.005, decay_when=1.0)
    d = 1 / 1.2
    table = [  # perplexity, next rate; the anchor is the last that fell by more than 1
        (100.0, 1.0),  # the first: anchor 100
        (98.0, 1.0),  # 2 better: anchor 98
        (97.5, d),  # 0.5 better: the anchor stays
        (97.0, d**2),  # exactly 1 better than the anchor is not more than 1
        (98.0, d**3),  # equal to the anchor
        (96.9, d**3),  # 1.1 better than the anchor, 0.1 better than the best: anchor
        (96.0, d**4),  # 0.9 better
        (200.0, d**5),  # worse
    ]
    rate = 1.0
    for perplexity, expected in table:
        rate, stop = schedule(rate, perplexity)
        assert rate == pytest.approx(expected, rel=1e-12), perplexity
        assert not stop


def test_training_stops_when_the_threshold_brings_no_gain():
    schedule = Schedule(decay=0.5, threshold=0.3, decay_when=1.0)
    assert schedule(1.0, 50.0) == (1.0, False)
    assert schedule(1.0, 50.0) == (0.5, False)
    assert schedule(0.5, 50.0) == (0.3, False)  # not 0.25; 0.3 is tried next
    assert schedule(0.3, 50.0) == (0.3, True)
    assert schedule(0.3, 40.0) == (0.3, False)  # perplexity does fall again


@pytest.mark.parametrize("perplexities", [(math.nan, 9.0, 7.0), (9.0, math.nan, 7.0)])
def test_a_perplexity_of_nan_lowers_the_rate_and_is_forgotten(perplexities):
    schedule = Schedule(decay=0.5, threshold=0.3, decay_when=1.0)
    rates = [schedule(1.0, perplexity)[0] for perplexity in perplexities]
    assert rates == [0.5 if math.isnan(p) else 1.0 for p in perplexities]
    assert schedule.best == 7.0
