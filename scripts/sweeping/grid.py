"""The runs of a sweep, from its command line, which is checked before a run starts."""

import copy
import itertools
from pathlib import Path
from urllib.parse import quote

from absl import flags

from dsc.cli.errors import RunError, one_line
from dsc.cli.flags import IGNORED_FLAGS, ROLES, with_role
from dsc.runs import atomic_io
from sweeping.execution import Run

REFUSED = {  # flags that the sweep sets itself
    "seed": "give the seeds of all runs with --seeds",
    "train_dir": "each run gets its own folder in --sweep_dir",
    "restart": "to start a run over, remove its folder",
    **dict.fromkeys(ROLES["inference"], "a sweep trains"),
}
# Flags that are not part of a folder's name.
UNNAMED = {*IGNORED_FLAGS, *ROLES["length"]}
MAX_NAME_BYTES = 200


def runs(grid, seeds, folder):
    """All runs of a grid, a list of `Run`, the seeds of a point one after another.

    A folder is named after the flags that were given and change the result, so that a
    larger grid finds the runs of a smaller one.
    """
    folder = Path(folder).absolute()
    points = [
        dict(zip(grid, values, strict=True))
        for values in itertools.product(*grid.values())
    ]
    return [
        Run(point, seed, folder / _name(point) / f"seed={seed}")
        for point in points
        for seed in seeds
    ]


def read(arguments, defined):
    """Reads the flags of the grid, a dict from flag to list of values, as texts.

    Args:
        arguments: list of texts, `--name=values` (separated by commas), `--name values`
            or, for a Boolean flag, `--name` and `--noname`.
        defined: `absl.flags.FlagValues` with the training script's flags.
    """
    grid = {}
    arguments = iter(arguments)
    for argument in arguments:
        name, equals, text = argument.lstrip("-").partition("=")
        if not argument.startswith("-"):
            raise RunError(
                f"{argument!r} is not a flag; separate a flag's values by commas only."
            )
        if name not in defined and name.startswith("no") and name[2:] in defined:
            name, equals, text = name[2:], "=", "false"
        if name in REFUSED:
            raise RunError(f"--{name} is the sweep's to set; {REFUSED[name]}.")
        if name not in defined:
            raise RunError(
                f"--{name} is no flag of the training script; its --help lists the "
                "flags."
            )
        if name in grid:
            raise RunError(f"--{name} is given twice; separate its values by commas.")
        if not equals:
            text = "true" if defined[name].boolean else next(arguments, "")
        whole = name in (*with_role("data", "worker"), "shares")  # may contain commas
        grid[name] = values([text] if whole else text.split(","), defined[name])
        if name in UNNAMED and len(grid[name]) > 1:
            raise RunError(
                f"--{name} takes one value, since runs that differ in it alone would "
                "share a folder; give each value its own --sweep_dir."
            )
    return grid


def values(texts, flag):
    """Parses a flag's values and returns them as texts, so that `0.50` equals `.5`."""
    parsed = []
    for text in texts:
        try:
            value = str(flag.parser.parse(text))
        except (TypeError, ValueError) as error:
            raise RunError(
                f"--{flag.name} may not be {text!r} ({one_line(error)}); see --help of "
                "the training script."
            ) from None
        if value in parsed:
            raise RunError(f"--{flag.name} has the value {value} twice; remove one.")
        parsed.append(value)
    return parsed


def parsed(runs, defined):
    """The `FlagValues` of each run; finds combinations that the script refuses."""
    found = []
    for run in runs:
        try:
            found.append(copy.deepcopy(defined))  # runs must not share values
            found[-1](["", *run.flags])
        except flags.Error as error:
            raise RunError(
                f"The run {run.name} is refused: {one_line(error)}; give another value."
            ) from None
    return found


def _name(point):
    named = sorted(point.keys() - UNNAMED)
    name = ",".join(f"{n}={quote(point[n], safe='')}" for n in named) or "defaults"
    if len(name) > MAX_NAME_BYTES:
        name = f"{name[:MAX_NAME_BYTES]}-{atomic_io.digest(name.encode())}"
    return name
