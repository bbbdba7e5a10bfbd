"""Ctrl-C, SIGTERM and similar signals end a program where nothing is lost."""

import contextlib
import signal

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # HUP: terminal closed
SIGNALS += (signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)  # a cluster's warnings


class Interrupted(SystemExit):
    """The program was told to end; it does so with 128 + the signal's number."""

    def __init__(self, number):
        super().__init__(128 + number)
        self.signal = signal.Signals(number).name


class _Moment:
    """What `interrupt` knows: how many `defer_signals` are open, and which signal came."""

    depth = 0
    number = None


def exit_on_signals():
    """From now on the signals raise `Interrupted`, at once or after `defer_signals`.

    A signal that was ignored at the start (`nohup`, `&` in a script) stays ignored.
    """
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda number, frame: interrupt(number))


def ignore_signals():
    """From now on nothing is left to interrupt: the program is done."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def interrupt(number):
    """Raises `Interrupted`, at once or at the end of `defer_signals`."""
    if not _Moment.depth:
        raise Interrupted(number)
    _Moment.number = _Moment.number or number


def pending_signal():
    """The number of the signal that `defer_signals` holds back, or None."""
    return _Moment.number


def allow_signals(function):
    """Calls `function` with signals enabled, even inside `defer_signals`."""
    held, _Moment.depth = _Moment.depth, 0
    try:
        with defer_signals():
            pass  # hears what came before
        return function()
    finally:
        _Moment.depth = held


@contextlib.contextmanager
def defer_signals():
    """Lets what is inside end before a signal is heard."""
    _Moment.depth += 1
    try:
        yield
    finally:
        _Moment.depth -= 1
        number = _Moment.number
        if not _Moment.depth:
            _Moment.number = None
    if number is not None and not _Moment.depth:
        raise Interrupted(number)
