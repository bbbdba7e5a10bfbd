"""A bar where someone looks, one line where nobody does, nothing for short work."""

import re
import time

import pytest

from dsc.cli import progress
from dsc.cli.progress import Progress, clock


class Clock:
    """Time that passes when it is told to."""

    now = 7.0

    def monotonic(self):
        return self.now


@pytest.fixture
def watch(monkeypatch):
    watch = Clock()
    monkeypatch.setattr(time, "monotonic", watch.monotonic)
    return watch


def work(watch, seconds, parts=10):
    """A hundredth of something at a time, which takes so many seconds in all."""
    with Progress("Sorting", 100 * parts) as bar:
        for _ in range(parts):
            watch.now += seconds / parts
            bar.add(100)


def test_a_terminal_gets_a_bar_that_is_gone_in_the_end(watch, capsys, terminal):
    work(watch, 40)
    output = capsys.readouterr().out
    assert "━30%Sorting, 0:28 left" in re.sub(r"\x1b\[\d*m *", "", output)
    assert output.endswith("\r\x1b[1A\x1b[2K")  # up to the bar's line, which is cleared
    work(watch, 0.05)
    assert capsys.readouterr().out == ""


def test_a_bar_is_not_drawn_more_often_than_one_can_see(watch, capsys, terminal):
    work(watch, 1.0, parts=1000)
    assert capsys.readouterr().out.count("Sorting") < 1.0 / progress.REDRAW + 4


def test_elsewhere_one_line_tells_of_what_takes_long(watch, capsys):
    work(watch, 20)
    assert capsys.readouterr().out == "Sorting: 30% done, 0:14 left.\n"
    work(watch, progress.LONG)
    assert capsys.readouterr().out == ""


def test_work_that_is_more_than_was_said_is_all_of_it(watch, capsys):
    with Progress("Growing", 0) as bar:
        watch.now += 9
        bar.add(5)
    assert capsys.readouterr().out == "Growing: 100% done, 0:00 left.\n"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.4, "0:00"),
        (59.6, "1:00"),
        (61, "1:01"),
        (3661, "1:01:01"),
        (36000, "10:00:00"),
    ],
)
def test_a_clock_has_hours_only_if_there_are_any(seconds, shown):
    assert clock(seconds) == shown
