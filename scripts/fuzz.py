"""Throws hostile input at the programs: flags, corpora, .npz files, run folders.

    python scripts/fuzz.py --cases 2000 --processes 30

A case must end within 10 seconds, well or with one sentence that says what is wrong,
and may not change what was there before. Most cases call in this process what the
programs call; `--processes` of them are programs of their own. Exits with 0 only if all
end so.
"""

import contextlib
import io
import json
import random
import shutil
import signal
import sys
import tempfile
import traceback
import zipfile
from pathlib import Path

import numpy as np
import processes
from absl import app, flags

from dsc import files
from dsc import flags as shared_flags
from dsc.errors import RunError
from dsc.resuming import resume
from dsc.run_folder import RunFolder
from language_modeling import agreement, reader
from number_prediction import produce_data

LIMIT = 10  # seconds
REFUSALS = (RunError, reader.DataError, produce_data.DataError, flags.Error)
SIZES = ("--rnn_size=4", "--rnn_layers=0", "--agent_units=3", "--batch_size=2")
SMALL = (*SIZES, "--num_unroll_steps=3", "--max_steps=1")
VALUES = (
    *("", " ", "a b", "\n", "1\n2", "-", "~", "*", "%s", "{0}", "[]", "{}", "x" * 300),
    *("0", "-1", "1", "2", "nan", "inf", "-inf", "1e999", "1e-999", "9" * 30, "0x10"),
    *("true", "None", "../..", "/dev/null", "/dev/full", "/proc/self/mem", "gone/x"),
    *("\u202e", "\udcff", "é", "1_000", "-0.0"),
)
TEXTS = [
    b"\xef\xbb\xbf",
    b"\0",
    b"\r",
    b"\r\n",
    b"\n" * 50,
    b" " * 999,
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"\xe2\x80\xa8",
    b"\x1c\x85\x0c",
    b"<unk> " * 9,
    b"<eos>\n",
    b"word " * 5000,
    b"x" * 100_000,
    "né ".encode() * 9,
    b"\x1b[31m",
    b"a\xcc\x81",
]


class Failure(Exception):
    """A case ended as none may."""


class Bait:
    """Leaves a trace where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def mutate(content, rng):
    """Bytes that were damaged in a few places, in one of several ways."""
    content = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(content) + 1)
        stop = place + rng.choice((1, 2, 9, 200, len(content)))
        match rng.randrange(5):
            case 0:
                content[place:stop] = rng.randbytes(rng.randrange(9))
            case 1:
                del content[place:stop]
            case 2:
                content[place:place] = content[place:stop]
            case 3:
                content[place:place] = rng.choice(TEXTS)
            case 4:
                content[place : place + 4] = rng.choice((b"\xff" * 4, b"\0" * 4))
    return bytes(content)


def hostile_flags(rng):
    """A command line with flags of this program, or nearly, and bad values."""
    names = [*shared_flags.values(flags.FLAGS)]
    names += ["rnn_sise", "", "-", "flagfile", "0", "é"]
    forms = ("--{}={}", "-{}={}", "--{} {}", "--no{}", "--{}", "{}={}")
    arguments = []
    for _ in range(rng.randint(1, 4)):
        name, value = rng.choice(names), rng.choice(VALUES)
        arguments.append(rng.choice(forms).format(name, value))
    return arguments


def hostile_corpus(rng, folder):
    """Damages one or more files of the corpus in `folder`."""
    for split in rng.sample(reader.SPLITS, rng.randint(1, 3)):
        path = folder / f"{split}.txt"
        match rng.randrange(8):
            case 0:
                path.write_bytes(b"".join(rng.choices(TEXTS, k=rng.randrange(6))))
            case 1:
                path.write_bytes(rng.randbytes(rng.randrange(2000)))
            case 2:
                path.unlink()
                path.mkdir()
            case 3:
                path.unlink()
                path.symlink_to(rng.choice((path, "/dev/null", "gone", "/")))
            case _:
                path.write_bytes(mutate(path.read_bytes(), rng))


def hostile_array(rng, array):
    """Bytes of a .npy file that claim, or hold, something else than `array`."""
    buffer = io.BytesIO()
    kind = rng.randrange(6)
    if kind == 0:
        shape = tuple(rng.choice((0, 1, 7, 1 << 33, -1)) for _ in array.shape)
        descr = rng.choice(("|u1", "<f8", "|O", "<U9", "|V99999999", "<i4", "<M8[s]"))
        header = {"shape": shape, "fortran_order": False, "descr": descr}
        np.lib.format.write_array_header_1_0(buffer, header)
        buffer.write(array.tobytes())
    elif kind == 1:
        np.save(buffer, np.array([Bait("executed")], object))
    elif kind == 2:
        np.save(buffer, array.astype(rng.choice((np.float32, np.int64, np.complex64))))
    elif kind == 3:
        np.save(buffer, array[: rng.randrange(3)] if array.ndim else array)
    elif kind == 4:
        np.save(buffer, np.full_like(array, rng.choice((255, 10, 128))))
    else:
        np.save(buffer, array)
        return mutate(buffer.getvalue(), rng)
    return buffer.getvalue()


def hostile_npz(rng, path):
    """Damages a .npz file as a whole, or puts a hostile array into it."""
    if rng.random() < 0.4:
        path.write_bytes(mutate(path.read_bytes(), rng))
        return
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    victims = rng.sample(sorted(arrays), rng.randint(1, min(3, len(arrays))))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.save(buffer, array)
            content = buffer.getvalue()
            if name in victims:
                if rng.random() < 0.1:
                    continue
                content = hostile_array(rng, array)
            archive.writestr(f"{name}.npy", content)


def hostile_json(rng, config):
    """A run's flags with something else in some of them, or damaged as text."""
    config = dict(config)
    for name in rng.sample(sorted(config), rng.randint(1, 5)):
        config[name] = rng.choice((*VALUES, None, -1, 1e300, [], {"a": []}, 10**30))
    content = json.dumps(config).encode()
    return mutate(content, rng) if rng.random() < 0.5 else content


def hostile_run(rng, folder):
    """Damages something in a run's folder; the digest in a name may be made right."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    path = rng.choice([p for p in paths if p.name != "lock"])
    if path.name == "config.json" and rng.random() < 0.8:
        path.write_bytes(hostile_json(rng, json.loads(path.read_bytes())))
    elif path.suffix == ".npz" and rng.random() < 0.8:
        hostile_npz(rng, path)
    elif rng.random() < 0.1:
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes(mutate(path.read_bytes(), rng))
    if path.is_file() and path.parent != folder and rng.random() < 0.8:
        label = path.name.rpartition("-")[0]
        suffixes = path.name.partition(".")[2]
        path.rename(path.with_name(f"{label}-{files.file_digest(path)}.{suffixes}"))


class Cases:
    """The cases in this process; each gets a folder of its own to be hostile in.

    Args:
        base: folder with a good `corpus`, `digits_10.npz` and `run`.
    """

    def __init__(self, base):
        # Not at the top, lest the programs that are started define their flags twice.
        from language_modeling import rl_train

        self.base = base
        flags.FLAGS(["fuzz", *SMALL])
        self.corpus = reader.read(reader.find(base / "corpus"))
        self.task = rl_train.make_task(self.corpus)
        self.config = json.loads((base / "run" / "config.json").read_bytes())

    def flags(self, rng, folder):
        try:
            flags.FLAGS(["fuzz", *hostile_flags(rng)])
        finally:
            flags.FLAGS.unparse_flags()
            flags.FLAGS(["fuzz", *SMALL])

    def corpus_files(self, rng, folder):
        shutil.copytree(self.base / "corpus", folder / "corpus")
        hostile_corpus(rng, folder / "corpus")
        before = contents(folder)
        try:
            paths = reader.find(folder / "corpus")
            corpus = reader.read(paths, "<eos>", rng.choice(reader.UNKNOWN))
            for split, ids in corpus.ids.items():
                cut = rng.choice((reader.windows, reader.all_windows))
                cut(ids, rng.randint(1, 9), rng.randint(2, 9), split)[0]
        finally:
            expect_unchanged(before, folder)

    def digits(self, rng, folder):
        path = shutil.copy(self.base / "digits_10.npz", folder)
        hostile_npz(rng, Path(path))
        before = contents(folder)
        try:
            produce_data.read(Path(path))
        finally:
            expect_unchanged(before, folder)

    def run(self, rng, folder):
        shutil.copytree(self.base / "run", folder / "run")
        hostile_run(rng, folder / "run")
        before = contents(folder)
        try:
            saved = RunFolder.open(folder / "run")
            saved.restore_flags(flags.FLAGS, ("rnn_size", "n_actions", "lamda"))
            saved.read_vocabulary()
            saved.checkpoints.load_weights(self.task.model)
        except RunError as error:
            expect_sentence(error)
        expect_unchanged(before, folder)
        begun = RunFolder.begin(folder / "run", self.config)
        try:
            resume(self.task, begun, 1)
        finally:
            begun.close()


def as_program(rng, base, folder):
    """One of the programs, with hostile input in files or flags."""
    shutil.copytree(base / "corpus", folder / "corpus")
    shutil.copytree(base / "run", folder / "run")
    shutil.copy(base / "digits_10.npz", folder)
    script, arguments = processes.LANGUAGE, [*SMALL, "--data_dir=corpus"]
    match rng.randrange(5):
        case 0:
            arguments += ["--train_dir=new", *hostile_flags(rng)]
        case 1:
            hostile_corpus(rng, folder / "corpus")
        case 2:
            hostile_run(rng, folder / "run")
            arguments += ["--load_model=run"]
        case 3:
            hostile_run(rng, folder / "run")
            arguments += ["--train_dir=run"]
        case 4:
            hostile_npz(rng, folder / "digits_10.npz")
            script = processes.NUMBERS
            arguments = ["--data_dir=.", "--rnn_size=4", "--max_steps=1"]
    result = processes.run(folder, script, *arguments, timeout=LIMIT)
    if result.code is None:
        raise TimeoutError(f"{script.name} {arguments}")
    if result.code not in (0, 1) or "Traceback" in "".join(result.err):
        raise Failure(f"{script.name} {arguments}: {result.code}: {result.err}")
    return result.code == 1


def contents(folder):
    """What is below a folder, and what is in it."""
    return {
        path: path.read_bytes() if path.is_file() else path.lstat().st_mode
        for path in folder.rglob("*")
    }


def expect_unchanged(before, folder):
    if contents(folder) != before:
        raise Failure("what was there before has changed")


def expect_sentence(error):
    if not str(error) or "\n" in str(error).strip():
        raise Failure(f"no sentence: {error!r}")


def timed_out(number, frame):
    raise TimeoutError


def attempt(case, *arguments):
    """Runs one case; returns whether the input was refused.

    Raises:
        Failure: it took too long, ended otherwise than with a sentence, ran code that
            it was given, or changed what was there.
    """
    signal.alarm(LIMIT)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return bool(case(*arguments))
    except REFUSALS as error:
        if not isinstance(error, flags.Error):
            expect_sentence(error)
        return True
    finally:
        signal.alarm(0)
        if Path("executed").exists():
            raise Failure("code from a file was run")


def fuzz(base, n_cases, n_processes, seed):
    """Runs all cases; returns how many of each kind there were and were refused."""
    cases = Cases(base)
    kinds = [cases.flags, cases.corpus_files, cases.digits, cases.run]
    counts = {}
    for i in range(n_cases + n_processes):
        rng = random.Random(f"{seed}/{i}")
        with tempfile.TemporaryDirectory(dir=base) as name:
            kind, arguments = kinds[i % len(kinds)], (rng, Path(name))
            if i >= n_cases:
                kind, arguments = as_program, (rng, base, Path(name))
            try:
                refused = attempt(kind, *arguments)
            except BaseException as error:
                traceback.print_exc()
                raise Failure(f"case {i} of --seed {seed}: {error!r}") from None
        count = counts.setdefault(kind.__name__, [0, 0])
        count[0] += 1
        count[1] += refused
    return counts


def prepare(base):
    """Writes what the cases damage."""
    agreement.write(base / "corpus", seed=3, n_train=300, n_valid=60, n_test=60)
    produce_data.write(
        base / "digits_10.npz", 10, {"train": 150, "valid": 9, "test": 9}, seed=3
    )
    small = (*SMALL, "--data_dir=corpus", "--train_dir=run", "--save_every=0")
    result = processes.run(base, processes.LANGUAGE, *small)
    if result.code:
        raise Failure(f"the run that is to be damaged failed: {result.err}")


def main(argv):
    values = flags.FLAGS
    n_cases, n_processes, seed = values.cases, values.processes, values.fuzz_seed
    signal.signal(signal.SIGALRM, timed_out)
    with tempfile.TemporaryDirectory() as name:
        try:
            prepare(Path(name))
            counts = fuzz(Path(name), n_cases, n_processes, seed)
        except Failure as failure:
            sys.exit(f"{failure}")
    for kind, (n, refused) in counts.items():
        print(f"{kind}: {n} cases, {refused} refused in a sentence")
    print(f"{n_cases + n_processes} cases: no traceback, no hang, no change.")


if __name__ == "__main__":
    flags.DEFINE_integer("cases", 2000, "cases in this process", 0)
    flags.DEFINE_integer("processes", 30, "cases that are programs of their own", 0)
    flags.DEFINE_integer("fuzz_seed", 1, "of the cases")
    app.run(main)
