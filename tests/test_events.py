"""Event files, as TensorBoard reads them."""

import os

import numpy as np
import pytest

from dsc.errors import RunError
from dsc.events import Events

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


def test_numbers_are_scalars_and_shares_a_histogram(tmp_path):
    events = Events(tmp_path, 0, {})
    shares = [0.5, 0.125, 0.375]
    events.log(7, "train", {"loss": 1.5, "skip_length": shares, "matrix": [[1, 2]]})
    events.log(9, "epoch", {"valid accuracy (greedy)": 0.75})
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
    Events(folder, 0, {})
    assert len(list(folder.iterdir())) == 1


def test_what_a_run_takes_back_is_shown_no_more(tmp_path):
    events = Events(tmp_path, 0, {})
    for step in (10, 20, 30, 40):
        events.log(step, "train", {"loss": step})
    events = Events(tmp_path, 20, {})  # goes on from a state after step 20
    events.log(30, "train", {"loss": 0.5})
    assert len(list(tmp_path.iterdir())) == 2
    assert scalars(tmp_path, "train/loss") == [(10, 10.0), (20, 20.0), (30, 0.5)]


def test_a_file_that_was_cut_in_a_record_is_read_up_to_there(tmp_path):
    events = Events(tmp_path, 0, {})
    for step in (10, 20):
        events.log(step, "train", {"loss": step})
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-5])  # the process was killed
    Events(tmp_path, 10, {}).log(20, "train", {"loss": 7})
    assert scalars(tmp_path, "train/loss") == [(10, 10.0), (20, 7.0)]


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
    Events(tmp_path, 0, hparams)
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
        Events(tmp_path / "gone", 0, {})
