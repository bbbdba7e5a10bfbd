"""The project runs no code from the files that it reads."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted(
    path
    for folder in ("dsc", "language_modeling", "number_prediction", "scripts")
    for path in (ROOT / folder).rglob("*.py")
)
RUNNING = {"eval", "exec", "compile", "__import__"}
MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve"}
MODULES |= {"marshal", "yaml"}
ARGUMENTS = {"allow_pickle": True, "safe_mode": False}


def dangers(tree):
    """Yields the lines of what could run code from a file, and what it is."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id=name)) if name in RUNNING:
                yield node.lineno, name
            case ast.Import(names=names):
                for name in {alias.name.split(".")[0] for alias in names} & MODULES:
                    yield node.lineno, name
            case ast.ImportFrom(module=str(module)) if module.split(".")[0] in MODULES:
                yield node.lineno, module
            case ast.keyword(arg=name, value=value) if name in ARGUMENTS:
                if (
                    not isinstance(value, ast.Constant)
                    or value.value is ARGUMENTS[name]
                ):
                    yield node.value.lineno, name


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_source_file_runs_code_from_files(path):
    assert list(dangers(ast.parse(path.read_text(encoding="utf-8")))) == []


@pytest.mark.parametrize(
    ("source", "n_found"),
    [
        ("eval(text)", 1),
        ("import pickle as p", 1),
        ("from dill.source import x", 1),
        ("np.load(path, allow_pickle=flag)", 1),
        ("keras.models.load_model(path, safe_mode=False)", 1),
        ("task.evaluate(); model.compile(); np.load(p, allow_pickle=False)", 0),
    ],
)
def test_only_what_would_run_code_is_found(source, n_found):
    assert len(list(dangers(ast.parse(source)))) == n_found
