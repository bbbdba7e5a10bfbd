"""Run folders: starting, resuming, restarting, loading; what is refused."""

import contextlib
import errno
import fcntl
import json
import math
import multiprocessing
import os
from pathlib import Path
from unittest import mock

import pytest
from absl import flags
from small import contents, metrics, refused

from dsc.cli.errors import RunError
from dsc.runs.folder import RunFolder, read_config, read_result

CONFIG = {"rnn_size": 8, "lamda": 0.1, "recipe": None, "restart": False, "EOS": "ñ"}
FILES = ["config.json", "lock"]


class Weights:
    """Stands for a model: all that is asked of it here is to write a file."""

    def save_weights(self, path):
        path.write_bytes(b"weights")


@pytest.fixture
def run(tmp_path):
    """A run with weights."""
    run = RunFolder.begin(tmp_path / "run", CONFIG)
    run.checkpoints.save_weights(Weights(), 1, 10)
    return run


# Beginning


@pytest.mark.parametrize("path", ["run", "a/b/run", "."])
def test_a_run_begins_in_a_new_or_an_empty_folder(tmp_path, path):
    run = RunFolder.begin(tmp_path / path, CONFIG)
    assert run.path == tmp_path / path
    assert sorted(file.name for file in run.path.iterdir()) == FILES
    assert read_config(run.path) == run.config
    # Types too: 8 is no 8.0, None no "None".
    assert repr(read_config(run.path)["flags"]) == repr(CONFIG)


def again(run, data=None, about=None, **changes):
    """The same folder for another process, after this one has ended."""
    run.close()
    old = run.config
    flags = {**old["flags"], **changes}
    return RunFolder.begin(run.path, flags, data or old["data"], about or old["about"])


def test_the_same_command_finds_all_that_was_there(run):
    run.log({"step": 1})
    before = contents(run.path)
    again(run, restart=True, save_every=3.0, train_dir="elsewhere", data_dir="there")
    del before["config.json"]
    assert before.items() <= contents(run.path).items()


def test_another_command_is_refused_with_every_difference_and_changes_nothing(run):
    before = contents(run.path)
    with refused(
        f"--train_dir: {run.path} holds another run, with --rnn_size 8 (now 9), --seed "
        "None (now 4), other data than d contains now, trained with None (now JAX); ",
    ):
        other = {"data": {"train": "12"}, "about": {"trained with": "JAX"}}
        again(run, rnn_size=9, seed=4, data_dir="d", **other)
    assert contents(run.path) == before


@pytest.mark.parametrize(
    ("name", "old", "new", "allowed"),
    [
        ("max_epochs", 3, 4, True),
        ("max_epochs", 3, 2, False),
        ("max_steps", 3, None, True),
        ("max_steps", 3, 5, True),
        ("max_steps", None, 5, False),
        ("max_steps", "x", 5, False),
        ("seed", 3, 4, False),
    ],
)
def test_a_run_may_become_longer_only(tmp_path, name, old, new, allowed):
    run = RunFolder.begin(tmp_path, {name: old})
    said = f"--{name} {old} (now {new})"
    with contextlib.nullcontext() if allowed else refused(said):
        again(run, **{name: new})
    assert read_config(tmp_path)["flags"] == {name: new if allowed else old}


def test_other_versions_go_on_with_a_run_and_that_is_said(run, capsys):
    about = {"versions": {"numpy": "2.1"}, "git_commit": "a"}
    again(run, about=about).close()
    said = capsys.readouterr().out
    assert "started with other versions and is resumed with numpy 2.1" in said
    again(run, about={**about, "git_commit": "b"}).close()
    assert capsys.readouterr().out == ""
    newer = {"versions": {"numpy": "2.2"}, "git_commit": "b"}
    assert again(run, about=newer).config["about"] == newer
    assert "with numpy 2.1 and is resumed with numpy 2.2" in capsys.readouterr().out
    assert read_config(run.path)["about"] == newer


def test_what_a_killed_process_left_aside_is_removed_and_other_files_stay(run):
    leftovers = {
        "aside.123.config.json",
        "best/aside.45.best-000001-000000000010.weights.h5",
        "last/aside.6.state-000001-000000000010.npz",
    }
    foreign = {"aside.123.mine", "aside.txt", "aside.notes/a", "best/aside.7.txt"}
    foreign |= {"best/best-of.weights.h5", "last/state-of-mind.npz"}
    for name in leftovers | foreign:
        path = run.path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"half")
    for step in range(5):
        again(run).checkpoints.save_state(1, step, {})
    found = contents(run.path).keys()
    assert foreign <= found and not leftovers & found


@pytest.mark.parametrize("name", ["metrics.jsonl", "last/state"])
def test_a_run_without_its_config_is_not_gone_on_with(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"mine")
    with pytest.raises(RunError, match=r"holds no run .no config\.json.*--restart"):
        RunFolder.begin(tmp_path, CONFIG)
    assert (tmp_path / name).read_bytes() == b"mine"


def test_a_run_of_before_a_flag_is_resumed_and_loaded_with_its_default(tmp_path):
    old = {"tie_weights": False, "zoneout": 0.0, "level": "word", "rnn_size": 8}
    for name in ("tie_weights", "zoneout", "level"):
        before = {key: value for key, value in old.items() if key != name}
        run = RunFolder.begin(tmp_path / name, before)
        with refused(f"--{name} {old[name]} (now 1)"):
            again(run, **{**old, name: 1})
        assert again(run, **old).config["flags"] == old
    values = flags.FlagValues()
    flags.DEFINE_float("zoneout", 0.5, "", flag_values=values)
    values([""])
    RunFolder(tmp_path, {"flags": {}}).restore_flags(values)
    assert values.zoneout == 0.0


# The lock


def hold(path, ready, release):
    run = RunFolder.begin(path, CONFIG)
    ready.set()
    release.wait()
    del run  # it holds the lock


def test_a_second_process_is_refused_until_the_first_has_been_killed(tmp_path):
    context = multiprocessing.get_context("fork")
    ready, release = context.Event(), context.Event()
    process = context.Process(target=hold, args=(tmp_path, ready, release), daemon=True)
    process.start()
    assert ready.wait(20)
    for restart in (False, True):
        with refused("another process is training in"):
            RunFolder.begin(tmp_path, CONFIG, restart=restart)
    process.kill()
    process.join()
    RunFolder.begin(tmp_path, CONFIG)


# Restarting


def test_restart_moves_the_old_run_aside_whole(run, capsys):
    run.close()
    for n, old in enumerate((CONFIG, {"rnn_size": 9}), 1):
        before = contents(run.path)
        RunFolder.begin(run.path, {"rnn_size": 9}, restart=True).close()
        assert sorted(file.name for file in run.path.iterdir()) == FILES
        aside = run.path.with_name(f"run.{n}")
        assert contents(aside) == before
        assert read_config(aside)["flags"] == old
        assert str(aside) in capsys.readouterr().out


@pytest.mark.parametrize(
    "name", ["train.txt", "last/mine.npz", "aside.1.mine", "best/a"]
)
def test_restart_leaves_a_folder_with_files_of_others_as_it_is(run, name):
    (run.path / name).parent.mkdir(exist_ok=True)
    (run.path / name).write_text("mine")
    before = contents(run.path.parent)
    run.close()
    with refused(f"{run.path} also contains {name}, which"):
        RunFolder.begin(run.path, CONFIG, restart=True)
    assert contents(run.path.parent) == before


@pytest.mark.parametrize("path", [".", "..", "../../run"])
def test_restart_leaves_the_working_directory_where_it_is(run, monkeypatch, path):
    run.close()
    inside = run.path if path == "." else run.checkpoints.best
    monkeypatch.chdir(inside)
    before = contents(run.path.parent)
    with refused(f"--restart: {path} also contains the working directory"):
        RunFolder.begin(path, CONFIG, restart=True)
    assert contents(run.path.parent) == before


def test_restart_in_a_mount_point_moves_the_run_within_it(run, monkeypatch):
    rename = Path.rename

    def cannot(path, target):
        if path == run.path:
            raise OSError(errno.EBUSY, "cannot be renamed")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", cannot)
    for n in (1, 2):
        before = contents(run.path)
        run.close()
        run = RunFolder.begin(run.path, {"rnn_size": n}, restart=True)
        aside = contents(run.path / f"run.{n}")
        assert len(aside) == (3 if n == 1 else 2)  # the second run has no weights yet
        assert aside.items() <= before.items()
        names = {path.name for path in run.path.iterdir()}
        assert names == {*FILES, *(f"run.{i}" for i in range(1, n + 1))}


def test_restarting_through_a_link_moves_the_run_and_keeps_the_link(tmp_path):
    (tmp_path / "store").mkdir()
    link = tmp_path / "link"
    link.symlink_to("store")
    RunFolder.begin(link, {"seed": 1}).close()
    RunFolder.begin(link, {"seed": 2}, restart=True).close()
    assert link.is_symlink()
    for name, seed in (("store.1", 1), ("store", 2)):
        assert read_config(tmp_path / name)["flags"] == {"seed": seed}


@pytest.mark.parametrize("path", ["file", "file/run"])
def test_a_file_in_the_way_is_refused(tmp_path, path):
    (tmp_path / "file").write_text("mine")
    with refused(
        f"--train_dir: cannot write to {tmp_path / path} (", "give another folder"
    ):
        RunFolder.begin(tmp_path / path, CONFIG)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("name", ["", "last", "lock"])
def test_a_dangling_link_is_named(tmp_path, name):
    path = tmp_path / "run" / name
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(tmp_path / "gone" / "there")
    with refused(
        f"--train_dir: cannot write to {tmp_path / 'run'} ({path} is a link to "
        f"{tmp_path / 'gone' / 'there'}, which does not exist); create that or give "
        "another folder."
    ):
        RunFolder.begin(tmp_path / "run", CONFIG).checkpoints.save_state(1, 1, {})


def test_a_file_system_without_locks_is_said(tmp_path, monkeypatch):
    error = OSError(errno.ENOLCK, "No")
    monkeypatch.setattr(fcntl, "flock", mock.Mock(side_effect=error))
    with refused("does not support locks: give another folder"):
        RunFolder.begin(tmp_path, CONFIG)


def test_a_file_that_is_a_mount_point_is_named(tmp_path, monkeypatch):
    path = tmp_path / "config.json"
    error = OSError(errno.EBUSY, "Device or resource busy", "aside", None, path)
    monkeypatch.setattr(os, "replace", mock.Mock(side_effect=error))
    with refused(f"; {path} is a mount point: "):
        RunFolder.begin(tmp_path, CONFIG)


# Opening


def test_the_config_of_an_older_version_is_read(run):
    older = {**CONFIG, "data": {"train": "d"}, "about": {"corpus": "x"}}
    (run.path / "config.json").write_text(json.dumps(older))
    assert RunFolder.open(run.path).config == {
        "flags": CONFIG,
        "data": {"train": "d"},
        "about": {"corpus": "x", "trained with": "TensorFlow"},
    }
    (run.path / "config.json").write_text(json.dumps({**older, "trained with": "JAX"}))
    assert read_config(run.path)["about"]["trained with"] == "JAX"


def test_a_folder_without_a_run_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "gone"):
        with refused(f"--load_model: {path} holds no run", "give the folder of one"):
            RunFolder.open(path)


def test_a_run_without_weights_is_refused(tmp_path):
    RunFolder.begin(tmp_path, CONFIG)
    with refused(f"The run in {tmp_path} has no weights (none in"):
        RunFolder.open(tmp_path)


@pytest.mark.parametrize(
    "content",
    [b"[" * 99999, b"", b"7", b"[1]", b"{", b"\0", b"\xff\xfe{}", b'{"flags": 1}'],
)
def test_a_damaged_config_is_refused(run, content):
    (run.path / "config.json").write_bytes(content)
    with refused("config.json cannot be read", "train the run again"):
        RunFolder.open(run.path)


# Flags


def parsed(*arguments):
    values = flags.FlagValues()
    flags.DEFINE_integer("rnn_size", 8, "", 1, 1000, flag_values=values)
    flags.DEFINE_float("lamda", 1.0, "", flag_values=values)
    flags.DEFINE_string("recipe", "corrected", "", flag_values=values)
    flags.DEFINE_integer("seed", 1, "", flag_values=values)
    flags.DEFINE_float("dropout", 0.5, "", flag_values=values)
    flags.DEFINE_string("data_dir", "here", "", flag_values=values)
    values(["program", *arguments])
    return values


@pytest.mark.parametrize("arguments", [(), ("--rnn_size=7", "--seed=9")])
def test_flags_take_the_values_of_the_run_and_the_others_keep_theirs(run, arguments):
    values = parsed(*arguments)
    saved = {**CONFIG, "rnn_size": 7, "seed": 7, "dropout": 0.1}
    RunFolder(run.path, {**run.config, "flags": saved}).restore_flags(values)
    assert (values.rnn_size, values.lamda, values.recipe) == (7, 0.1, None)
    assert values.seed == (9 if arguments else 7)  # what the user gives comes first
    assert values.dropout == 0.5  # which a trained model does not need


@pytest.mark.parametrize(
    ("arguments", "saved", "said"),
    [
        (("--rnn_size=9",), CONFIG, "which has 8; leave the flag out"),
        ((), {}, "has no value for --"),
        ((), {**CONFIG, "rnn_size": -1}, "has -1 for rnn_size"),
        ((), {**CONFIG, "rnn_size": "many"}, "has 'many' for rnn_size"),
        ((), {**CONFIG, "rnn_size": [8]}, "has [8] for rnn_size"),
    ],
    ids=str,
)
def test_a_run_that_does_not_fit_the_flags_is_refused(tmp_path, arguments, saved, said):
    with refused(said):
        RunFolder(tmp_path, {"flags": saved}).restore_flags(parsed(*arguments))


@pytest.mark.parametrize(
    ("data", "arguments", "allowed"),
    [
        ({"train": "1"}, (), True),
        ({"train": "2"}, (), False),
        (None, (), False),  # they are gone
        ({"train": "2"}, ("--data_dir=other",), True),
        ({"train": "2"}, ("--rnn_size=8",), False),
    ],
)
def test_a_run_has_its_own_data_unless_the_user_asks_for_others(
    tmp_path, data, arguments, allowed
):
    run = RunFolder(tmp_path, {"data": {"train": "1"}})
    said = f"{tmp_path} was trained on data that here does not"
    with contextlib.nullcontext() if allowed else refused(said):
        run.check_data(data, parsed(*arguments), "data_dir")


# Contents


def test_the_result_is_there_until_the_run_is_resumed(run):
    with pytest.raises(RunError, match=r"result.json cannot be read .*; repeat the"):
        read_result(run.path)
    run.finish({"scores": {"test perplexity": math.inf}, "epochs": 3})
    kept = {"scores": {"test perplexity": None}, "epochs": 3}
    assert read_result(run.path) == kept
    again(run)
    assert not (run.path / "result.json").exists()


@pytest.mark.parametrize("content", ["", "[1]", "{}", '{"scores": 3}', "[" * 99999])
def test_a_damaged_result_is_refused(run, content):
    (run.path / "result.json").write_text(content)
    with pytest.raises(RunError, match=r"result\.json cannot be read"):
        read_result(run.path)


def test_metrics_are_cut_back_to_a_mark_and_go_on_from_there(run):
    run.log({"step": 1})
    mark = run.metrics_mark()
    run.log({"step": 2})
    other = again(run)
    other.rewind_metrics(mark)
    other.log({"step": 3})
    assert [record["step"] for record in metrics(run.path)] == [1, 3]
    again(other).rewind_metrics(other.metrics_mark())
    other.rewind_metrics()
    assert (run.path / "metrics.jsonl").read_bytes() == b""


def test_records_are_json_with_null_for_infinities(run):
    run.log({"step": 5, "a": [-math.inf, 1 / 3], "b": {"c": math.nan}})
    assert metrics(run.path) == [{"step": 5, "a": [None, 1 / 3], "b": {"c": None}}]


@pytest.mark.parametrize("words", [("the", "<unk>", "ñandú", "\u2028", "#"), ()])
def test_the_vocabulary_comes_back_as_it_was(tmp_path, words):
    RunFolder.begin(tmp_path, CONFIG, vocabulary=words)
    assert RunFolder(tmp_path, read_config(tmp_path)).read_vocabulary() == words


@pytest.mark.parametrize(
    "content", [None, "the\ncafé\n".encode("latin-1"), b"the\n", "a\ncafé\n".encode()]
)
def test_a_vocabulary_that_has_changed_is_named(tmp_path, content):
    words = ("the", "café")
    run = RunFolder.begin(tmp_path, CONFIG, vocabulary=words)
    path = tmp_path / "vocabulary.txt"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    said = f"--load_model: {path} cannot be read ("
    with refused(said, "repeat the command that trained the run"):
        run.read_vocabulary()
    run.close()
    run = RunFolder.begin(tmp_path, CONFIG, vocabulary=words)
    assert run.read_vocabulary() == words


def test_a_run_without_a_digest_of_its_vocabulary_is_still_read(run):
    (run.path / "vocabulary.txt").write_text("a\n")
    assert RunFolder.open(run.path).read_vocabulary() == ("a",)


# What cannot be written


def test_a_record_that_cannot_be_written_is_a_clear_error(run):
    (run.path / "metrics.jsonl").mkdir()  # a folder in the way
    with pytest.raises(RunError, match="--train_dir: cannot write to"):
        run.log({"step": 1})
