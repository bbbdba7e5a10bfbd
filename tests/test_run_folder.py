"""A run's folder keeps what it was given, and refuses what it cannot keep or use."""

import json
import os
from pathlib import Path

import keras
import numpy as np
import pytest
from absl import flags

from dsc.run_folder import RunError, RunFolder

CONFIG = {"rnn_size": 8, "lamda": 0.1, "recipe": None, "restart": False, "EOS": "ñ"}
NO_SPACE = OSError(28, "No space left on device")


def small_model(units=3, layers=1):
    inputs = x = keras.Input((2,))
    for _ in range(layers):
        x = keras.layers.Dense(units, kernel_initializer="random_normal")(x)
    return keras.Model(inputs, x)


@pytest.fixture
def run(tmp_path):
    """A run with weights."""
    run = RunFolder.create(tmp_path / "run", CONFIG)
    run.save_weights(small_model())
    return run


def weights_file(run):
    return run.path / "best.weights.h5"


def refusal(error):
    """The message of a `RunError`: one line."""
    message = str(error.value)
    assert "\n" not in message
    return message


# Beginning


@pytest.mark.parametrize("path", ["run", "a/b/run", "."])
def test_a_run_begins_in_a_new_or_an_empty_folder(tmp_path, path):
    run = RunFolder.create(tmp_path / path, CONFIG)
    assert run.path == tmp_path / path and run.config == CONFIG
    assert [file.name for file in run.path.iterdir()] == ["config.json"]
    assert json.loads((run.path / "config.json").read_text()) == CONFIG


def test_a_folder_that_holds_a_run_is_refused_and_left_alone(run):
    before = {file.name: file.read_bytes() for file in run.path.iterdir()}
    with pytest.raises(RunError) as error:
        RunFolder.create(run.path, {"rnn_size": 9})
    message = refusal(error)
    assert message.startswith(f"--train_dir: {run.path} holds a run already;")
    assert f"--load_model {run.path}" in message and "--restart" in message
    assert {file.name: file.read_bytes() for file in run.path.iterdir()} == before


def test_restart_moves_the_old_run_aside_whole(run, capsys):
    before = {file.name: file.read_bytes() for file in run.path.iterdir()}
    RunFolder.create(run.path, {"rnn_size": 9}, restart=True)
    assert [file.name for file in run.path.iterdir()] == ["config.json"]
    (aside,) = (p for p in run.path.parent.iterdir() if p != run.path)
    assert aside.name.startswith("run.")
    assert {file.name: file.read_bytes() for file in aside.iterdir()} == before
    assert str(aside) in capsys.readouterr().out
    assert RunFolder.open(aside).config == CONFIG


def test_restart_in_a_new_folder_moves_nothing(tmp_path, capsys):
    RunFolder.create(tmp_path / "run", CONFIG, restart=True)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert capsys.readouterr().out == ""


def test_restarts_one_after_another_each_move_a_run_to_a_folder_of_its_own(run):
    for size in (9, 10):
        RunFolder.create(run.path, {"rnn_size": size}, restart=True)
    configs = [path / "config.json" for path in run.path.parent.iterdir()]
    sizes = [json.loads(config.read_text())["rnn_size"] for config in configs]
    assert sorted(sizes) == [8, 9, 10]


@pytest.mark.parametrize("path", ["file", "file/run"])
def test_a_file_in_the_way_is_refused(tmp_path, path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RunError) as error:
        RunFolder.create(tmp_path / path, CONFIG)
    assert f"--train_dir: cannot write to {tmp_path / path} (" in refusal(error)
    assert "give another folder" in refusal(error)
    assert (tmp_path / "file").read_text() == "mine"


# Opening


def test_an_opened_run_has_the_config_it_was_created_with(run):
    opened = RunFolder.open(str(run.path))
    assert opened.path == run.path
    assert opened.config == CONFIG  # types too: 8 is no 8.0, None no "None"
    assert {k: type(v) for k, v in opened.config.items()} == {
        k: type(v) for k, v in CONFIG.items()
    }


def test_a_folder_without_a_run_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "gone"):
        with pytest.raises(RunError) as error:
            RunFolder.open(path)
        assert f"--load_model: {path} holds no run" in refusal(error)
        assert "give the --train_dir of a training" in refusal(error)


def test_a_run_without_weights_is_refused(tmp_path):
    RunFolder.create(tmp_path, CONFIG)
    with pytest.raises(RunError) as error:
        RunFolder.open(tmp_path)
    assert f"--load_model: the run in {tmp_path} has no weights yet" in refusal(error)
    assert "finish its first epoch" in refusal(error)


@pytest.mark.parametrize("content", [b"", b"{", b"7", b"null", b"[1]", b"\xff\xfe{}"])
def test_a_damaged_config_is_refused(run, content):
    (run.path / "config.json").write_bytes(content)
    with pytest.raises(RunError) as error:
        RunFolder.open(run.path)
    assert "config.json cannot be read" in refusal(error)
    assert "must be trained again" in refusal(error)


# Flags


def parsed(*arguments):
    values = flags.FlagValues()
    flags.DEFINE_integer("rnn_size", 650, "", flag_values=values)
    flags.DEFINE_float("lamda", 1.0, "", flag_values=values)
    flags.DEFINE_string("recipe", "corrected", "", flag_values=values)
    flags.DEFINE_integer("n_actions", 5, "", flag_values=values)
    values(["program", *arguments])
    return values


@pytest.mark.parametrize("arguments", [(), ("--rnn_size=8",)])
def test_flags_take_the_values_of_the_run_and_the_others_keep_theirs(run, arguments):
    values = parsed(*arguments)
    run.restore_flags(values, ("rnn_size", "recipe"))
    assert (values.rnn_size, values.recipe) == (8, None)
    assert (values.lamda, values.n_actions) == (1.0, 5)


def test_a_flag_that_contradicts_the_run_is_refused(run):
    with pytest.raises(RunError) as error:
        run.restore_flags(parsed("--rnn_size=9"), ("lamda", "rnn_size"))
    message = refusal(error)
    assert message.startswith("--rnn_size 9 does not fit the model in ")
    assert "which has 8; leave the flag out" in message


def test_a_run_that_lacks_a_flag_is_refused(run):
    with pytest.raises(RunError, match="does not say the model's n_actions"):
        run.restore_flags(parsed(), ("rnn_size", "n_actions"))


# Contents


def test_records_are_kept_as_one_json_object_a_line(run):
    records = [{"step": 5, "loss": 1 / 3}, {"epoch": 1, "actions": [0.25, 0.75]}]
    for record in records:
        run.log(record)
    lines = (run.path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == records


@pytest.mark.parametrize(
    "words", [("the", "<unk>", "ñandú", "\u2028", "#"), ("a",), ()]
)
def test_the_vocabulary_comes_back_as_it_was(run, words):
    run.write_vocabulary(words)
    assert RunFolder.open(run.path).read_vocabulary() == words


@pytest.mark.parametrize("content", [None, b"caf\xe9\n"])
def test_a_vocabulary_that_cannot_be_read_is_named(run, content):
    if content:
        (run.path / "vocabulary.txt").write_bytes(content)
    with pytest.raises(RunError, match=r"--load_model: .*vocabulary\.txt cannot be"):
        run.read_vocabulary()


# Weights


def assert_weights(model, expected):
    for weight, values in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_array_equal(weight, values)


def test_weights_come_back_bit_for_bit_in_another_model(tmp_path):
    model, other = small_model(layers=2), small_model(layers=2)
    RunFolder.create(tmp_path, CONFIG).save_weights(model)
    assert not np.array_equal(model.get_weights()[0], other.get_weights()[0])
    RunFolder.open(tmp_path).load_weights(other)
    assert_weights(other, model.get_weights())
    names = sorted(file.name for file in tmp_path.iterdir())
    assert names == ["best.weights.h5", "config.json"]


@pytest.mark.parametrize("other", [{"units": 4}, {"layers": 2}])
def test_weights_of_another_size_are_refused(run, other):
    with pytest.raises(RunError) as error:
        run.load_weights(small_model(**other))
    assert f"{weights_file(run)} does not fit this model" in refusal(error)


def test_damaged_weights_are_refused_wherever_the_file_ends(run):
    whole = weights_file(run).read_bytes()
    model = small_model()
    contents = [whole[:n] for n in range(0, len(whole), len(whole) // 23)]
    for content in (*contents, b"not HDF5\n" * 500):
        weights_file(run).write_bytes(content)
        with pytest.raises(RunError) as error:
            run.load_weights(model)
        assert "or is damaged" in refusal(error)


def test_weights_with_a_flipped_bit_in_the_head_are_refused_or_harmless(run):
    whole = bytearray(weights_file(run).read_bytes())
    model = small_model()
    run.load_weights(model)
    expected = model.get_weights()
    for place in range(48):
        damaged = whole.copy()
        damaged[place] ^= 1 << place % 8
        weights_file(run).write_bytes(damaged)
        try:
            run.load_weights(model)
        except RunError:
            continue
        assert_weights(model, expected)


def failing(error):
    def fail(*_, **__):
        raise error

    return fail


def half_written(error):
    """Stands for `Model.save_weights` on a disk that fills up."""

    def save_weights(self, path):
        Path(path).write_bytes(b"\x89HDF")
        raise error

    return save_weights


@pytest.mark.parametrize(
    ("owner", "name", "replacement"),
    [
        (os, "replace", failing(NO_SPACE)),
        (keras.Model, "save_weights", half_written(NO_SPACE)),
        (
            keras.Model,
            "save_weights",
            # What h5py raises, now and then, when the disk is full.
            half_written(RuntimeError("Set slist enabled failed (file write failed)")),
        ),
        (
            keras.Model,
            "save_weights",
            # The other thing that it raises then.
            half_written(OSError("Unable to extend file (time = Mon Nov 23\n, errno")),
        ),
    ],
    ids=["rename", "OSError", "RuntimeError", "h5py's OSError"],
)
def test_a_failing_save_keeps_the_old_weights_and_leaves_nothing_else(
    run, monkeypatch, owner, name, replacement
):
    old = small_model()
    run.load_weights(old)
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, replacement)
        with pytest.raises(RunError) as error:
            run.save_weights(small_model())
        message = refusal(error)
    assert message.startswith(f"--train_dir: cannot write to {run.path} (")
    assert "free space or give another folder" in message
    assert sorted(p.name for p in run.path.iterdir()) == [
        "best.weights.h5",
        "config.json",
    ]
    again = small_model()
    run.load_weights(again)
    assert_weights(again, old.get_weights())


def test_a_record_that_cannot_be_written_is_a_clear_error(run):
    (run.path / "metrics.jsonl").mkdir()  # a folder in the way
    with pytest.raises(RunError, match="--train_dir: cannot write to"):
        run.log({"step": 1})
