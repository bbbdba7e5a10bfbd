"""Progress of long work: a bar on a terminal, one line elsewhere."""

import sys
import time

WIDTH = 15  # of a bar
REDRAW = 0.1  # seconds between two updates of a bar
LONG = 5.0  # seconds of work before a line is printed where there is no bar


def make_bar():
    """A `rich.progress.Progress`, disabled where the output is no terminal."""
    # Imported here, since --help does not need it.
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    console = Console()
    return Progress(
        BarColumn(WIDTH),
        TaskProgressColumn(),
        TextColumn("{task.description}", markup=False),
        transient=True,
        auto_refresh=False,
        console=console,
        disable=not (sys.stdout.isatty() and console.is_interactive),
    )


class Progress:
    """Context that shows the progress of some work.

    Args:
        what: the work, the beginning of the text.
        total: what `add` counts up to.
    """

    def __init__(self, what, total):
        self.what = what
        self.total = total
        self.done = 0
        self.start = self.drawn = time.monotonic()
        self.bar = make_bar()
        self.task = self.bar.add_task(what, total=total)
        self.needs_line = self.bar.disable

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.bar.stop()

    def add(self, n):
        """Counts `n` more as done."""
        self.done += n
        now = time.monotonic()
        if now - self.drawn < REDRAW:
            return
        self.drawn = now
        share = min(self.done / max(self.total, 1), 1.0)
        left = f"{clock((now - self.start) / share * (1 - share))} left"
        text = f"{self.what}, {left}"
        self.bar.start()  # only now: short work needs no bar
        self.bar.update(self.task, completed=self.done, description=text, refresh=True)
        if now - self.start > LONG and self.needs_line:
            self.needs_line = False
            print(f"{self.what}: {share:.0%} done, {left}.", flush=True)


def clock(seconds):
    """`m:ss`, or `h:mm:ss`."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
