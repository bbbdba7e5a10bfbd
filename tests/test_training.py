"""The training step and loop: clipping, reports, best weights, the end."""

import math
import re
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from small import metrics

from dsc.cli.errors import RunError
from dsc.runs.folder import RunFolder
from dsc.runs.train_state import State
from dsc.training import report
from dsc.training import step as train_step
from dsc.training.loop import fit
from dsc.training.report import Report
from dsc.training.step import clip
from dsc.training.task import Task
from language_modeling import metrics as measures

# Memory


class Driver:
    """A CUDA driver that sees two GPUs, with 80 and 16 GiB."""

    def cuDeviceGet(self, device, number):
        device._obj.value = number
        return 0 if number < 2 else 101

    def cuDeviceTotalMem_v2(self, total, device):
        total._obj.value = (80 * 2**30, 16 * 2**30)[device.value]
        return 0


def test_a_share_of_the_memory_of_each_gpu_that_tensorflow_sees(monkeypatch):
    limits = {}
    monkeypatch.setattr(train_step.ctypes, "CDLL", lambda name: Driver())
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["a", "b"])
    monkeypatch.setattr(
        tf.config,
        "set_logical_device_configuration",
        lambda gpu, limit: limits.update({gpu: limit[0].memory_limit}),
    )
    train_step.limit_gpu_memory(0.25)
    assert limits == {"a": 20 * 1024, "b": 4 * 1024}


def test_a_driver_that_does_not_tell_the_memory_is_said(monkeypatch):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["a"] * 3)
    with pytest.raises(RunError, match=r"--gpu_portion: .* memory of GPU 0 \(.*; lea"):
        train_step.limit_gpu_memory(0.5)


# Clipping


@pytest.mark.parametrize(
    ("dense_norm", "norm"),
    [
        (True, 13.0),  # the row is (3, 4): 5 and 12
        (False, math.sqrt(1 + 4 + 4 + 4 + 144)),  # (1, 2) and (2, 2) apart
    ],
)
@pytest.mark.parametrize("max_norm", [None, 100.0, 6.5, 0.1])
def test_gradients_name_a_row_once_and_are_scaled_to_the_norm(
    dense_norm, norm, max_norm
):
    values = tf.constant([[1.0, 2.0], [0.0, 0.0], [2.0, 2.0]])
    rows = tf.IndexedSlices(values, tf.constant([4, 1, 4]), tf.constant([6, 2]))
    given = [rows, None, tf.constant([0.0, 12.0, 0.0])]
    (rows, nothing, vector), counted = clip(given, max_norm, dense_norm)
    assert float(counted) == pytest.approx(norm, rel=1e-6)
    scale = 1.0 if max_norm is None else min(1.0, max_norm / norm)
    assert sorted(rows.indices.numpy()) == [1, 4] and nothing is None
    dense = np.zeros((6, 2))
    dense[4] = 3, 4
    np.testing.assert_allclose(tf.convert_to_tensor(rows), scale * dense, rtol=1e-6)
    np.testing.assert_allclose(vector, [0, scale * 12, 0], rtol=1e-6)


def test_gradients_below_the_norm_stay_bit_for_bit():
    gradient = tf.random.stateless_normal((7, 3), [1, 2])
    (kept,), _ = clip([gradient], 1e3, dense_norm=True)
    np.testing.assert_array_equal(kept, gradient)


# The loop


class Counting(Task):
    """Has one weight with gradient 1: after n steps it is -0.5 * n.

    The state counts the steps of an epoch; the loss is the weight + the batch's number.
    """

    unit = "beans"
    batch_units = 3
    n_batches = 5

    def __init__(self, scores=(), reasons=()):
        inputs = keras.Input((1,))
        outputs = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")
        self.model = keras.Model(inputs, outputs(inputs))
        self.optimizer = keras.optimizers.SGD(0.5)
        self.scores = list(scores)
        self.reasons = list(reasons)
        self.weights_seen = []
        self.ended_with = []

    def batch(self, epoch, i):
        return (np.float32(10 * epoch + i),)

    def initial_state(self):
        return tf.constant(0.0)

    def loss(self, step, batch, state):
        loss = tf.reduce_sum(self.model.trainable_variables[0]) + batch[0]
        metrics = {"state": state, "seen_step": step, "pair": tf.stack([batch[0], 1.0])}
        return loss, state + 1.0, metrics

    def describe(self, metrics):
        return f"state {metrics['state']:.2f}"

    def evaluate(self):
        self.weights_seen.append(self.weight())
        score = self.scores.pop(0) if self.scores else 0.0
        return {"sweetness": score}, score

    def end_epoch(self, score):
        self.ended_with.append(score)
        return self.reasons.pop(0) if self.reasons else None

    def weight(self):
        return float(self.model.get_weights()[0][0, 0])


def run(task, tmp_path, max_epochs=3, print_every=2, max_steps=None):
    """Trains; returns the best score, the reports, the epochs."""
    folder = RunFolder.begin(tmp_path / "run", {})
    best = fit(task, folder, max_epochs, print_every, max_steps).best_score
    records = metrics(folder.path)
    reports = [record for record in records if "loss" in record]
    return best, reports, [record for record in records if "loss" not in record]


def test_reports_are_means_over_the_steps_since_the_last_one(tmp_path):
    _, reports, _ = run(Counting(), tmp_path, max_epochs=2, print_every=2)
    # Two of an epoch's five steps at a time; no report has the fifth. The steps count
    # through, the state starts at 0 in each epoch, the weight is -0.5 times the steps.
    columns = ("epoch", "step", "state", "seen_step", "pair", "loss", "grad_norm")
    assert [tuple(report[name] for name in columns) for report in reports] == [
        (1, 2, 0.5, 0.5, [0.5, 1], 0.5 - 0.25, 1.0),
        (1, 4, 2.5, 2.5, [2.5, 1], 2.5 - 1.25, 1.0),
        (2, 7, 0.5, 5.5, [10.5, 1], 10.5 - 2.75, 1.0),
        (2, 9, 2.5, 7.5, [12.5, 1], 12.5 - 3.75, 1.0),
    ]


def test_each_report_is_printed_as_a_line_and_each_epoch_recorded(tmp_path, capsys):
    task = Counting(scores=[0.25, 0.75])
    _, _, epochs = run(task, tmp_path, max_epochs=2, print_every=4)
    assert epochs == [
        {"epoch": 1, "step": 5, "learning_rate": 0.5, "sweetness": 0.25},
        {"epoch": 2, "step": 10, "learning_rate": 0.5, "sweetness": 0.75},
    ]
    assert task.ended_with == [0.25, 0.75]
    clock = r"\d+:\d\d"
    patterns = [
        rf"epoch 1/2 step 4/5: state 1\.50, \d+ beans/s, {clock} left",
        rf"epoch 1 done in {clock}: sweetness = 0\.250000, learning rate 0\.5",
        rf"epoch 2/2 step 4/5: state 1\.50, \d+ beans/s, {clock} left",
        rf"epoch 2 done in {clock}: sweetness = 0\.750000, learning rate 0\.5",
        r"Training ends: --max_epochs 2 reached\.",
    ]
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(patterns)
    for pattern, line in zip(patterns, lines, strict=True):
        assert re.fullmatch(pattern, line), line


def test_on_a_terminal_a_bar_is_drawn_over_and_the_lines_are_the_same(
    tmp_path, capsys, monkeypatch, terminal
):
    monkeypatch.setattr(report, "LOOK", 0.0)
    run(Counting(), tmp_path, max_epochs=1, print_every=5)
    output = capsys.readouterr().out
    assert re.search("40%.* of epoch 1.*100%.* of epoch 1", output, re.DOTALL)
    # What is left on the screen: of each line the text after the last clearing.
    shown = [line.split("\x1b[2K")[-1] for line in output.split("\n")]
    assert [line.split(":")[0] for line in shown if re.match("epoch|Train", line)] == [
        "epoch 1/1 step 5/5",
        "epoch 1 done in 0",
        "Training ends",
    ]


class Watched(Counting):
    """An epoch of 100 steps; a step takes `seconds`, the first one twenty."""

    n_batches = 100
    unit = "words"
    batch_units = 700
    nll = 5.0

    def __init__(self, monkeypatch, seconds):
        self.monkeypatch = monkeypatch
        self.seconds = seconds
        self.time = 7.0

    def record(self, metrics):
        return measures.record(metrics)

    def describe(self, record):
        return measures.describe(record)

    def report(self, print_every=50, n_steps=100):
        """Reports some steps; returns the records."""
        self.monkeypatch.setattr(time, "monotonic", lambda: self.time)
        state = State(recurrent=None)
        report = Report(self, state, 100, print_every)
        report.begin_epoch()
        records = []
        with report.bar:
            for step in range(n_steps):
                self.time += self.seconds if step else 20.0
                metrics = {"loss": 35 * self.nll, "nll": self.nll, "grad_norm": 1.0}
                metrics |= {"entropy": 1.5, "n": step, "actions": np.ones(5) / 5}
                state.means.add(step, metrics)
                state.position = state.step = step + 1
                records.append(report.after_step())
        return [record for record in records if record]

    @property
    def learning_rate(self):
        return 1.0


def test_no_estimate_counts_the_step_that_is_traced(monkeypatch, capsys):
    Watched(monkeypatch, 0.2).report(print_every=20, n_steps=20)
    (line,) = capsys.readouterr().out.splitlines()
    assert line == (
        "epoch 1/100 step 20/100: loss 175.0, perplexity 148.4, entropy 1.50, "
        "3500 words/s, 0:16 left"
    )
    Watched(monkeypatch, 0.5).report(print_every=1, n_steps=1)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.endswith(", 0 words/s, ? left")


def test_a_first_line_comes_soon_and_changes_no_record(monkeypatch, capsys):
    (record,) = Watched(monkeypatch, 0.5).report(print_every=80)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "epoch 1/100 step 2/100",  # the first that tells how long the 80th takes
        "epoch 1/100 step 80/100",
    ]
    assert (record["step"], record["n"]) == (80, 39.5)  # of all 80 steps
    Watched(monkeypatch, 0.05).report(print_every=80)  # which is soon enough
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_a_bar_shows_loss_and_perplexity_on_eighty_columns(
    monkeypatch, capsys, terminal
):
    monkeypatch.setenv("COLUMNS", "80")
    records = Watched(monkeypatch, 0.6).report(print_every=80)
    frames = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", capsys.readouterr().out).split("\r")
    assert len(records) == 1
    assert f"{'━' * 15}  60% of epoch 1, 0:24 left, loss 175.0, perplexity 148.4" in [
        re.sub("[╸╺]", "━", frame) for frame in frames
    ]
    bars = [line for frame in frames for line in frame.split("\n") if "━" in line]
    assert max(map(len, bars)) < 80


def test_no_line_is_longer_than_a_hundred_columns(monkeypatch, capsys):
    task = Watched(monkeypatch, 1000.0)
    task.nll, task.n_batches = 700.0, 10**6
    task.report(print_every=2, n_steps=4)
    assert [len(line) for line in capsys.readouterr().out.splitlines()] == [100, 100]


def test_an_epoch_shorter_than_the_interval_has_a_report_at_its_end(tmp_path):
    _, reports, epochs = run(Counting(), tmp_path, max_epochs=2, print_every=6)
    assert len(epochs) == 2
    found = [(r["epoch"], r["step"], r["state"]) for r in reports]
    assert found == [(1, 5, 2.0), (2, 10, 2.0)]


@pytest.mark.parametrize(
    ("scores", "best_epoch"), [([1.0, 3.0, 2.0], 2), ([2.0] * 3, 1)]
)
def test_the_weights_that_are_kept_are_those_of_the_best_epoch(
    tmp_path, scores, best_epoch
):
    task = Counting(scores)
    best, _, _ = run(task, tmp_path, max_epochs=3)
    assert best == max(scores)
    assert task.weights_seen == [-2.5, -5.0, -7.5]  # five steps of half an epoch each
    assert task.weight() == -7.5
    RunFolder.open(tmp_path / "run").checkpoints.load_weights(task.model)
    assert task.weight() == -2.5 * best_epoch


@pytest.mark.parametrize(
    ("max_steps", "epochs", "steps"), [(3, 1, [3]), (5, 1, [5]), (7, 2, [5, 7])]
)
def test_training_ends_after_max_steps_and_is_evaluated(
    tmp_path, capsys, max_steps, epochs, steps
):
    task = Counting()
    _, _, recorded = run(task, tmp_path, max_epochs=9, max_steps=max_steps)
    assert task.weight() == -0.5 * max_steps
    assert [record["step"] for record in recorded] == steps
    assert len(task.weights_seen) == epochs
    assert f"Training ends: --max_steps {max_steps} reached." in capsys.readouterr().out


def test_training_ends_early_for_the_reason_that_the_task_gives(tmp_path, capsys):
    task = Counting(scores=[1.0, 2.0, 3.0], reasons=[None, "the jar is full"])
    best, _, epochs = run(task, tmp_path, max_epochs=3)
    assert len(epochs) == 2
    # The epoch that ends the training may still be the best.
    assert best == 2.0
    assert capsys.readouterr().out.splitlines()[-1] == "Training ends: the jar is full."


def test_no_epochs_have_no_score(tmp_path):
    task = Counting()
    assert fit(task, RunFolder.begin(tmp_path, {}), 0, 1).best_score is None
    assert task.weight() == 0.0 and task.weights_seen == []


def test_a_step_is_clipped_and_the_norm_before_it_reported(tmp_path):
    task = Counting()
    task.max_grad_norm = 0.75
    _, reports, _ = run(task, tmp_path, max_steps=2)
    assert reports[0]["grad_norm"] == 1.0
    assert task.weight() == pytest.approx(-0.5 * 0.75 * 2)
