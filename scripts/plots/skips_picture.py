"""Draws one sentence with its arcs, for papers and the README."""

import textwrap
import unicodedata

from plots import style

# All lengths are in inches, which are also the units of the axes.
CHARACTER, GAP, LINE = 0.1, 0.16, 0.3
MAX_WIDTH = 9.6  # the words of longer sentences are rotated
MARGIN = 0.15  # around the picture
SIDE = 0.045  # from the end of an arc to the middle of its word
MAX_HEIGHT, STUB = 1.5, 0.28  # of an arc; of an arc that leads to nothing
CAPTION_HEIGHT, LINE_LENGTH = 0.8, 130  # inches, characters
FADED = "#767676"
CAPTION = """\
Each arc points back to the word whose state the LSTM continued from; the thicker and \
darker, the surer the agent. Grey: the newest state, as in any LSTM. Blue: a skip. \
Dotted with a ring: before the first word. Pale words: read before the sentence."""


def draw(pyplot, sentence):
    """A figure of a `skips.Sentence`."""
    words = [*sentence.context, *(word.read_as for word in sentence.words)]
    n_context = len(sentence.context)
    rotated = sum(map(_length, words)) > MAX_WIDTH
    widths = [LINE if rotated else _length(word) for word in words]
    left = MARGIN + max(MAX_WIDTH - sum(widths), 0) / 2
    places = [left + sum(widths[:i]) + width / 2 for i, width in enumerate(widths)]
    below = max(map(_length, words)) if rotated else LINE
    arcs = [
        (i, i - word.skip, word.policy[word.skip])
        for i, word in enumerate(sentence.words, n_context)
    ]
    above = max([STUB] + [_height(places, i, j) for i, j, _ in arcs])

    size = 2 * MARGIN + max(sum(widths), MAX_WIDTH), above + below + CAPTION_HEIGHT
    figure = pyplot.figure(figsize=size)
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set(xlim=(0, size[0]), ylim=(above + MARGIN - size[1], above + MARGIN))
    axis.axis("off")
    for i, (word, x) in enumerate(zip(words, places, strict=True)):
        axis.text(
            x,
            -0.08,
            word,
            color=FADED if i < n_context else style.BLACK,
            ha="center",
            va="top",
            rotation=90 if rotated else 0,
        )
    for arc in arcs:
        _draw_arc(axis, places, *arc)
    text = textwrap.fill(CAPTION, LINE_LENGTH)
    caption = axis.text(MARGIN, -below - 0.08, text, fontsize=9, va="top")
    caption.set_linespacing(1.3)
    return figure


def _length(word):
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in word)
    return CHARACTER * (len(word) + wide) + GAP


def _height(places, i, j):
    return min((places[i] - places[j]) / 2, MAX_HEIGHT)


def _draw_arc(axis, places, i, j, probability):
    """An arc from word i back to word j, or a stub if they are the same."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    look = {
        "linewidth": 0.5 + 3.5 * probability,
        "alpha": min(0.25 + 0.75 * probability, 1.0),
        "color": "#555555" if i - j == 1 else style.BLUE,
    }
    start = places[i] - SIDE
    if i == j:
        look["linewidth"] = 1.2
        axis.plot([start, start - SIDE], [0, STUB], linestyle=":", **look)
        axis.plot(start - SIDE, STUB, "o", markersize=4.5, fillstyle="none", **look)
        return
    end = places[j] + SIDE
    top = _height(places, i, j) / 0.75  # a cubic curve reaches 3/4 of its handles
    curve = Path([(start, 0), (start, top), (end, top), (end, 0)], [1, 4, 4, 4])
    axis.add_patch(PathPatch(curve, fill=False, capstyle="round", **look))
