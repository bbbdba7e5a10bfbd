"""Ctrl-C, SIGTERM and similar signals end a program without losing work."""

import contextlib
import signal

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # the terminal is closed
# Batch systems warn with these.
SIGNALS += (signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)


class Interrupted(SystemExit):
    """A signal ends the program, with exit code 128 + its number."""

    def __init__(self, number):
        super().__init__(128 + number)
        self.signal = signal.Signals(number).name


class _Flag:
    """The signal that came inside `polled()`."""

    is_polled = False
    number = None


def exit_on_signals():
    """From now on a signal calls `interrupt`.

    A signal that was ignored at the start (`nohup`, `&` in a script) stays ignored.
    """

    def handle(number, frame):
        if _Flag.number is not None:  # the second signal
            raise Interrupted(number)
        interrupt(number)

    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handle)


def ignore_signals():
    """Ignores signals from now on: the program is done."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def interrupt(number):
    """Raises `Interrupted`, or sets the flag inside `polled()`."""
    if not _Flag.is_polled:
        raise Interrupted(number)
    _Flag.number = _Flag.number or number


def pending():
    """The number of the signal that set the flag, or None."""
    return _Flag.number


@contextlib.contextmanager
def polled():
    """Inside, the first signal only sets the flag; a second one raises at once.

    Raises:
        Interrupted: at the end, if the flag is set.
    """
    _Flag.is_polled = True
    try:
        yield
        if _Flag.number is not None:
            raise Interrupted(_Flag.number)
    finally:
        _Flag.is_polled, _Flag.number = False, None
