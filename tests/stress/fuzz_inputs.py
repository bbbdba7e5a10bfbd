"""Hostile input for `fuzz.py`: each function draws one case from a random generator."""

import io
import json
import zipfile

import numpy as np

from dsc.runs import atomic_io
from language_modeling import corpora
from language_modeling.flags import FLAGS

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


def command_line(rng):
    """A command line with flags of this program, or nearly, and bad values."""
    names = sorted(FLAGS)
    names += ["rnn_sise", "", "-", "flagfile", "0", "é"]
    forms = ("--{}={}", "-{}={}", "--{} {}", "--no{}", "--{}", "{}={}")
    arguments = []
    for _ in range(rng.randint(1, 2)):
        name, value = rng.choice(names), rng.choice(VALUES)
        if (name, value) == ("flagfile", "/dev/full"):
            continue  # it has no end, and absl reads a file of flags to the end
        arguments.append(rng.choice(forms).format(name, value))
    return arguments


def corpus(rng, folder):
    """Damages one or more files of the corpus in `folder`."""
    for split in rng.sample(corpora.SPLITS, rng.randint(1, 3)):
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


def ids(rng, folder):
    """Damages a file of a prepared corpus, or what is said about all of them."""
    path = rng.choice(sorted(folder.iterdir()))
    if path.suffix != ".json" or rng.random() < 0.3:
        path.write_bytes(mutate(path.read_bytes(), rng))
    else:
        content = json.loads(path.read_bytes())
        path.unlink()
        content = config_bytes(rng, rng.choice((content, content["digests"])))
        atomic_io.write(folder / "corpus.json", content, digest=True)


def array_bytes(rng, array):
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


def npz(rng, path):
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
                content = array_bytes(rng, array)
            archive.writestr(f"{name}.npy", content)


def config_bytes(rng, values):
    """A run's flags with something else in some of them, or damaged as text."""
    values = dict(values)
    for name in rng.sample(sorted(values), rng.randint(1, min(5, len(values)))):
        values[name] = rng.choice((*VALUES, None, -1, 1e300, [], {"a": []}, 10**30))
    content = json.dumps(values).encode()
    return mutate(content, rng) if rng.random() < 0.5 else content


def counts(rng, path):
    """Puts a hostile value among the counts of a state."""
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    values = json.loads(arrays["counts"].tobytes())
    hostile = rng.choice((-1, 1, 10**15, 10**30, 0.5, True, None, "x", [], {}))
    if rng.random() < 0.3:
        values["metrics"][0] = hostile
    else:
        values[rng.choice(sorted(values))] = hostile
    arrays["counts"] = np.frombuffer(json.dumps(values).encode(), np.uint8)
    np.savez(path, **arrays)


def run(rng, folder):
    """Damages something in a run's folder; the digest in a name may be made right."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    path = rng.choice([p for p in paths if p.name != "lock"])
    if path.name == "config.json" and rng.random() < 0.8:
        path.write_bytes(config_bytes(rng, json.loads(path.read_bytes())))
    elif path.suffix == ".npz" and rng.random() < 0.8:
        rng.choice((counts, npz))(rng, path)
    elif rng.random() < 0.1:
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes(mutate(path.read_bytes(), rng))
    if path.is_file() and path.parent != folder and rng.random() < 0.8:
        label = path.name.rpartition("-")[0]
        suffixes = path.name.partition(".")[2]
        path.rename(path.with_name(f"{label}-{atomic_io.file_digest(path)}.{suffixes}"))
