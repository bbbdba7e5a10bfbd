"""The README's promises: its example, its names, its commands."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from language_modeling.agreement import grammar

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_example_runs_and_trains_gates_and_agent(tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    path = tmp_path / "example.py"
    path.write_text(code, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("example", path)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    model, train_step = example.model, example.train_step
    before = [w.copy() for w in model.get_weights()]
    x = np.ones((16, 12, 8), np.float32)
    y = np.linspace(-1, 1, 16, dtype=np.float32)[:, None]
    losses = [float(train_step(x, y)) for _ in range(3)]
    assert np.all(np.isfinite(losses))
    moved = [np.any(a != b) for a, b in zip(before, model.get_weights(), strict=True)]
    assert all(moved)


def test_every_file_that_the_readme_names_exists():
    names = re.findall(
        r"(?:dsc|language_modeling|number_prediction|scripts|tests|\.github)/[\w./]*",
        README,
    )
    assert len(names) > 15
    missing = [name for name in names if not (ROOT / name.rstrip(".")).exists()]
    assert not missing


def test_the_layout_leaves_no_module_out():
    layout = README.split("## Layout")[1]
    modules = [
        path.name
        for folder in ("dsc", "language_modeling", "number_prediction", "scripts")
        for path in (ROOT / folder).glob("*.py")
    ]
    assert [m for m in modules if m != "__init__.py" and m not in layout] == []


# The commands, one after another. What makes one small comes before README's own flags,
# which win, and leaves alone what tells two runs apart.
STEPS = " --max_epochs=1 --max_steps=2"
SMALL = {
    "./scripts/test": " --collect-only",
    "python language_modeling/rl_train.py": STEPS,
    "python number_prediction/produce_data.py": " --n_train=400 --n_test=99",
    "python number_prediction/rl_train.py": f"{STEPS} --nojit_compile",
    "python scripts/benchmark.py": " --rnn_size=8 --vocab_size=50 --repeats=1",
    "python tests/stress/fuzz.py": " --cases=20 --processes=1",
    "python tests/stress/large_corpus.py": " --megabytes=1",
    "python tests/stress/memory.py": " --steps=600",
    "python scripts/reproduce.py": " --smoke",
    "python scripts/sweep.py": " --max_steps=50 --rnn_size=7",
    "python tests/stress/kill_and_resume.py": " --kills=1 --damages=1",
    "python scripts/train_jax.py": STEPS,
    "    tensorboard": " --inspect",
}
NEEDS = {  # part of a command: what must be here
    "multi_worker": "two machines",
    "--engine ray": "ray",
    "train_jax": "jax",
    "penn_treebank_650_jax": "jax",
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
    # Small corpora, one of which stands for the Penn Treebank.
    grammar.write(folder / "data" / "agreement", 3, 3000, 1000, 1000)
    (folder / "corpus").mkdir()
    for split in ("train", "valid", "test"):
        text = "the company said it expects to sell its shares\n" * 400
        (folder / "corpus" / f"ptb.{split}.txt").write_text(text)
    return folder


def blocks():
    """The README's commands, as the blocks in which they stand."""
    text = re.sub("```.*?```", "", README, flags=re.DOTALL)
    found = [m[0] for m in re.finditer(r"^(?: {4}.*\n)+", text, re.MULTILINE)]
    return [block for block in found if not block.startswith("    epoch 8 done in")]


def in_small(block):
    block = block.replace("python scripts/get_ptb.py", "cp -r corpus data/ptb")
    for command, flags in SMALL.items():
        block = block.replace(command, command + flags)
    return block


def is_for_here(block):
    needs = [need for part, need in NEEDS.items() if part in block]
    return all(importlib.util.find_spec(need) for need in needs)


@pytest.mark.slow
def test_the_commands_succeed_one_after_another_in_one_checkout(tmp_path):
    folder = checkout(tmp_path / "clone")
    path = f"{folder / '.venv' / 'bin'}:{Path(sys.executable).parent}"
    environment = os.environ | {
        "PATH": f"{path}:{os.environ['PATH']}",
        "PYTHONPATH": str(folder),
    }
    failed = []
    for block in filter(is_for_here, blocks()):
        result = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", in_small(block)],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
        )
        # How fast a machine starts is not of interest here.
        if result.returncode and "That is not less than" not in result.stderr:
            failed.append((block, result.stdout[-500:], result.stderr[-2000:]))
    assert not failed
