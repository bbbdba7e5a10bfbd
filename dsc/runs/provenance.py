"""Where a run comes from, for those who read its folder later."""

import contextlib
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import keras

from dsc.runs.folder import TRAINED_WITH

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("dsc-lstm", "tensorflow", "jax", "keras", "numpy")
BACKENDS = {"tensorflow": "TensorFlow", "jax": "JAX"}


def about(model, corpus, accelerator=None):
    """What a run's `config.json` says beside flags and digests.

    Args:
        model: built `keras.Model`.
        corpus: name of what it is trained on.
        accelerator: name of what computes in the processor's place, where it is known
            (JAX tells it), or None.

    Returns:
        JSON-serialisable dict: `trained with` (the backend, which draws the random
        numbers), `corpus`, `n_weights`, `versions`, `git_commit`, `machine`.
    """
    return {
        TRAINED_WITH: BACKENDS[keras.backend.backend()],
        "corpus": corpus,
        "n_weights": model.count_params(),
        "versions": versions(),
        "git_commit": git_commit(),
        "machine": ", ".join(filter(None, (machine(), accelerator))),
    }


def machine():
    """The machine in a few words: system, logical CPUs and what they are."""
    processor = platform.machine()
    with contextlib.suppress(OSError, StopIteration):
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            named = next(line for line in lines if line.startswith("model name"))
        processor = named.partition(":")[2].strip()
    return f"{platform.system()}, {os.cpu_count()} logical CPUs, {processor}"


def versions():
    """Dict from the packages that numbers depend on, as far as they are installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def git_commit():
    """The commit that runs, marked where code differs from it; None if unknown."""
    if not (ROOT / ".git").exists():
        return None
    try:
        commit = _git("rev-parse", "HEAD")
        what_is_told = ":(exclude)results", ":(exclude)*.md"  # of runs, also by runs
        changed = _git(
            "status", "--porcelain", "--untracked-files=no", "--", ".", *what_is_told
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{commit} with changes" if changed else commit


def _git(*arguments):
    # Without locks: a run that is killed must leave none in the repository.
    command = ["git", "--no-optional-locks", "-C", str(ROOT), *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return result.stdout.strip()
