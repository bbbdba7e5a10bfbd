"""Ctrl-C and SIGTERM end a program at a moment at which nothing is lost."""

import contextlib
import signal

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(SystemExit):
    """The program was told to end; it does so with 128 + the signal's number."""

    def __init__(self, number):
        super().__init__(128 + number)
        self.signal = signal.Signals(number).name


class _Moment:
    """What the handler knows: whether it has to wait, and for what signal it does."""

    waiting = False
    number = None


def exit_on_signals():
    """From now on both signals raise `Interrupted`, at once or after `delayed`."""
    for number in SIGNALS:
        signal.signal(number, _handle)


def ignore_signals():
    """From now on nothing is left to interrupt: the program is done."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _handle(number, frame):
    if _Moment.waiting:
        _Moment.number = number
    else:
        raise Interrupted(number)


@contextlib.contextmanager
def delayed():
    """Lets what is inside end before a signal is heard; not to be nested."""
    _Moment.waiting = True
    try:
        yield
    finally:
        _Moment.waiting = False
        number, _Moment.number = _Moment.number, None
    if number is not None:
        raise Interrupted(number)
