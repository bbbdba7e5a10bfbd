"""Reads the flags and metrics of runs, and groups runs by their flags."""

import json
from pathlib import Path
from typing import NamedTuple

from dsc.cli.errors import RunError, one_line
from dsc.cli.flags import IGNORED_FLAGS, LATER_FLAGS
from dsc.runs.folder import METRICS, TRAINED_WITH, read_config


class Run(NamedTuple):
    """A run, finished or not."""

    path: Path
    config: dict  # see `dsc.runs.folder.read_config`
    reports: list  # of dicts: the metrics every --print_every steps
    epochs: list  # of dicts: the scores after each epoch; None if not finite


def read(path):
    """Reads the run in a folder; an incomplete last line of metrics is left out."""
    path = Path(path)
    config = read_config(path)
    try:
        lines = (path / METRICS).read_text(encoding="utf-8").split("\n")[:-1]
        # Older runs have Infinity, which is not JSON.
        records = [json.loads(line, parse_constant=lambda _: None) for line in lines]
        if not all({"step", "epoch"} <= dict(record).keys() for record in records):
            raise ValueError("a line without step and epoch")
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise RunError(
            f"{path / METRICS} cannot be read ({one_line(error)}); give a run that has "
            "metrics."
        ) from None
    reports = [record for record in records if "nll" in record]
    epochs = [record for record in records if "nll" not in record]
    return Run(path, config, reports, epochs)


def groups(runs):
    """Lists of the runs that differ only in their seed, in the order of their first."""
    found = {}
    for run in runs:
        found.setdefault(json.dumps(_compared(run), sort_keys=True), []).append(run)
    return list(found.values())


def labels(grouped):
    """A text for each group of `groups` that says how it differs from the others."""
    configs = [_compared(group[0]) for group in grouped]
    names = sorted({name for config in configs for name in config})
    differing = [
        name
        for name in names
        if any(config.get(name) != configs[0].get(name) for config in configs)
    ]
    texts = []
    for group, config, data in zip(grouped, configs, _corpora(grouped), strict=True):
        config["data"] = data  # a name is easier to read than digests
        parts = [f"{name} {_format(config.get(name))}" for name in differing]
        texts.append(with_seeds(", ".join(parts) or group[0].path.name, group))
    return texts


def with_seeds(text, group):
    """A text with the number of runs in a group, if there are several."""
    return text + (f" ({len(group)} seeds)" if len(group) > 1 else "")


def _compared(run):
    flags = LATER_FLAGS | run.config["flags"]
    ignored = (*IGNORED_FLAGS, "seed")
    # Older runs lack the flags that were added later, of which None is the default.
    compared = {k: v for k, v in flags.items() if k not in ignored and v is not None}
    backend = run.config["about"].get(TRAINED_WITH)
    return {**compared, "data": run.config["data"], TRAINED_WITH: backend}


def _corpora(grouped):
    """The name of each group's data, with a run's folder if other data share it."""
    firsts = [group[0] for group in grouped]
    names = [run.config["about"].get("corpus", "unnamed") for run in firsts]
    data = [run.config["data"] for run in firsts]
    return [
        f"{name} of {firsts[data.index(own)].path}"
        if any(n == name and other != own for n, other in zip(names, data, strict=True))
        else name
        for name, own in zip(names, data, strict=True)
    ]


def _format(value):
    return f"{value:g}" if isinstance(value, float) else str(value)
