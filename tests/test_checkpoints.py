"""Best weights and states: saved atomically, refused when damaged."""

import shutil

import h5py
import keras
import numpy as np
import pytest
from small import contents, refused

from dsc.runs import atomic_io
from dsc.runs.checkpoints import Checkpoints


def small_model(units=3, layers=1):
    inputs = x = keras.Input((2,))
    for _ in range(layers):
        x = keras.layers.Dense(units, kernel_initializer="random_normal")(x)
    return keras.Model(inputs, x)


@pytest.fixture
def checkpoints(tmp_path):
    """Some with best weights."""
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save_weights(small_model(), 1, 10)
    return checkpoints


def test_weights_come_back_bit_for_bit_in_another_model(tmp_path):
    model, other = small_model(layers=2), small_model(layers=2)
    Checkpoints(tmp_path).save_weights(model, 3, 7)
    assert not np.array_equal(model.get_weights()[0], other.get_weights()[0])
    Checkpoints(tmp_path).load_weights(other)
    np.testing.assert_equal(other.get_weights(), model.get_weights())
    (path,) = (tmp_path / "best").iterdir()
    assert path.name.startswith("best-000003-000000000007-")
    same = keras.models.clone_model(model)
    same.load_weights(shutil.copy(path, tmp_path / "x.weights.h5"))  # without us
    np.testing.assert_equal(same.get_weights(), model.get_weights())


def test_of_several_the_newest_are_loaded(checkpoints):
    for epochs, step in ((9, 90), (10, 95), (2, 99)):
        model = small_model()
        checkpoints.save_weights(model, epochs, step)
        if epochs == 10:
            expected = model.get_weights()
    checkpoints.load_weights(model)
    np.testing.assert_equal(model.get_weights(), expected)


@pytest.mark.parametrize("other", [{"units": 4}, {"layers": 2}])
def test_weights_of_another_size_are_refused(checkpoints, other):
    with refused(f"{checkpoints.best_weights()} does not fit this model"):
        checkpoints.load_weights(small_model(**other))


def test_damaged_weights_are_refused_before_they_are_opened(checkpoints, monkeypatch):
    path = checkpoints.best_weights()
    whole = path.read_bytes()
    monkeypatch.setattr(h5py, "File", None)
    flipped = bytes([*whole[:99], whole[99] ^ 4, *whole[100:]])
    for content in (b"", whole[:100], whole[:-1], flipped, b"not HDF5\n" * 500):
        path.write_bytes(content)
        with refused("its checksum is wrong"):
            checkpoints.load_weights(small_model())


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        # What h5py raises, now and then, when the disk is full.
        RuntimeError("Set slist enabled failed (file write failed)"),
        OSError("Unable to extend file (time = Mon Nov 23\n, errno"),
    ],
)
def test_a_failing_save_keeps_the_old_weights_and_leaves_nothing_else(
    checkpoints, monkeypatch, error
):
    def save_half(self, path):
        path.write_bytes(b"\x89HDF")
        raise error

    before = contents(checkpoints.path)
    monkeypatch.setattr(keras.Model, "save_weights", save_half)
    with refused(
        f"--train_dir: cannot write to {checkpoints.path} (",
        "free space or give another folder",
    ):
        checkpoints.save_weights(small_model(), 2, 20)
    assert contents(checkpoints.path) == before


# States


def test_the_newest_states_stay_and_the_best_weights_of_each(tmp_path):
    checkpoints, model = Checkpoints(tmp_path), small_model()
    for epochs, step in ((0, 5), (1, 9), (1, 11), (2, 18), (2, 20), (3, 27)):
        if epochs in (1, 3) and step in (9, 27):
            checkpoints.save_weights(model, epochs, step)
        checkpoints.save_state(epochs, step, {"x": np.arange(step)})
    found = [(path.name[6:25], len(a["x"])) for path, a in checkpoints.states()]
    assert found == [
        ("000003-000000000027", 27),
        ("000002-000000000020", 20),
        ("000002-000000000018", 18),
    ]
    kept = sorted(path.name[5:24] for path in checkpoints.best.iterdir())
    assert kept == ["000001-000000000009", "000003-000000000027"]


def test_states_that_were_passed_over_do_not_push_out_good_ones(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2, 3):
        path = checkpoints.save_state(0, step, {"x": np.zeros(step)})
    path.write_bytes(b"")
    new = checkpoints.save_state(0, 2, {"x": np.ones(2)})
    assert path not in checkpoints.last.iterdir()
    assert new in [found for found, _ in checkpoints.states()]


@pytest.mark.parametrize("is_folder", [False, True])
def test_a_state_that_cannot_be_read_is_passed_over_and_named(tmp_path, is_folder):
    checkpoints = Checkpoints(tmp_path)
    good = checkpoints.save_state(0, 1, {"x": np.zeros(2)})
    name = checkpoints.last / "state-000000-000000000002.npz"
    bad = atomic_io.write(name, b"no arrays", digest=True)
    if is_folder:
        bad.unlink()
        bad.mkdir()
    skipped = []
    found = checkpoints.states(lambda *path_and_reason: skipped.append(path_and_reason))
    assert [path for path, _ in found] == [good]
    ((path, reason),) = skipped
    assert path == bad and reason
