"""The plots read the metrics of runs and group runs by their flags."""

import json

import pytest
from plots import run_reader

from dsc.cli.errors import RunError

REPORT = {
    "step": 5,
    "epoch": 1,
    "learning_rate": 1.0,
    "nll": 2.5,
    "entropy": 1.1,
    "actions": [0.25, 0.75],
}
EPOCH = {"step": 7, "epoch": 1, "learning_rate": 1.0, "valid perplexity": 11.5}
FLAGS = {"seed": 1, "rnn_size": 8, "lamda": 1.0, "train_dir": "a", "data_dir": "c/x"}


def made(folder, records=(REPORT, EPOCH), tail="", data=None, about=None, **flags):
    folder.mkdir()
    config = {
        "flags": {**FLAGS, **flags},
        "data": data or {"train": "0f"},
        "about": about or {"corpus": "x"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    lines = "".join(f"{json.dumps(record)}\n" for record in records)
    (folder / "metrics.jsonl").write_text(lines + tail)
    return folder


def test_reports_and_epochs_are_told_apart(tmp_path):
    run = run_reader.read(made(tmp_path / "a", tail='{"step": 9, "epo'))
    assert (run.reports, run.epochs) == ([REPORT], [EPOCH])  # not the incomplete line
    assert run.config["flags"]["rnn_size"] == 8


@pytest.mark.parametrize("line", ["{", "[1]", "3", '{"step": 5}', "[" * 100_000])
def test_metrics_that_are_damaged_are_refused(tmp_path, line):
    with pytest.raises(RunError, match=r"metrics.jsonl cannot be read .*; give"):
        run_reader.read(made(tmp_path / "a", tail=f"{line}\n"))


def test_runs_that_differ_in_their_seed_and_place_alone_are_one_group(tmp_path):
    first, other, second = (
        run_reader.read(made(tmp_path / name, train_dir=name, **config))
        for name, config in (
            ("a", {"seed": 1}),
            ("b", {"seed": 1, "lamda": 0.5}),
            ("c", {"seed": 2, "data_dir": "elsewhere/x", "about": {"machine": "b"}}),
        )
    )
    grouped = run_reader.groups([first, other, second])
    assert grouped == [[first, second], [other]]
    assert run_reader.labels(grouped) == ["lamda 1 (2 seeds)", "lamda 0.5"]


def test_other_data_are_another_group_named_after_their_corpus(tmp_path):
    found = [
        run_reader.read(
            made(tmp_path / name, data={"train": name}, about={"corpus": name})
        )
        for name in ("x", "y")
    ]
    assert run_reader.labels(run_reader.groups(found)) == ["data x", "data y"]


def test_data_that_share_their_name_are_told_apart_by_a_run_of_theirs(tmp_path):
    found = [
        run_reader.read(made(tmp_path / name, data={"train": train}, lamda=lamda))
        for name, train, lamda in (("a", "1", 1.0), ("b", "2", 0.5), ("c", "2", 1.0))
    ]
    assert run_reader.labels(run_reader.groups(found)) == [
        f"data x of {tmp_path / 'a'}, lamda 1",
        f"data x of {tmp_path / 'b'}, lamda 0.5",
        f"data x of {tmp_path / 'b'}, lamda 1",
    ]


def test_the_backend_is_told_if_it_sets_runs_apart(tmp_path):
    found = [
        run_reader.read(made(tmp_path / name, about={"trained with": name}))
        for name in ("TensorFlow", "JAX")
    ]
    labels = run_reader.labels(run_reader.groups(found))
    assert labels == ["trained with TensorFlow", "trained with JAX"]


def test_a_single_group_has_the_name_of_its_folder(tmp_path):
    assert run_reader.labels([[run_reader.read(made(tmp_path / "cv-3"))]]) == ["cv-3"]
