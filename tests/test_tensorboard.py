"""Event files, as TensorBoard reads them."""

import os
import time

import numpy as np
import pytest

from dsc.cli.errors import RunError
from dsc.runs.tensorboard import Events

event_accumulator = pytest.importorskip(
    "tensorboard.backend.event_processing.event_accumulator",
    reason="TensorBoard is not installed (pip install -e '.[dev]')",
)


def read(folder):
    accumulator = event_accumulator.EventAccumulator(str(folder))
    accumulator.Reload()
    return accumulator


def scalars(folder, tag):
    return [(event.step, event.value) for event in read(folder).Scalars(tag)]


def report(step, **values):
    return {"step": step, "epoch": 1, "grad_norm": 1.0, **values}


def test_numbers_are_scalars_and_shares_a_histogram(tmp_path):
    events = Events(tmp_path, [], {})
    shares = [0.5, 0.125, 0.375]
    events.log(report(7, loss=1.5, actions=shares[::-1], matrix=[[1, 2]]))
    events.log({"step": 9, "epoch": 1, "valid accuracy (greedy)": 0.75, "none": None})
    assert scalars(tmp_path, "train/loss") == [(7, 1.5)]
    assert scalars(tmp_path, "epoch/valid_accuracy_greedy") == [(9, 0.75)]
    assert "train/matrix" not in str(read(tmp_path).Tags())
    (histogram,) = read(tmp_path).Histograms("train/skip_length")
    assert histogram.step == 7
    value = histogram.histogram_value
    edges = dict(zip(value.bucket_limit, value.bucket, strict=True))
    assert edges == {0.5: 0.0, 1.5: 0.5, 2.5: 0.125, 3.5: 0.375}
    assert value.num == 1.0
    assert value.sum == pytest.approx(np.dot([1, 2, 3], shares))


def test_a_folder_may_have_a_name_that_is_no_text(tmp_path):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    Events(folder, [], {})
    Events(folder, [], {})
    assert len(list(folder.iterdir())) == 1


def run(folder, records, new):
    """A process that resumes after the records and logs new ones."""
    events = Events(folder, records, {"seed": 1})
    for record in new:
        events.log({**record, "words_per_second": 50.0 + record["step"]})


@pytest.mark.parametrize("hours", [-1, 0, 1])
def test_a_resumed_run_shows_its_metrics_and_nothing_else(tmp_path, monkeypatch, hours):
    reports = [report(step, loss=step) for step in (10, 20, 30, 40)]
    epoch = {"step": 20, "epoch": 1, "score": 2.0}  # of a run that ends at step 20
    run(tmp_path, [], [*reports[:2], epoch])
    first = read(tmp_path).Scalars("train/loss")
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 3600 * hours)
    run(tmp_path, reports[:2], reports[2:])
    assert scalars(tmp_path, "train/loss") == [(n, n) for n in (10, 20, 30, 40)]
    assert not any(tag.startswith("epoch") for tag in read(tmp_path).Tags()["scalars"])
    # And again, after a kill that took back the last report.
    run(tmp_path, reports[:3], [])
    assert scalars(tmp_path, "train/loss") == [(n, n) for n in (10, 20, 30)]
    # What the metrics do not have is kept: the times and the speed.
    assert read(tmp_path).Scalars("train/loss")[:2] == first
    speeds = [(n, 50.0 + n) for n in (10, 20, 30)]
    assert scalars(tmp_path, "train/words_per_second") == speeds


def test_what_is_lost_of_a_file_comes_from_the_metrics(tmp_path):
    records = [report(10, loss=1.0), report(20, loss=2.0)]
    run(tmp_path, [], records)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-5])  # the process was killed
    run(tmp_path, records, [report(30, loss=3.0)])
    assert scalars(tmp_path, "train/loss") == [(10, 1.0), (20, 2.0), (30, 3.0)]
    assert [step for step, _ in scalars(tmp_path, "train/words_per_second")] == [10, 30]


def test_event_files_of_others_stay_and_hide_nothing(tmp_path):
    run(tmp_path, [], [report(10, loss=1.0)])
    (own,) = tmp_path.iterdir()
    # Of an older version of ours, or of PyTorch; of a clock that was ahead.
    kept = {"events.out.tfevents.12.theirs.3.0": own.read_bytes(), f"{own.name}.b": b""}
    kept["events.out.tfevents.9876543210.theirs.3.v2"] = own.read_bytes()
    for name, content in kept.items():
        (tmp_path / name).write_bytes(content)
    run(tmp_path, [report(10, loss=2.0)], [report(20, loss=3.0)])
    assert not own.exists() and len(list(tmp_path.iterdir())) == 4
    assert kept == {name: (tmp_path / name).read_bytes() for name in kept}
    assert scalars(tmp_path, "train/loss") == [(10, 2.0), (20, 3.0)]


def test_hyperparameters_are_what_the_plugin_reads(tmp_path):
    metadata = pytest.importorskip("tensorboard.plugins.hparams.metadata")
    hparams = {
        "lamda": 0.5,
        "n_actions": 5,
        "carry_memory": True,
        "restart": False,
        "recipe": "corrected",
        "a_long_text": "é" * 300,
        "max_steps": None,
        "data": {"train": "0"},
    }
    Events(tmp_path, [], hparams)
    tag = metadata.SESSION_START_INFO_TAG
    content = read(tmp_path).SummaryMetadata(tag).plugin_data.content
    info = metadata.parse_session_start_info_plugin_data(content)
    found = {}
    for name, value in info.hparams.items():
        found[name] = getattr(value, value.WhichOneof("kind"))
    del hparams["max_steps"], hparams["data"]
    assert found == hparams


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(RunError, match=r"--train_dir: cannot write to .*gone"):
        Events(tmp_path / "gone", [], {})
