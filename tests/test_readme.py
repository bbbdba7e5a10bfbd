"""The README's promises that can be checked in seconds."""

import importlib.util
import re
from pathlib import Path

import numpy as np

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
