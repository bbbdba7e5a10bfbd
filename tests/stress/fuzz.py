"""Throws hostile input at the programs: flags, corpora, ids, .npz files, run folders.

    python tests/stress/fuzz.py --cases 2000 --processes 30

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
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this clone's code

from dsc.cli import startup

with startup.backend("tensorflow"):
    from tests.stress import fuzz_inputs

from absl import flags

from dsc.cli import program
from dsc.cli.errors import RunError
from dsc.cli.flags import Group
from dsc.distributed.mirrored import Distribution
from dsc.runs.folder import RunFolder
from dsc.training.resume import resume
from language_modeling import corpora, training
from language_modeling.agreement import grammar
from language_modeling.corpora import corpus
from language_modeling.flags import FLAGS
from language_modeling.task import LanguageModeling
from number_prediction import produce_data
from tests.stress import programs

LIMIT = 10  # seconds
REFUSALS = (RunError, flags.Error)
SIZES = ("--rnn_size=4", "--rnn_layers=0", "--agent_units=3", "--batch_size=2")
SMALL = (*SIZES, "--num_unroll_steps=3", "--max_steps=1")


class Failure(Exception):
    """A case ended as none may."""


class Cases:
    """The cases in this process; each gets a folder of its own to be hostile in.

    Args:
        base: folder with a good `corpus`, `ids`, `digits_10.npz` and `run`.
    """

    def __init__(self, base):
        self.base = base
        FLAGS(["fuzz", *SMALL])
        self.corpus = corpora.read_corpus(corpora.find_splits(base / "corpus"))
        self.task = training.make_task(
            LanguageModeling, FLAGS, self.corpus, Distribution()
        )
        self.config = json.loads((base / "run" / "config.json").read_bytes())

    def flags(self, rng, folder):
        try:
            FLAGS(["fuzz", *fuzz_inputs.command_line(rng)])
        finally:
            FLAGS.unparse_flags()
            FLAGS(["fuzz", *SMALL])

    def corpus_files(self, rng, folder):
        shutil.copytree(self.base / "corpus", folder / "corpus")
        fuzz_inputs.corpus(rng, folder / "corpus")
        with unchanged(folder):
            paths = corpora.find_splits(folder / "corpus")
            size = rng.choice((None, 2, 9, 10**30))
            read = corpora.read_corpus(
                paths, "<eos>", rng.choice(corpora.UNKNOWN), size
            )
            for split, ids in read.ids.items():
                cut = rng.choice((corpora.whole_windows, corpora.all_windows))
                cut(ids, rng.randint(1, 9), rng.randint(2, 9), split)[0]

    def ids(self, rng, folder):
        shutil.copytree(self.base / "ids", folder / "ids")
        fuzz_inputs.ids(rng, folder / "ids")
        with unchanged(folder):
            try:
                read = corpus.load(folder / "ids")
            except ValueError as error:
                expect_sentence(error)
                return True
        if read.digests != self.corpus.digests:
            raise Failure("damaged ids were taken for whole ones")

    def digits(self, rng, folder):
        path = shutil.copy(self.base / "digits_10.npz", folder)
        fuzz_inputs.npz(rng, Path(path))
        with unchanged(folder):
            produce_data.digests(produce_data.read(Path(path), 10))

    def run(self, rng, folder):
        shutil.copytree(self.base / "run", folder / "run")
        fuzz_inputs.run(rng, folder / "run")
        with unchanged(folder):
            try:
                saved = RunFolder.open(folder / "run")
                saved.restore_flags(FLAGS)
                saved.read_vocabulary()
                saved.checkpoints.load_weights(self.task.model)
            except RunError as error:
                expect_sentence(error)
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
    script, arguments = programs.LANGUAGE, [*SMALL, "--data_dir=corpus"]
    match rng.randrange(5):
        case 0:
            arguments += ["--train_dir=new", *fuzz_inputs.command_line(rng)]
        case 1:
            fuzz_inputs.corpus(rng, folder / "corpus")
        case 2:
            fuzz_inputs.run(rng, folder / "run")
            arguments += ["--load_model=run"]
        case 3:
            fuzz_inputs.run(rng, folder / "run")
            arguments += ["--train_dir=run"]
        case 4:
            fuzz_inputs.npz(rng, folder / "digits_10.npz")
            script = programs.NUMBERS
            arguments = ["--data_dir=.", "--rnn_size=4", "--max_steps=1"]
    result = programs.run(folder, script, *arguments, timeout=LIMIT)
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


@contextlib.contextmanager
def unchanged(folder):
    """Fails if what is inside changes anything below a folder, however it ends."""
    before = contents(folder)
    try:
        yield
    finally:
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
    kinds = [cases.flags, cases.corpus_files, cases.ids, cases.digits, cases.run]
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
                raise RunError(f"case {i} of --fuzz_seed {seed}: {error!r}") from None
        count = counts.setdefault(kind.__name__, [0, 0])
        count[0] += 1
        count[1] += refused
    return counts


def prepare(base):
    """Writes what the cases damage."""
    grammar.write(base / "corpus", seed=3, n_train=5000, n_valid=300, n_test=300)
    with open(base / "corpus" / "train.txt", "a") as file:
        file.write("<unk>\n")
    (base / "ids").mkdir()
    corpus.prepare(corpora.find_splits(base / "corpus"), corpus.Options(), base / "ids")
    produce_data.write(
        base / "digits_10.npz", 10, {"train": 150, "valid": 9, "test": 9}, seed=3
    )
    small = (*SMALL, "--data_dir=corpus", "--train_dir=run", "--save_every=0")
    result = programs.run(base, programs.LANGUAGE, *small)
    if result.code:
        raise RunError(f"the run that is to be damaged failed: {result.err}")


def main(values):
    n_cases, n_processes, seed = values.cases, values.processes, values.fuzz_seed
    signal.signal(signal.SIGALRM, timed_out)
    with tempfile.TemporaryDirectory() as name:
        prepare(Path(name))
        counts = fuzz(Path(name), n_cases, n_processes, seed)
    for kind, (n, refused) in counts.items():
        print(f"{kind}: {n} cases, {refused} refused in a sentence")
    print(f"{n_cases + n_processes} cases: no traceback, no hang, no change.")


if __name__ == "__main__":
    group = Group("flags")
    OWN = group.defined
    group.integer("cases", 2000, "cases in this process", 0)
    group.integer("processes", 30, "cases that are programs of their own", 0)
    group.integer("fuzz_seed", 1, "of the cases", 0)
    program.parse(OWN, __doc__)
    program.main(OWN, lambda: main(OWN))
