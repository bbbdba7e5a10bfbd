"""Atomic writes, checksums, and reading .npz files of unknown origin."""

import errno
import io
import os
import zipfile

import faults
import numpy as np
import pytest

from dsc.runs import atomic_io


@pytest.mark.parametrize("call", ["open", "fsync", "replace"])
@pytest.mark.parametrize("digest", [False, True])
def test_whatever_fails_the_old_file_stays_and_nothing_is_left(
    tmp_path, monkeypatch, call, digest
):
    atomic_io.write(tmp_path / "a.txt", b"old")
    monkeypatch.setattr(os, call, faults.full_disk)
    with pytest.raises(OSError, match="No space"):
        atomic_io.write(tmp_path / "a.txt", b"new", digest)
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_bytes() == b"old"


@pytest.mark.parametrize("error", [errno.EINVAL, errno.EIO])
def test_a_file_system_may_be_unable_to_sync_a_folder(tmp_path, monkeypatch, error):
    sync, calls = os.fsync, []

    def second_fails(handle):
        calls.append(handle)
        if len(calls) == 2:
            raise OSError(error, "no")
        sync(handle)

    monkeypatch.setattr(os, "fsync", second_fails)
    if error == errno.EINVAL:
        atomic_io.write(tmp_path / "a.txt", b"new")
    else:
        with pytest.raises(OSError, match="no"):
            atomic_io.write(tmp_path / "a.txt", b"new")
    assert (tmp_path / "a.txt").read_bytes() == b"new"


def test_a_function_that_fails_half_way_leaves_nothing(tmp_path):
    def half(path):
        path.write_bytes(b"half")
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        atomic_io.write(tmp_path / "a.txt", half)
    assert list(tmp_path.iterdir()) == []


def test_a_digest_in_the_name_tells_a_whole_file_from_a_damaged_one(tmp_path):
    path = atomic_io.write(
        tmp_path / "state-7.weights.h5", bytes(range(99)), digest=True
    )
    assert path.name.startswith("state-7-") and path.name.endswith(".weights.h5")
    assert atomic_io.is_intact(path)
    whole = path.read_bytes()
    for damaged in (b"", whole[:-1], whole + b"\0", b"\1" + whole[1:]):
        path.write_bytes(damaged)
        assert not atomic_io.is_intact(path)
    path.unlink()
    assert not atomic_io.is_intact(path)


def npz(**members):
    """A .npz file whose members are given as bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return buffer.getvalue()


def npy(shape, descr="|u1", data=b""):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"shape": shape, "fortran_order": False, "descr": descr}
    )
    return header.getvalue() + data


HOSTILE = {
    "giant": npz(x=npy((1 << 40,))),
    "many giants": npz(**{f"x{i}": npy((1 << 22,)) for i in range(99)}),
    "giant items": npz(x=npy((9,), "|V2000000000")),
    "overflow": npz(x=npy((1 << 40, 1 << 40))),
    "negative": npz(x=npy((-1,))),
    "objects": npz(x=npy((1,), "|O", b"cos\nsystem\n(S'true'\ntR.")),
    "too short": npz(x=npy((9,), data=bytes(8))),
    "no header": npz(x=b"\x93NUMPY\x01\x00"),
    "other magic": npz(x=b"pickle"),
    "code in the header": npz(x=npy((3,)).replace(b"'|u1'", b"exit(")),
    "nothing": b"",
    "no zip": b"PK\x03\x04" + bytes(99),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_arrays_are_refused(tmp_path, case):
    (tmp_path / "x.npz").write_bytes(HOSTILE[case])
    with pytest.raises(ValueError) as error:
        atomic_io.read_arrays(tmp_path / "x.npz")
    assert str(error.value) and "\n" not in str(error.value)


def test_good_arrays_are_read_as_they_were_written(tmp_path):
    arrays = {"a": np.arange(6.0).reshape(2, 3), "b": np.uint8(7), "c/d": np.zeros(0)}
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "x.npz", **arrays)
        read = atomic_io.read_arrays(tmp_path / "x.npz")
        assert read.keys() == arrays.keys()
        for name, value in arrays.items():
            np.testing.assert_array_equal(read[name], value, strict=True)
    with pytest.raises(FileNotFoundError):
        atomic_io.read_arrays(tmp_path / "y.npz")


@pytest.mark.parametrize("call", ["fsync", "replace", "fill"])
def test_a_folder_is_written_whole_or_not_at_all(tmp_path, monkeypatch, call):
    def fill(folder):
        (folder / "a").write_bytes(b"new")
        if call == "fill":
            faults.full_disk()

    if call != "fill":
        monkeypatch.setattr(os, call, faults.full_disk)
    with pytest.raises(OSError, match="No space"):
        atomic_io.write_folder(tmp_path / "folder", fill)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    call = None
    atomic_io.write_folder(tmp_path / "folder", fill)
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
    assert (tmp_path / "folder" / "a").read_bytes() == b"new"
