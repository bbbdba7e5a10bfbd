"""However a training ends, the same command resumes it to the same result."""

import contextlib
import os
import signal

import faults
import keras
import numpy as np
import pytest
import tensorflow as tf
from small import contents

from dsc.cli.errors import RunError
from dsc.cli.program import Output
from dsc.cli.signals import Interrupted
from dsc.distributed.base import Distribution
from dsc.runs.checkpoints import Checkpoints
from dsc.runs.folder import RunFolder
from dsc.training.loop import fit
from dsc.training.task import Task


class Small(Task):
    """A task with every part of a state; its third epoch is not the best."""

    unit = "beans"
    batch_units = 1
    n_batches = 3
    schedule_fields = ("best", "seen")

    def __init__(self):
        inputs = keras.Input((2,))
        layer = keras.layers.Dense(3, kernel_initializer="ones")
        self.model = keras.Model(inputs, layer(inputs))
        self.optimizer = keras.optimizers.Adam(0.1)
        self.best, self.seen = None, (0, None)

    def batch(self, epoch, i):
        return (np.float32([[epoch, i]]),)

    def initial_state(self):
        return (tf.zeros((1, 3)), {"h": tf.ones(2, tf.bfloat16)})

    def loss(self, step, batch, state):
        h, other = state
        h = tf.tanh(h + self.model(batch[0]))
        loss = tf.reduce_mean(h * tf.sin(tf.cast(step, tf.float32)))
        return loss, (h, {"h": other["h"] * 1.5}), {"h": h, "seen_step": step}

    def describe(self, metrics):
        return f"loss {metrics['loss']:.3f}"

    def evaluate(self):
        score = -abs(float(np.sum(self.model.get_weights()[0])) - 5.24)
        return {"score": score}, score

    def end_epoch(self, score):
        self.best = score if self.best is None else max(self.best, score)
        self.seen = (self.seen[0] + 1, score)
        self.optimizer.learning_rate = float(self.optimizer.learning_rate) * 0.5
        return "all seen" if self.seen[0] == 4 else None


# These trainings are many, and of nine steps.
pytestmark = pytest.mark.usefixtures("eagerly")


def train(path, task=None, max_epochs=3, max_steps=None, save_every=0.0):
    """Trains as a process would; returns the task."""
    task = task or Small()
    run = RunFolder.begin(path, {"max_epochs": max_epochs, "max_steps": max_steps})
    try:
        fit(task, run, max_epochs, 2, max_steps, save_every)
    finally:
        run.close()  # as the end of a process does
    return task


def outcome(path, task):
    """Weights, optimizer, best weights, schedule and metrics, which must be equal."""
    best = Small().model
    RunFolder.open(path).checkpoints.load_weights(best)
    arrays = (*task.model.weights, *task.optimizer.variables, *best.weights)
    return (
        [keras.ops.convert_to_numpy(a).tobytes() for a in arrays],
        task.schedule_state(),
        (path / "metrics.jsonl").read_bytes(),
    )


@pytest.fixture(scope="module")
def expected(tmp_path_factory, eagerly):
    path = tmp_path_factory.mktemp("expected")
    return outcome(path, train(path))


def n_writes(tmp_path, monkeypatch):
    with faults.at_write(monkeypatch, None, None) as attempts:
        train(tmp_path / "counted")
    return len(attempts)


def test_the_trainings_below_have_something_to_lose(tmp_path, expected):
    task = train(tmp_path)
    assert outcome(tmp_path, task) == expected
    best = RunFolder.open(tmp_path).checkpoints.best_weights()
    assert best.name.startswith("best-000002-")  # so later epochs must leave it
    assert expected[2].count(b"\n") == 6


# Every so many writes; a save makes seven.
STRIDES = (23, pytest.param(1, marks=pytest.mark.slow))


def train_until_killed(path, monkeypatch, n_writes):
    killed = faults.Killed()
    with faults.at_write(monkeypatch, n_writes, killed), pytest.raises(faults.Killed):
        train(path)


@pytest.mark.parametrize("save_every", [0.0, 1e9])
@pytest.mark.parametrize("stride", STRIDES)
def test_killed_at_any_write_it_ends_the_same(
    tmp_path, monkeypatch, expected, save_every, stride
):
    total = n_writes(tmp_path, monkeypatch)
    assert total > 100
    for n in range(0, total, stride):
        path = tmp_path / str(n)
        train_until_killed(path, monkeypatch, n)
        assert outcome(path, train(path, save_every=save_every)) == expected, n


@pytest.mark.parametrize("stride", STRIDES)
def test_on_a_full_disk_one_sentence_is_said_and_it_ends_the_same(
    tmp_path, monkeypatch, expected, stride
):
    for n in range(1, n_writes(tmp_path, monkeypatch), stride):
        path = tmp_path / str(n)
        with (
            faults.at_write(monkeypatch, n, faults.FULL),
            pytest.raises(RunError, match="No space left") as error,
        ):
            train(path)
        assert str(error.value).startswith(f"--train_dir: cannot write to {path} (")
        assert "\n" not in str(error.value)
        assert outcome(path, train(path)) == expected, n


def test_many_deaths_in_one_run(tmp_path, monkeypatch, expected):
    for n in (40, 9, 33, 60, 21, 2, 13):
        train_until_killed(tmp_path, monkeypatch, n)
    assert outcome(tmp_path, train(tmp_path)) == expected


class Ending(Small):
    """Gets a signal in one of its steps, or in its evaluation."""

    def __init__(self, at, number):
        super().__init__()
        self.at = at
        self.number = number
        self.evaluations = 0

    def batch(self, epoch, i):
        if (epoch, i) == self.at:
            os.kill(os.getpid(), self.number)
        return super().batch(epoch, i)

    def evaluate(self):
        self.evaluations += 1
        if self.at == f"evaluation {self.evaluations}":
            os.kill(os.getpid(), self.number)
        return super().evaluate()


@pytest.mark.parametrize(
    ("at", "number"),
    [
        ((0, 0), signal.SIGINT),
        ((1, 1), signal.SIGTERM),
        ((2, 2), signal.SIGHUP),
        ("evaluation 1", signal.SIGUSR1),
        ("evaluation 3", signal.SIGXCPU),
    ],
)
def test_a_signal_ends_it_with_its_code_and_nothing_is_done_twice(
    tmp_path, signals, expected, at, number
):
    with pytest.raises(Interrupted) as ended:
        train(tmp_path, Ending(at, number), save_every=1e9)
    assert ended.value.code == 128 + number
    task = Ending(None, number)
    steps = []
    task.loss = lambda step, *rest: (
        steps.append(int(step)) or Small.loss(task, step, *rest)
    )
    train(tmp_path, task, save_every=1e9)
    assert outcome(tmp_path, task) == expected
    # The step in which the signal came was brought to an end.
    epoch, i = at if isinstance(at, tuple) else (int(at[-1]) - 1, 2)
    assert steps == list(range(3 * epoch + i + 1, 9))


def test_an_output_that_breaks_ends_it_and_nothing_is_lost(tmp_path, expected):
    """As that of a terminal that is closed."""
    with (
        open("/dev/full", "w") as full,
        contextlib.redirect_stdout(Output(full)),
        pytest.raises(Interrupted),
    ):
        train(tmp_path, save_every=1e9)
    (state,) = (tmp_path / "last").iterdir()
    assert state.name.startswith("state-000000-000000000002-")
    assert outcome(tmp_path, train(tmp_path)) == expected


def test_a_signal_during_a_save_waits_for_its_end(tmp_path, signals, expected):
    class Slow(Small):
        def schedule_state(self):
            if int(self.optimizer.iterations) == 5:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().schedule_state()

    with pytest.raises(Interrupted):
        train(tmp_path, Slow())
    assert outcome(tmp_path, train(tmp_path)) == expected


def test_a_finished_run_is_not_trained_again(tmp_path, expected, capsys):
    train(tmp_path)
    before = outcome(tmp_path, train(tmp_path, Ending((3, 0), signal.SIGKILL)))
    assert before == expected
    assert f"The run in {tmp_path} is finished." in capsys.readouterr().out


def states(path):
    return sorted((path / "last").iterdir())


def damage(content, how, rng):
    """Truncates, empties, or flips a bit."""
    if how == "emptied":
        return b""
    place = int(rng.integers(len(content)))
    if how == "truncated":
        return content[:place]
    flipped = bytes([content[place] ^ 1 << int(rng.integers(8))])
    return content[:place] + flipped + content[place + 1 :]


@pytest.mark.parametrize("how", ["truncated", "emptied", "flipped"])
def test_a_damaged_newest_state_is_passed_over_for_the_one_before(
    tmp_path, monkeypatch, expected, rng, how, capsys
):
    train_until_killed(tmp_path, monkeypatch, 60)
    *_, before, newest = states(tmp_path)
    whole = newest.read_bytes()
    for _ in range(50):
        newest.write_bytes(damage(whole, how, rng))
        assert next(Checkpoints(tmp_path).states())[0] == before
    task = train(tmp_path)
    out = capsys.readouterr().out
    assert f"Skipping the state {newest}: its checksum is wrong." in out
    assert f", from {before}." in out
    assert outcome(tmp_path, task) == expected
    assert newest not in states(tmp_path) or newest.stat().st_size


@pytest.mark.parametrize("what", ["states", "best", "metrics"])
def test_a_run_without_a_usable_state_is_left_as_it_is(tmp_path, what):
    train(tmp_path)
    damaged = {
        "states": states(tmp_path),
        "best": [RunFolder.open(tmp_path).checkpoints.best_weights()],
        "metrics": [tmp_path / "metrics.jsonl"],
    }
    for path in damaged[what]:
        path.write_bytes(b"x" + path.read_bytes()[1:])
    before = contents(tmp_path)
    with pytest.raises(RunError, match=r"No usable checkpoint .* --restart"):
        train(tmp_path)
    assert contents(tmp_path) == before


class WithoutTheOther(Distribution):
    """A chief whose only other worker has lost its states."""

    n_workers = 2

    def all_gather_object(self, value):
        return [value, ["", 0]]


def test_a_refused_resume_leaves_good_states_as_they_are(tmp_path, expected):
    train(tmp_path)
    before = contents(tmp_path)
    task = Small()
    task.distribution = WithoutTheOther()
    with pytest.raises(RunError, match=r"worker 1 has 0.*Restore the run folders"):
        train(tmp_path, task)
    assert contents(tmp_path) == before
    assert outcome(tmp_path, train(tmp_path)) == expected


def test_damage_at_the_end_of_the_metrics_costs_the_states_after_it(tmp_path, expected):
    train(tmp_path)
    (tmp_path / "metrics.jsonl").write_bytes(expected[2][:-9])
    assert outcome(tmp_path, train(tmp_path)) == expected


@pytest.mark.parametrize(
    ("first", "longer"),
    [
        ({"max_epochs": 2}, {}),
        ({"max_steps": 6}, {}),
        ({"max_steps": 5}, {}),
        ({"max_steps": 5}, {"max_steps": 9}),
        ({"max_steps": 2, "max_epochs": 1}, {"max_steps": 20}),
    ],
)
def test_a_run_that_is_made_longer_is_as_if_it_had_been_so_at_once(
    tmp_path, expected, first, longer
):
    train(tmp_path, **first)
    assert outcome(tmp_path, train(tmp_path, **longer)) == expected


def test_what_the_task_ended_stays_ended(tmp_path):
    once = outcome(tmp_path, train(tmp_path, max_epochs=7))
    assert once[1]["seen"][0] == 4
    assert outcome(tmp_path, train(tmp_path, max_epochs=9)) == once


class Diverging(Small):
    """Its loss or its gradient is NaN in the sixth step."""

    def __init__(self, what):
        super().__init__()
        self.what = what

    def loss(self, step, batch, state):
        loss, state, metrics = super().loss(step, batch, state)
        if int(step) == 5:
            weight = self.model.trainable_variables[0]
            zero = tf.reduce_sum(weight) * 0.0
            loss += np.nan if self.what == "loss" else tf.sqrt(zero)
        return loss, state, metrics


@pytest.mark.parametrize("save_every", [0.0, 1e9])
@pytest.mark.parametrize("what", ["loss", "gradient norm"])
def test_training_that_diverges_stops_and_saves_nothing_of_it(
    tmp_path, expected, what, save_every
):
    with pytest.raises(RunError) as error:
        train(tmp_path, Diverging(what), save_every=save_every)
    message = str(error.value)
    assert message.startswith(f"The {what} of step 6 is nan: training has diverged")
    assert str(states(tmp_path)[-1]) in message
    assert "--restart and a lower --learning_rate or --rl_weight" in message
    # All that was kept is good: another task goes on from there.
    assert outcome(tmp_path, train(tmp_path)) == expected


class Blind(Small):
    """Has no score in the first epoch."""

    def evaluate(self):
        scores, score = super().evaluate()
        return scores, np.nan if self.seen[0] == 0 else score


def test_a_score_that_is_no_number_neither_becomes_nor_bars_the_best(tmp_path):
    train(tmp_path, Blind())
    best = RunFolder.open(tmp_path).checkpoints.best_weights()
    assert best.name.startswith("best-000002-")
