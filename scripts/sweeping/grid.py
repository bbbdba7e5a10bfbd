"""The runs that a sweep's command line asks for, checked before the first starts."""

import copy
import itertools
from pathlib import Path
from urllib.parse import quote

from absl import flags

from dsc.cli.errors import RunError, one_line
from dsc.cli.flags import IGNORED_FLAGS, ROLES, with_role
from dsc.runs import atomic_io
from sweeping.execution import Run

CHOSEN = {
    "seed": "give the seeds of all runs with --seeds",
    "train_dir": "each run gets a folder of its own in --sweep_dir",
    "restart": "to begin a run anew, remove its folder",
}
# Runs that differ in these alone share a folder.
NAMELESS = {*IGNORED_FLAGS, *ROLES["length"]}
LONGEST = 200  # bytes in the name of a folder


def runs(grid, seeds, folder):
    """All runs of a grid, the seeds of one point after one another.

    Args:
        grid: dict from flag to list of values, of `read`.
        seeds: list of texts.
        folder: the sweep's.

    Returns:
        List of `Run`. A folder is named after the flags that were given and that make
        it another run, so that a larger grid finds the runs of a smaller one.
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
    """Reads the grid's flags: comma-separated values for any flag of a script.

    Args:
        arguments: list of texts, `--name=values`, `--name values`, or for a switch
            `--name` and `--noname`.
        defined: `absl.flags.FlagValues` with the training script's flags.

    Returns:
        Dict from flag to list of values, as the texts that folders are named after.

    Raises:
        RunError: a flag is unknown, is the sweep's to set, may not have a value, or has
            several though no folder is named after it.
    """
    grid = {}
    arguments = iter(arguments)
    for argument in arguments:
        name, equals, text = argument.lstrip("-").partition("=")
        if not argument.startswith("-"):
            raise RunError(
                f"{argument!r} is not a flag; separate a flag's values by commas alone."
            )
        if name not in defined and name.startswith("no") and name[2:] in defined:
            name, equals, text = name[2:], "=", "false"
        is_inference = name in ROLES["inference"]
        if why := "a sweep trains" if is_inference else CHOSEN.get(name):
            raise RunError(f"--{name} is the sweep's to set; {why}.")
        if name not in defined:
            raise RunError(
                f"--{name} is no flag of the training script; its --help lists those "
                "there are."
            )
        if name in grid:
            raise RunError(f"--{name} is given twice; separate its values by commas.")
        if not equals:
            text = "true" if defined[name].boolean else next(arguments, "")
        is_path = name in with_role("data", "worker")  # which may have commas
        grid[name] = values([text] if is_path else text.split(","), defined[name])
        if name in NAMELESS and len(grid[name]) > 1:
            raise RunError(
                f"--{name} takes one value, since runs that differ in it alone would "
                "share a folder; give each value a --sweep_dir of its own."
            )
    return grid


def values(texts, flag):
    """A flag's values as the texts that name them: `0.50` and `.5` are one.

    Raises:
        RunError: a value is none, or is there twice.
    """
    parsed = []
    for text in texts:
        try:
            value = str(flag.parser.parse(text))
        except (TypeError, ValueError) as error:
            raise RunError(
                f"--{flag.name} may not be {text!r} ({one_line(error)}); --help of the "
                "training script says what it may be."
            ) from None
        if value in parsed:
            raise RunError(f"--{flag.name} has the value {value} twice; leave one out.")
        parsed.append(value)
    return parsed


def parsed(runs, defined):
    """The flags of runs as the training script has them, a `FlagValues` for each.

    Raises:
        RunError: says which flag, and what it may be.
    """
    found = []
    for run in runs:
        try:
            # A copy: what one run sets is not to be there for the next.
            found.append(copy.deepcopy(defined))
            found[-1](["", *run.flags])
        except flags.Error as error:
            raise RunError(
                f"The run {run.name} cannot be: {one_line(error)}; give another value."
            ) from None
    return found


def _name(point):
    named = sorted(point.keys() - NAMELESS)
    name = ",".join(f"{n}={quote(point[n], safe='')}" for n in named) or "defaults"
    if len(name) > LONGEST:
        name = f"{name[:LONGEST]}-{atomic_io.digest(name.encode())}"
    return name
