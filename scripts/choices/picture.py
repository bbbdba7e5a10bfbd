"""The picture of `analyse_choices.py`."""

from plots import style


def draw(pyplot, rows, gradients, level):
    """Scores by the way to choose, and gradient norms by distance.

    Args:
        pyplot: from `style.require`.
        rows: list of `(name, score)`, the greedy one first.
        gradients: dict from a name to norms `[time]`.
        level: of `language_modeling.metrics.LEVELS`.
    """
    figure, (left, right) = pyplot.subplots(
        1, 2, figsize=(11, 1.4 + 0.27 * len(rows)), layout="constrained"
    )
    names, values = zip(*rows, strict=True)
    left.axvline(values[0], color=style.GREY, linewidth=1)
    left.plot(values, range(len(rows)), "o", color=style.BLUE)
    left.set_yticks(range(len(rows)), names)
    left.invert_yaxis()
    left.set_xlabel(level.score)
    left.grid(axis="x", linewidth=0.5, alpha=0.5)
    for (name, norms), color in zip(gradients.items(), style.LINES, strict=False):
        right.plot(range(len(norms)), norms, label=name, color=color)
    right.set_yscale("log")
    right.set_xlabel(f"steps before the {level.unit.removesuffix('s')}")
    right.set_ylabel("mean |dL/dh|")
    right.grid(linewidth=0.5, alpha=0.5)
    right.legend(frameon=False)
    return figure
