"""Prepares a corpus that is larger than the memory for it, and uses it again.

    python tests/stress/large_corpus.py   # 500,000 words with natural frequencies
    python tests/stress/large_corpus.py --distinct   # each word occurs once

Writes a text of `--megabytes`, starts the training script on it twice, and ends it each
time when it has printed how many weights it trains. Exits with 0 only if the process
that prepared the text took less than 600 MB, and the second start less than 5 seconds.
(The training script, which waits for that process, has TensorFlow in its memory.)
"""

import contextlib
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this clone's code

import numpy as np

from dsc.cli import program
from dsc.cli.flags import Group

group = Group("flags")
FLAGS = group.defined
SCRIPT = Path(__file__).resolve().parents[2] / "language_modeling" / "rl_train.py"
MODEL = ("--rnn_size=8", "--rnn_layers=0", "--agent_units=4", "--max_epochs=0")
MEMORY = 600  # MB
SECONDS = 5.0
N_WORDS = 500_000  # different ones; as in a natural text, the nth is 1/n as frequent
PER_LINE = 20
BLOCK = 1 << 20  # words
ODD = 0x9E3779B1  # mixes the bits of a number; different numbers stay different


def write_text(path, n_bytes, distinct, seed=0):
    """Writes a text of at least `n_bytes`, in lines of `PER_LINE` words."""
    rng = np.random.default_rng(seed)
    width = 4 if distinct else 3  # bytes of a word's number
    n_words = -(-n_bytes // (2 * width + 1))
    with open(path, "wb") as file:
        for first in range(0, n_words, BLOCK):
            n = min(BLOCK, n_words - first)
            if distinct:
                numbers = np.arange(first, first + n)
            else:
                numbers = (N_WORDS ** rng.random(n)).astype(np.int64)
            numbers = (numbers * ODD % 256**width).astype(">u4")
            digits = numbers.view(np.uint8).reshape(-1, 4)[:, 4 - width :]
            text = bytearray(digits.tobytes().hex(" ", width).encode() + b"\n")
            every = PER_LINE * (2 * width + 1)
            text[every - 1 :: every] = b"\n" * len(range(every - 1, len(text), every))
            file.write(text)


def start(*arguments):
    """Starts the training script until it has said its weights.

    Returns:
        `(line, seconds, peaks)`: the line with the weights; the time until then; a dict
        from process to the most memory, in MB, that it took while the text was
        prepared.
    """
    begin = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), *MODEL, *arguments],
        stdout=subprocess.PIPE,
        text=True,
    )
    peaks = {}
    thread = threading.Thread(target=watch, args=(process, peaks))
    thread.start()
    line = next((line for line in process.stdout if " weights, " in line), None)
    seconds = time.monotonic() - begin
    process.terminate()
    process.wait()
    thread.join()
    if line is None:
        sys.exit("The training script has ended without a word of its weights.")
    return line.strip(), seconds, peaks


def watch(process, peaks):
    """Measures a process and the one that prepares its text, while that one runs."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while process.poll() is None:
        with contextlib.suppress(OSError, TypeError):  # of what has just ended
            for child in children.read_text().split():
                if b"cache.py" in Path(f"/proc/{child}/cmdline").read_bytes():
                    peaks["training script"] = peak_megabytes(process.pid)
                    peaks["preparation"] = peak_megabytes(child)
        time.sleep(0.01)


def peak_megabytes(pid):
    """The most memory that a process has had in RAM."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024 / 1e6


def main():
    n_bytes = FLAGS.megabytes * 10**6
    with tempfile.TemporaryDirectory(dir=FLAGS.in_dir) as name:
        folder = Path(name)
        write_text(folder / "train.txt", n_bytes, FLAGS.distinct)
        for split in "valid", "test":
            write_text(folder / f"{split}.txt", 10**5, FLAGS.distinct, seed=1)
        arguments = [f"--data_dir={folder}", f"--cache_dir={folder / 'cache'}"]
        if FLAGS.distinct:
            arguments.append("--vocab_size=10000")
        line, seconds, peaks = start(*arguments)
        again, seconds_again, peaks_again = start(*arguments)
    print(line)
    print(f"first start: {seconds:.1f} s")
    for process, megabytes in peaks.items():
        print(f"peak memory of the {process}: {megabytes:.0f} MB")
    print(f"second start: {seconds_again:.1f} s")
    if again != line or peaks_again or not peaks:
        sys.exit("The second start has not gone on from what the first prepared.")
    if peaks["preparation"] >= MEMORY or seconds_again >= SECONDS:
        sys.exit(f"That is not less than {MEMORY} MB and {SECONDS:g} s.")


if __name__ == "__main__":
    group.integer("megabytes", 1000, "size of the text", 1)
    group.bool("distinct", False, "whether each word occurs once")
    group.path("in_dir", None, "folder for all files (default: the system's)")
    program.parse(FLAGS, __doc__)
    program.main(FLAGS, main)
