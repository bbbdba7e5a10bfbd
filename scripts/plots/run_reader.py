"""Reads what runs have kept: their flags and their metrics."""

import json
from pathlib import Path
from typing import NamedTuple

from dsc.cli.errors import RunError, one_line
from dsc.cli.flags import IGNORED_FLAGS
from dsc.runs.folder import METRICS, TRAINED_WITH, read_config


class Run(NamedTuple):
    """A run, finished or not.

    Attributes:
        path: its folder.
        config: dict, see `dsc.runs.folder.read_config`.
        reports: list of dicts, the metrics every `--print_every` steps.
        epochs: list of dicts, the scores after each epoch. None is what is not finite.
    """

    path: Path
    config: dict
    reports: list
    epochs: list


def read(path):
    """Reads a run.

    Args:
        path: the run's `--train_dir`.

    Returns:
        `Run`. A last line of metrics that is being written is left out.

    Raises:
        RunError: there is no run, or its files are damaged.
    """
    path = Path(path)
    config = read_config(path)
    records = _read_metrics(path / METRICS)
    reports = [record for record in records if "nll" in record]
    epochs = [record for record in records if "nll" not in record]
    return Run(path, config, reports, epochs)


def _read_metrics(path):
    try:
        lines = path.read_text(encoding="utf-8").split("\n")[:-1]
        # Infinity is no JSON, but older runs have it.
        records = [json.loads(line, parse_constant=lambda _: None) for line in lines]
        if not all({"step", "epoch"} <= dict(record).keys() for record in records):
            raise ValueError("a line without step and epoch")
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise RunError(
            f"{path} cannot be read ({one_line(error)}); give a run that has reported "
            "something."
        ) from None
    return records


def groups(runs):
    """Runs that differ in their seed alone, together.

    Args:
        runs: list of `Run`.

    Returns:
        List of lists of `Run`, in the order of their first.
    """
    found = {}
    for run in runs:
        found.setdefault(json.dumps(_compared(run), sort_keys=True), []).append(run)
    return list(found.values())


def labels(grouped):
    """What sets groups of runs apart, one text each.

    Args:
        grouped: from `groups`.
    """
    configs = [_compared(group[0]) for group in grouped]
    names = sorted({name for config in configs for name in config})
    apart = [
        name
        for name in names
        if any(config.get(name) != configs[0].get(name) for config in configs)
    ]
    texts = []
    for group, config, data in zip(grouped, configs, _corpora(grouped), strict=True):
        config["data"] = data  # digests say nothing
        parts = [f"{name} {_shown(config.get(name))}" for name in apart]
        texts.append(with_seeds(", ".join(parts) or group[0].path.name, group))
    return texts


def with_seeds(text, group):
    """A text, and of how many runs the group is if there are several."""
    return text + (f" ({len(group)} seeds)" if len(group) > 1 else "")


def _compared(run):
    flags = run.config["flags"].items()
    compared = {k: v for k, v in flags if k not in (*IGNORED_FLAGS, "seed")}
    with_what = run.config["about"].get(TRAINED_WITH)
    return {**compared, "data": run.config["data"], TRAINED_WITH: with_what}


def _corpora(grouped):
    """The name of each group's data, with a run's folder if other data have it too."""
    firsts = [group[0] for group in grouped]
    names = [run.config["about"].get("corpus", "unnamed") for run in firsts]
    data = [run.config["data"] for run in firsts]
    return [
        f"{name} of {firsts[data.index(own)].path}"
        if any(n == name and other != own for n, other in zip(names, data, strict=True))
        else name
        for name, own in zip(names, data, strict=True)
    ]


def _shown(value):
    return f"{value:g}" if isinstance(value, float) else str(value)
