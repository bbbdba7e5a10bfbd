"""What all pictures share: colours, fonts, and how a figure is kept."""

import contextlib
import sys
from pathlib import Path

from dsc import files

# Okabe and Ito's colours, which colour-blind readers can tell apart.
BLUE, VERMILION, GREEN, PURPLE = "#0072b2", "#d55e00", "#009e73", "#cc79a7"
ORANGE, SKY, GREY, BLACK = "#e69f00", "#56b4e9", "#999999", "#000000"
LINES = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK)
# For what has an order; made for the colour-blind too.
ORDERED = "cividis"


def require(asked_by):
    """Ends the program in one sentence if there is nothing to draw with.

    Args:
        asked_by: the flag or script that needs it.

    Returns:
        `matplotlib.pyplot`, which draws to files in the project's style.
    """
    try:
        import matplotlib
    except ImportError:
        sys.exit(f"{asked_by} needs matplotlib: pip install -e '.[plot]'")
    matplotlib.use("Agg")
    from matplotlib import pyplot

    pyplot.rcParams.update(
        {
            "font.size": 11,
            "axes.spines.top": False,
            "axes.spines.right": False,
            # A ground of its own: the page's may be light or dark.
            "figure.facecolor": "white",
            "savefig.facecolor": "white",
            "svg.hashsalt": "dsc-lstm",  # the same picture is the same file
        }
    )
    return pyplot


@contextlib.contextmanager
def writing():
    """Ends the program in one sentence if what `--out` asks for cannot be written."""
    try:
        yield
    except OSError as error:
        sys.exit(
            f"--out: cannot write {error.filename} ({error.strerror}); free space or "
            "give another path."
        )


def paths(out, *suffixes):
    """The paths of `--out`, one for each suffix, in a folder that is made for them."""
    found = [Path(f"{out}{suffix}") for suffix in suffixes]
    with writing():
        found[0].parent.mkdir(parents=True, exist_ok=True)
    return found


def save(figure, path):
    """Writes a figure to a .svg or .png file, the same bytes each time.

    Raises:
        OSError: it cannot be written.
    """
    suffix = Path(path).suffix[1:]
    metadata = {"Date": None} if suffix == "svg" else None
    files.write(
        path,
        lambda aside: figure.savefig(aside, dpi=150, format=suffix, metadata=metadata),
    )
