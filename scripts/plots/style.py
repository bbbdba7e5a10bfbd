"""Colours and fonts of all pictures, and how they are written."""

import contextlib
import io
import os
import re
import sys
import tempfile
import warnings
from functools import partial
from pathlib import Path

from dsc.cli import errors
from dsc.runs import atomic_io

# The colour-blind safe palette of Okabe and Ito.
BLUE, VERMILION, GREEN, PURPLE = "#0072b2", "#d55e00", "#009e73", "#cc79a7"
ORANGE, SKY, GREY, BLACK = "#e69f00", "#56b4e9", "#999999", "#000000"
LINES = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK)
ORDERED = "cividis"  # a colour-blind safe map for ordered values


def require(asked_by):
    """Returns `matplotlib.pyplot`, set to write files in the project's style.

    Ends the program with a message that names `asked_by`, a flag or script, if
    Matplotlib is missing.
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
            # Not transparent, since the page may be light or dark.
            "figure.facecolor": "white",
            "savefig.facecolor": "white",
            "svg.hashsalt": "dsc-lstm",  # same figure, same bytes
        }
    )
    return pyplot


def check(out):
    """Refuses an `--out` that cannot be written; creates its folder."""
    if not os.path.basename(out).strip("."):
        raise errors.RunError(
            f"--out: {out!r} names no file; give a path without suffix, such as "
            f"{os.path.join(out, 'picture')}."
        )
    with errors.writing(out, "--out"):
        folder = Path(out).parent
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()


@contextlib.contextmanager
def writing(out, *suffixes):
    """Yields the paths of `--out`, one for each suffix; prints what was written."""
    check(out)
    paths = [Path(f"{out}{suffix}") for suffix in suffixes]
    old = ", over what was there" if any(path.exists() for path in paths) else ""
    with errors.writing(out, "--out"):
        yield paths
    print(f"Written{old}: {', '.join(map(str, paths))}")


def save_small(figure, path):
    """Writes a figure as a .png of 256 colours, which takes a third of the space."""
    from PIL import Image

    _set_fonts(figure)
    picture = io.BytesIO()
    figure.savefig(picture, dpi=100)
    image = Image.open(picture).convert("RGB")
    # Other methods lose colours that few pixels have.
    method = Image.Quantize.MAXCOVERAGE
    image = image.quantize(method=method, dither=Image.Dither.NONE)
    atomic_io.write(path, partial(image.save, format="png", optimize=True))


def save(figure, *paths):
    """Writes a figure to .svg or .png files, the same bytes each time."""
    _set_fonts(figure)
    for path in paths:
        metadata = {"Date": None} if Path(path).suffix == ".svg" else None
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing")  # already reported
            atomic_io.write(path, partial(figure.savefig, dpi=150, metadata=metadata))


def _set_fonts(figure):
    """Chooses installed fonts that have all characters; prints those that none has."""
    from matplotlib import font_manager, text

    texts = figure.findobj(text.Text)
    for each in texts:
        # A path may contain invalid Unicode, and a $ must not begin a formula.
        shown = each.get_text().encode(errors="replace").decode()
        each.set_text(re.sub(r"(?<!\\)\$", r"\$", shown))
    missing = {ord(c) for each in texts for c in each.get_text() if c.isprintable()}
    families = []
    fonts = [f for f in font_manager.fontManager.ttflist if "Last Resort" not in f.name]
    for font in sorted(fonts, key=lambda font: font.name != "DejaVu Sans"):
        if not missing:
            break
        if here := missing & font_manager.get_font(font.fname).get_charmap().keys():
            families.append(font.name)
            missing -= here
    if families[1:]:
        for each in texts:
            each.set_fontfamily(families)
    if missing:
        shown = " ".join(map(chr, sorted(missing)[:9]))
        print(
            f"No installed font has {shown}, so boxes are drawn; install a font that "
            "has, such as Noto Sans CJK.",
            file=sys.stderr,
        )
