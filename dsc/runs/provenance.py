"""Provenance of a run: model size, versions, commit, machine."""

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


def about(model, corpus, accelerator=None, method=""):
    """The part `about` of a run's `config.json`, a dict.

    Args:
        model: built `keras.Model`.
        corpus: name of the data.
        accelerator: name of the GPU or other accelerator, or None if it is unknown.
        method: text after the backend's name; a run is resumed with the same only.
    """
    return {
        TRAINED_WITH: BACKENDS[keras.backend.backend()] + method,
        "corpus": corpus,
        "n_weights": model.count_params(),
        "versions": versions(),
        "git_commit": git_commit(),
        "machine": ", ".join(filter(None, (machine(), accelerator))),
    }


def machine():
    """System, number of logical CPUs and processor, as text."""
    processor = platform.machine()
    with contextlib.suppress(OSError, StopIteration):
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            named = next(line for line in lines if line.startswith("model name"))
        processor = named.partition(":")[2].strip()
    return f"{platform.system()}, {os.cpu_count()} logical CPUs, {processor}"


def versions():
    """Dict from the installed packages that numbers depend on to their versions."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def git_commit():
    """The commit, with a mark if the code differs from it; None if unknown."""
    if not (ROOT / ".git").exists():
        return None
    try:
        commit = _git("rev-parse", "HEAD")
        code = ".", ":(exclude)results", ":(exclude)*.md"
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", *code)
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{commit} with changes" if changed else commit


def _git(*arguments):
    # A killed run must leave no lock in the repository.
    command = ["git", "--no-optional-locks", "-C", str(ROOT), *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return result.stdout.strip()
