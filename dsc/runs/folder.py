"""The folder of a run: its config, metrics, vocabulary, result and lock.

`dsc.runs.checkpoints` keeps the states and the weights in it.
"""

import contextlib
import hashlib
import itertools
import json
import os
import re
import shutil
from pathlib import Path

from absl import flags as absl_flags

from dsc.cli.errors import RunError, one_line, writing
from dsc.cli.flags import IGNORED_FLAGS, LATER_FLAGS, ROLES, with_role
from dsc.runs import atomic_io
from dsc.runs.checkpoints import Checkpoints

CONFIG = "config.json"
METRICS = "metrics.jsonl"
VOCABULARY = "vocabulary.txt"
RESULT = "result.json"
LOCK = "lock"
TRAINED_WITH = "trained with"
MANY = ", many models at once"  # the end of its value for runs of one program
# What a run writes into its folder, and `scripts/sweep.py` beside it.
OWN = re.compile(
    r"lock|metrics\.jsonl|best|last|events\.out\.tfevents\..+|run\.\d+"
    r"|(aside\.\d+\.)?(config\.json|vocabulary\.txt|output\.txt|(result|job)\.json)"
    r"|(best|last)/(aside\.\d+\.)?(best|state)-\d+-\d+(-\w+)?\.(weights\.h5|npz)"
)


class RunFolder:
    """The folder of a run.

    - `config.json`: `flags`, a dict from name to value; `data`, a dict from split to
      checksum; `about`, see `dsc.runs.provenance`.
    - `metrics.jsonl`: one JSON object per report and per epoch.
    - `vocabulary.txt`: the words in the order of their ids.
    - `result.json`: scores; exists only when the run has finished.

    Attributes:
        path: the folder.
        config: dict, the content of `config.json`.
        checkpoints: `Checkpoints`.
        records: list of dicts, the metrics when the run was resumed.
    """

    def __init__(self, path, config):
        self.path = Path(path)
        self.config = config
        self.checkpoints = Checkpoints(self.path)
        self.records = []
        self._metrics_digest = hashlib.sha256()
        self._metrics_bytes = 0
        self._lock_file = None

    @classmethod
    def begin(cls, path, flags, data=None, about=None, restart=False, vocabulary=None):
        """Starts a run, or resumes the one in the folder, and locks the folder.

        Args:
            path: folder, created if necessary.
            flags: dict from name to value. To resume a run they must equal those of the
                run, except for `IGNORED_FLAGS`; those of the role `length` may grow.
            data: dict from split to checksum; must equal those of the run.
            about: dict, see `dsc.runs.provenance`; the backend must be the run's.
            restart: whether to move a run in the folder to `path.1` (or the next free
                number), or to `path/run.1` if the folder cannot be renamed.
            vocabulary: words to keep, in the order of their ids, or None.

        Raises:
            RunError: the folder holds another run, is in use, or cannot be written.
        """
        run = cls(path, {"flags": flags, "data": data or {}, "about": about or {}})
        try:
            with writing(run.path):
                run._begin(restart, vocabulary)
        except BaseException:
            run.close()
            raise
        return run

    @classmethod
    def open(cls, path):
        """A run to read from.

        Raises:
            RunError: the folder holds no run, or one without weights.
        """
        run = cls(path, read_config(Path(path), "--load_model: "))
        run.checkpoints.best_weights()
        return run

    @property
    def hparams(self):
        """The flags that change what is computed, a dict."""
        flags = self.config["flags"]
        return {k: v for k, v in flags.items() if k not in IGNORED_FLAGS}

    def close(self):
        """Unlocks the folder, as the end of the process does."""
        if self._lock_file:
            self._lock_file.close()

    def restore_flags(self, flags):
        """Sets the (parsed) flags that a trained model needs to the run's values.

        Raises:
            RunError: the run lacks a flag of the architecture, or the user gave it
                another value.
        """
        saved = LATER_FLAGS | self.config["flags"]
        for name in with_role("evaluation", "data"):
            if name in flags and not flags[name].present and name in saved:
                self._restore_flag(flags[name], saved[name])
        for name in filter(flags.__contains__, ROLES["architecture"]):
            if name not in saved:
                raise RunError(
                    f"--load_model: {self.path} has no value for --{name}: another "
                    "script or an older version made the run. Train it again."
                )
            if flags[name].present and flags[name].value != saved[name]:
                raise RunError(
                    f"--{name} {flags[name].value} does not fit the model in "
                    f"{self.path}, which has {saved[name]}; leave the flag out."
                )
            self._restore_flag(flags[name], saved[name])
        try:
            flags.validate_all_flags()
        except absl_flags.Error as error:
            raise RunError(
                f"--load_model: {self.path} and the flags do not fit "
                f"({one_line(error)})."
            ) from None

    def _restore_flag(self, flag, value):
        try:
            flag.value = None if value is None else flag.parser.parse(value)
        except (TypeError, ValueError) as error:
            raise RunError(
                f"--load_model: {self.path / CONFIG} has {value!r} for {flag.name} "
                f"({one_line(error)}); the run must be trained again."
            ) from None

    def check_data(self, digests, flags, *choosing):
        """Refuses data other than the run's, unless the user asked for them.

        Args:
            digests: dict from split to checksum, or None if there are no data.
            flags: `absl.flags.FLAGS` with --data_dir, where the data are.
            choosing: names of the flags with which the user asks for other data.

        Raises:
            RunError: the data are not those of the run.
        """
        if any(flags[name].present for name in choosing):
            return
        if digests is None or digests != self.config["data"]:
            raise RunError(
                f"The run in {self.path} was trained on data that {flags.data_dir} "
                "does not contain any more; restore them, or give their folder with "
                "--data_dir."
            )

    def read_vocabulary(self):
        """The words in the order of their ids, a tuple.

        Raises:
            RunError: the file is missing or damaged.
        """
        path = self.path / VOCABULARY
        try:
            content = path.read_bytes()
            known = self.config["about"].get(VOCABULARY)  # None in older runs
            if known not in (None, atomic_io.digest(content)):
                raise ValueError("its checksum is wrong")
            return tuple(content.decode().split("\n")[:-1])
        except (OSError, ValueError) as error:
            raise RunError(
                f"--load_model: {path} cannot be read ({one_line(error)}); restore it, "
                "or repeat the command that trained the run, which writes it again."
            ) from None

    def log(self, record):
        """Appends a record to the metrics."""
        line = f"{atomic_io.to_json(record)}\n".encode()
        with writing(self.path), open(self.path / METRICS, "ab") as file:
            file.write(line)
        self._metrics_digest.update(line)
        self._metrics_bytes += len(line)

    def metrics_mark(self):
        """Flushes the metrics to the disk; returns their `[bytes, checksum]`."""
        with writing(self.path), open(self.path / METRICS, "ab") as file:
            os.fsync(file.fileno())
        return [self._metrics_bytes, self._metrics_digest.hexdigest()]

    def metrics_before(self, mark=None):
        """The metrics up to a mark, as bytes; up to None there are none.

        Raises:
            ValueError: they have changed since the mark was made.
        """
        length, expected = mark or (0, hashlib.sha256().hexdigest())
        content = b""
        with contextlib.suppress(OSError):
            content = (self.path / METRICS).read_bytes()[:length]
        if [len(content), hashlib.sha256(content).hexdigest()] != [length, expected]:
            raise ValueError(f"{METRICS} is not what it was")
        return content

    def rewind_metrics(self, mark=None):
        """Removes the metrics after a mark; see `metrics_before`."""
        content = self.metrics_before(mark)
        with writing(self.path), open(self.path / METRICS, "ab") as file:
            file.truncate(len(content))
        self._metrics_bytes = len(content)
        self._metrics_digest = hashlib.sha256(content)
        self.records = [json.loads(line) for line in content.splitlines()]

    def finish(self, result):
        """Writes `result.json`; see `dsc.training.run`."""
        with writing(self.path):
            atomic_io.write_json(self.path / RESULT, result)

    def _begin(self, restart, vocabulary):
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock()
        if restart and self._holds_a_run():
            self._move_away()
        old = None
        if self._holds_a_run():
            old = read_config(self.path, "--train_dir: ")
            self._check_same_run(old)
        (self.path / RESULT).unlink(missing_ok=True)
        for name in self._contents():
            if "aside." in name and OWN.fullmatch(name):  # of a process that was killed
                (self.path / name).unlink()
        if vocabulary is not None:
            words = "".join(f"{word}\n" for word in vocabulary).encode()
            about = {**self.config["about"], VOCABULARY: atomic_io.digest(words)}
            self.config = {**self.config, "about": about}
        if old != self.config:
            atomic_io.write_json(self.path / CONFIG, self.config)
        if vocabulary is not None:
            atomic_io.write(self.path / VOCABULARY, words)

    def _check_same_run(self, old):
        if differences := list(_differences(old, self.config)):
            raise RunError(
                f"--train_dir: {self.path} holds another run, with "
                f"{', '.join(differences)}; repeat its command to resume it, give "
                "another folder, or start over with --restart, which moves it away."
            )
        before, now = _versions(old), _versions(self.config)
        if before != now:
            print(
                f"The run was started with {before} and is resumed with {now}: the "
                "last bits of its numbers may differ."
            )

    def _lock(self):
        try:
            self._lock_file = atomic_io.lock(self.path / LOCK)
        except BlockingIOError:
            raise RunError(
                f"--train_dir: another process is training in {self.path}; wait until "
                "it ends, or give another folder."
            ) from None

    def _holds_a_run(self):
        names = (CONFIG, METRICS, VOCABULARY, "last")
        return any((self.path / name).exists() for name in names)

    def _contents(self):
        """Names of what is in the folder, relative to it."""
        folders = self.path, self.checkpoints.best, self.checkpoints.last
        paths = (path for folder in folders for path in sorted(folder.glob("*")))
        return [path.relative_to(self.path).as_posix() for path in paths]

    def _move_away(self):
        folder = self.path.resolve()  # the target of a link; the link stays
        foreign = [name for name in self._contents() if not OWN.fullmatch(name)]
        if Path.cwd().is_relative_to(folder):
            foreign = ["the working directory"]
        if foreign:
            raise RunError(
                f"--restart: {self.path} also contains {foreign[0]}, which would be "
                "moved away with the run; give another --train_dir."
            )
        target = _free(folder)
        try:
            folder.rename(target)
        except OSError:  # a mount point, or its parent is read-only
            target = _free(folder / "run")
            target.mkdir()
            for path in folder.iterdir():
                if not path.name.startswith("run."):
                    shutil.move(path, target)
        print(f"The run that was in {self.path} is now in {target}.")
        folder.mkdir(exist_ok=True)
        self._lock()


def _free(path):
    """`path.1`, or with the next number that is free."""
    names = (f"{path.name}.{n}" for n in itertools.count(1))
    return next(p for p in map(path.with_name, names) if not p.exists())


def read_config(path, prefix=""):
    """The content of `config.json` in a run's folder, also of an older version.

    Raises:
        RunError: the folder holds no run, or the file is damaged; the message begins
            with `prefix`.
    """
    try:
        config = json.loads((path / CONFIG).read_text(encoding="utf-8"))
        config = {"data": {}, "about": {}, **config}
        if "flags" not in config:  # older versions had the flags beside the other two
            data, about = config.pop("data"), config.pop("about")
            about = {TRAINED_WITH: config.pop(TRAINED_WITH, "TensorFlow"), **about}
            config = {"flags": config, "data": data, "about": about}
        for part in ("flags", "data", "about"):
            if not isinstance(config[part], dict):
                raise ValueError(f"{part} is no object")
        return config
    except FileNotFoundError:
        raise RunError(
            f"{prefix}{path} holds no run (no {CONFIG}); give the folder of one, or "
            "start one with --train_dir (and --restart, if something else is there)."
        ) from None
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise RunError(
            f"{prefix}{path / CONFIG} cannot be read ({one_line(error)}); give "
            "another folder, or train the run again, with --restart if necessary."
        ) from None


def read_result(path):
    """What `RunFolder.finish` wrote, with None for infinities and NaN.

    Raises:
        RunError: the training has not finished, or the file is damaged.
    """
    path = Path(path) / RESULT
    try:
        result = dict(json.loads(path.read_text(encoding="utf-8")))
        if not isinstance(result["scores"], dict):
            raise ValueError("its scores are no object")
        return result
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise RunError(
            f"{path} cannot be read ({one_line(error)}); repeat the command that "
            "trained the run, which writes it at its end."
        ) from None


def _differences(old, new):
    """Yields what differs between the configs of two runs, as text."""
    before, after = (LATER_FLAGS | config["flags"] for config in (old, new))
    for name in sorted({*before, *after} - {*IGNORED_FLAGS}):
        value, other = before.get(name), after.get(name)
        grows = name in ROLES["length"] and _is_more(value, other)
        if value != other and not grows:
            yield one_line(f"--{name} {value} (now {other})")
    if old["data"] != new["data"]:
        yield one_line(f"other data than {after.get('data_dir')} contains now")
    value, other = (config["about"].get(TRAINED_WITH) for config in (old, new))
    if value != other:
        yield f"{TRAINED_WITH} {value} (now {other})"


def _versions(config):
    """The package versions in a config, as text."""
    versions = config["about"].get("versions") or {}
    return ", ".join(f"{k} {versions[k]}" for k in sorted(versions)) or "other versions"


def _is_more(before, after):
    return isinstance(before, int) and (after is None or after > before)
