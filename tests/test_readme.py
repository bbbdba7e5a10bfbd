"""The README's promises: its example, its names, its commands."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import pytest

from language_modeling.agreement import grammar
from number_prediction import produce_data

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("", "language_modeling", "number_prediction", "scripts", "dsc")
READMES = {
    folder: (ROOT / folder / "README.md").read_text(encoding="utf-8")
    for folder in (*PAGES, "results")
}


def trained(code, folder):
    """What the last epoch of a Python example logged."""
    path = folder / "example.py"
    path.write_text(code, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("example", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    history = module.model.history.history
    return {name: values[-1] for name, values in history.items()}


EXAMPLES = {
    folder: re.findall(r"```python\n(.*?)```", READMES[folder], re.DOTALL)
    for folder in ("", "dsc")
}


@pytest.mark.parametrize("folder", EXAMPLES)
def test_an_example_runs(folder, tmp_path):
    (code,) = EXAMPLES[folder]
    small = re.sub(r"\d+_000", "400", code)
    small = re.sub(r"epochs=\d", "epochs=1", small)
    assert {"val_accuracy", "policy_entropy"} <= trained(small, tmp_path).keys()


@pytest.mark.slow
@pytest.mark.parametrize("folder", EXAMPLES)
def test_an_example_learns_its_task(folder, tmp_path):
    keras.utils.set_random_seed(1)
    (code,) = EXAMPLES[folder]
    assert trained(code, tmp_path)["val_accuracy"] > 0.999


@pytest.mark.parametrize("folder", READMES)
def test_every_file_that_a_readme_names_exists(folder):
    text = READMES[folder]
    links = re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", text)
    links = [ROOT / folder / link for link in links if "://" not in link]
    paths = (
        r"(?:dsc|language_modeling|number_prediction|scripts|tests|\.github)/[\w./]*"
    )
    names = [
        ROOT / name.rstrip(".") for name in re.findall(rf"(?<![\w/]){paths}", text)
    ]
    assert [str(path) for path in links + names if not path.exists()] == []


def test_the_first_readme_is_one_screen():
    assert len(READMES[""].splitlines()) <= 220
    assert len(READMES[""].encode()) <= 14_000


# The commands, one after another. What makes one small comes before README's own flags,
# which win, and leaves alone what tells two runs apart.
STEPS = " --max_epochs=1 --max_steps=2"
SMALL = {
    "./scripts/test": " --collect-only",
    "python language_modeling/rl_train.py": STEPS,
    "python number_prediction/produce_data.py": " --n_train=400 --n_test=99",
    "python number_prediction/rl_train.py": f"{STEPS} --nojit_compile",
    "python scripts/reproduce.py": " --smoke",
    "python scripts/sweep.py": " --max_steps=50 --rnn_size=7",
    "--script number_prediction/rl_train.py": " --nojit_compile",
    "python scripts/train_jax.py": STEPS,
    f"{STEPS} --n_actions 5": " --rnn_size=9",
    "    tensorboard": " --inspect",
}
# Part of a command that modules of their own run.
TESTED_ELSEWHERE = "scripts/benchmark.py", "scripts/examples/", "tests/stress/"
NEEDS = {  # part of a command: what must be here
    "multi_worker": "two machines",
    "--engine ray": "ray",
    "train_jax": "jax",
    "    tensorboard": "tensorboard",
}


def checkout(folder):
    """A copy of this checkout, with the packages of this environment in `.venv`."""
    kept = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "cv*", "data")
    shutil.copytree(ROOT, folder, ignore=kept)
    (folder / "data").mkdir()
    places = folder / ".venv" / "bin"
    places.mkdir(parents=True)
    for name, line in (("python", f'exec {sys.executable} "$@"'), ("pip", "exit 0")):
        (places / name).write_text(f"#!/bin/sh\n{line}\n")
        (places / name).chmod(0o755)
    (places / "ruff").symlink_to(Path(sys.executable).with_name("ruff"))
    shutil.copy(ROOT / "pyproject.toml", folder / ".venv" / "installed-dev")
    # Small data, also of pages that come before; one stands for the Penn Treebank.
    digits = folder / "data" / produce_data.file_name(10)
    sizes = {"train": 400, "valid": 100, "test": 99}
    produce_data.write(digits, 10, sizes, seed=3435)
    grammar.write(folder / "data" / "agreement", 3, 3000, 1000, 1000)
    (folder / "corpus").mkdir()
    for split in ("train", "valid", "test"):
        text = "the company said it expects to sell its shares\n" * 400
        (folder / "corpus" / f"ptb.{split}.txt").write_text(text)
    return folder


def blocks(page):
    """The commands of a page, as the blocks in which they stand."""
    text = re.sub("```.*?```", "", READMES[page], flags=re.DOTALL)
    for match in re.finditer(r"^(?: {4}.*\n)+", text, re.MULTILINE):
        yield match[0]


def in_small(block):
    # tests/test_scripts.py tries the first two lines of the README.
    block = re.sub(
        r"git clone.*|\./scripts/train$|python -m venv.*|\. \.venv.*",
        "true",
        block,
        flags=re.M,
    )
    block = block.replace("python scripts/get_ptb.py", "cp -rT corpus data/ptb")
    for command, flags in SMALL.items():
        block = block.replace(command, command + flags)
    return block


def is_for_here(block):
    if any(part in block for part in TESTED_ELSEWHERE):
        return False
    needs = [need for part, need in NEEDS.items() if part in block]
    return all(importlib.util.find_spec(need) for need in needs)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_the_commands_succeed_one_after_another_in_one_checkout(page, tmp_path):
    folder = checkout(tmp_path / "clone")
    path = f"{folder / '.venv' / 'bin'}:{Path(sys.executable).parent}"
    environment = os.environ | {
        "PATH": f"{path}:{os.environ['PATH']}",
        "PYTHONPATH": str(folder),
    }
    failed = []
    for block in filter(is_for_here, blocks(page)):
        result = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", in_small(block)],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
        )
        if result.returncode:
            failed.append((block, result.stdout[-500:], result.stderr[-2000:]))
    assert not failed
