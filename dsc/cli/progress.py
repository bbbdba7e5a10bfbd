"""How far a piece of work is: a bar on a terminal, and little elsewhere."""

import shutil
import sys
import time

WIDTH = 15  # of a bar
REDRAW = 0.1  # seconds between two looks of a bar
LONG = 5.0  # seconds of work without a bar until a line says how far it is


class Bar:
    """A bar in the last line of a terminal; nothing where the output is none."""

    def __init__(self):
        self.is_shown = sys.stdout.isatty()

    def draw(self, share, text):
        """Draws `share`, 0 to 1, and a text behind it."""
        if self.is_shown:
            line = f"[{'=' * int(WIDTH * share):{WIDTH}}] {share:4.0%} {text}"
            room = shutil.get_terminal_size().columns - 1  # a full line would wrap
            print(f"\r{line[:room]}", end="\x1b[K", flush=True)

    def clear(self):
        """Leaves the terminal without a bar."""
        if self.is_shown:
            print("\r\x1b[K", end="", flush=True)


class Progress:
    """How far a piece of work is: a bar, or one line if it takes long without one.

    Args:
        what: the work, as it begins a line.
        total: of what `add` counts.
    """

    def __init__(self, what, total):
        self.what = what
        self.total = total
        self.done = 0
        self.start = self.drawn = time.monotonic()
        self.is_said = False
        self.bar = Bar()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.bar.clear()

    def add(self, n):
        """Counts `n` more as done."""
        self.done += n
        now = time.monotonic()
        if now - self.drawn < REDRAW:
            return
        self.drawn = now
        share = min(self.done / max(self.total, 1), 1.0)
        left = clock((now - self.start) / share * (1 - share))
        self.bar.draw(share, f"{self.what}, {left} left")
        if now - self.start > LONG and not self.bar.is_shown and not self.is_said:
            print(f"{self.what}: {share:.0%} done, {left} left.", flush=True)
            self.is_said = True


def clock(seconds):
    """`m:ss`, or `h:mm:ss`."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
