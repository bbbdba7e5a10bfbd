"""The folder of a run: its flags, its metrics, its vocabulary, its lock.

States and weights in it are the business of `dsc.checkpoints`.
"""

import hashlib
import itertools
import json
import os
from pathlib import Path

from absl import flags as absl_flags

from dsc import files
from dsc.checkpoints import Checkpoints
from dsc.errors import RunError, one_line, writing

CONFIG = "config.json"
METRICS = "metrics.jsonl"
VOCABULARY = "vocabulary.txt"
LOCK = "lock"
# Flags that do not change what is computed, and those that may let a run go on longer.
UNCOMPARED = {
    "cache_dir",
    "data_dir",
    "gpu_portion",
    "restart",
    "save_every",
    "strategy",
    "train_dir",
}
GROWING = {"max_epochs", "max_steps"}


class RunFolder:
    """Where a run is kept.

    `config.json` holds what the run was started with: its flags, the digests of its
    data, and what `dsc.about` says. `metrics.jsonl` has one JSON object per report and
    per epoch, `last` and `best` what `dsc.checkpoints` says, event files what
    `dsc.events` does. Files are written aside and renamed, so what is there is whole;
    the metrics are cut back to where a state left them.

    Attributes:
        path: the folder; `begin` makes it, `open` expects it.
        config: dict, what `config.json` holds.
        checkpoints: `Checkpoints`.
    """

    def __init__(self, path, config):
        self.path = Path(path)
        self.config = config
        self.checkpoints = Checkpoints(self.path)
        self._metrics_digest = hashlib.sha256()
        self._metrics_bytes = 0
        self._lock_file = None

    @classmethod
    def begin(cls, path, config, restart=False):
        """Begins a run, or goes on with the same one; no other process may.

        Args:
            path: folder.
            config: JSON-serialisable dict. What a run in the folder has been started
                with must be the same, but for `UNCOMPARED`; `GROWING` may be larger.
            restart: whether a run that the folder already holds is moved aside, to
                `path.1` or the next free number.

        Raises:
            RunError: the folder holds another run, is in use, or cannot be written.
        """
        run = cls(path, config)
        try:
            with writing(run.path):
                run._begin(restart)
        except BaseException:
            run.close()
            raise
        return run

    @classmethod
    def open(cls, path):
        """A run made before, to read from.

        Raises:
            RunError: there is no run with weights in the folder.
        """
        run = cls(path, _read_config(Path(path), "--load_model"))
        if run.checkpoints.best_weights() is None:
            raise RunError(
                f"--load_model: the run in {path} has no weights yet (none in "
                f"{run.checkpoints.best}); let it finish its first epoch."
            )
        return run

    @property
    def hparams(self):
        """What of the config is a hyper-parameter: what changes what is computed."""
        return {k: v for k, v in self.config.items() if k not in UNCOMPARED}

    def close(self):
        """Lets other processes train in the folder, as the end of this one does."""
        if self._lock_file:
            self._lock_file.close()

    def restore_flags(self, flags, fixed, preset=()):
        """Gives absl flags the values that the run was started with.

        Args:
            flags: `absl.flags.FLAGS`, parsed.
            fixed: names of the flags that the saved weights depend on.
            preset: names of the flags that only the evaluation depends on; what the
                user gives comes first.

        Raises:
            RunError: the run does not know a fixed flag, or the user gave it another
                value.
        """
        for name in preset:
            if not flags[name].present and name in self.config:
                self._take_flag(flags[name])
        for name in fixed:
            if name not in self.config:
                raise RunError(
                    f"--load_model: {self.path} does not say the model's {name}; it is "
                    "no run of this script, or of an older version: train it again."
                )
            if flags[name].present and flags[name].value != self.config[name]:
                raise RunError(
                    f"--{name} {flags[name].value} does not fit the model in "
                    f"{self.path}, which has {self.config[name]}; leave the flag out."
                )
            self._take_flag(flags[name])
        try:
            flags.validate_all_flags()
        except absl_flags.Error as error:
            raise RunError(
                f"--load_model: {self.path} and the flags do not fit "
                f"({one_line(error)})."
            ) from None

    def _take_flag(self, flag):
        """Gives a flag the run's value, which must be one that the flag may have."""
        value = self.config[flag.name]
        try:
            flag.value = None if value is None else flag.parser.parse(value)
        except (TypeError, ValueError) as error:
            raise RunError(
                f"--load_model: {self.path / CONFIG} has {value!r} for {flag.name} "
                f"({one_line(error)}); the run must be trained again."
            ) from None

    def write_vocabulary(self, vocabulary):
        """Keeps the words behind the ids, one a line."""
        text = "".join(f"{word}\n" for word in vocabulary)
        with writing(self.path):
            files.write(self.path / VOCABULARY, text.encode())

    def read_vocabulary(self):
        """The words behind the ids, a tuple."""
        try:
            text = (self.path / VOCABULARY).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise RunError(
                f"--load_model: {self.path / VOCABULARY} cannot be read ({error})."
            ) from None
        return tuple(text.split("\n")[:-1])

    def log(self, record):
        """Appends a record to the metrics; see `files.to_json`."""
        line = f"{files.to_json(record)}\n".encode()
        with writing(self.path), open(self.path / METRICS, "ab") as file:
            file.write(line)
        self._metrics_digest.update(line)
        self._metrics_bytes += len(line)

    def metrics_mark(self):
        """Where the metrics end, once they are on the disk: `[bytes, digest]`."""
        with writing(self.path), open(self.path / METRICS, "ab") as file:
            os.fsync(file.fileno())
        return [self._metrics_bytes, self._metrics_digest.hexdigest()]

    def rewind_metrics(self, mark=None):
        """Cuts off the metrics that came after a mark; None is the beginning.

        Raises:
            ValueError: what came before the mark is not there any more.
        """
        length, expected = mark or (0, hashlib.sha256().hexdigest())
        with writing(self.path), open(self.path / METRICS, "ab+") as file:
            there = os.fstat(file.fileno()).st_size
            file.seek(0)
            metrics_digest = hashlib.sha256(file.read(min(length, there)))
            if metrics_digest.hexdigest() != expected:
                raise ValueError(f"{METRICS} is not what it was")
            file.truncate(length)
        self._metrics_digest, self._metrics_bytes = metrics_digest, length

    def _begin(self, restart):
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock()
        if restart and self._holds_a_run():
            self._move_aside()
        old = None
        if self._holds_a_run():
            old = _read_config(self.path, "--train_dir")
            self._refuse_another(old)
            before, now = _versions(old), _versions(self.config)
            if before != now:
                print(
                    f"The run was begun with {before} and goes on with {now}: its end "
                    "need not be the same to the last bit."
                )
        for folder in (self.path, self.checkpoints.best, self.checkpoints.last):
            for leftover in folder.glob("aside.*"):  # of a process that was killed
                leftover.unlink()
        if old != self.config:
            content = f"{files.to_json(self.config, indent=2)}\n".encode()
            files.write(self.path / CONFIG, content)

    def _lock(self):
        """Keeps other processes out until this one ends, however it ends."""
        try:
            self._lock_file = files.lock(self.path / LOCK)
        except BlockingIOError:
            raise RunError(
                f"--train_dir: another process is training in {self.path}; wait for "
                "its end, or give another folder."
            ) from None

    def _holds_a_run(self):
        paths = (self.path / CONFIG, self.path / METRICS, self.checkpoints.last)
        return any(path.exists() for path in paths)

    def _move_aside(self):
        place = self.path.resolve()  # where a link leads to; the link stays
        names = (f"{place.name}.{n}" for n in itertools.count(1))
        aside = next(p for p in map(place.with_name, names) if not p.exists())
        place.rename(aside)
        print(f"The run that was in {self.path} is now in {aside}.")
        place.mkdir()
        self._lock()

    def _refuse_another(self, old):
        differences = [
            one_line(f"{name} {before} (now {after})")
            for name, before, after in _compared(old, self.config)
        ]
        if differences:
            raise RunError(
                f"--train_dir: {self.path} holds another run, with "
                f"{', '.join(differences)}; repeat its command to go on with it, "
                "give another folder, or begin anew with --restart, which moves it "
                "aside."
            )


def _read_config(path, flag):
    try:
        return dict(json.loads((path / CONFIG).read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise RunError(
            f"{flag}: {path} holds no run (no {CONFIG}); give the folder of one, or "
            "begin one with --train_dir (and --restart, if something else is there)."
        ) from None
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise RunError(
            f"{flag}: {path / CONFIG} cannot be read ({one_line(error)}); the run must "
            "be trained again, with --restart if in the same folder."
        ) from None


def _compared(old, new):
    """Yields `(name, old value, new value)` of what differs between two configs."""
    flat_old, flat_new = _flat(old), _flat(new)
    for name in sorted({*flat_old, *flat_new}):
        before, after = flat_old.get(name), flat_new.get(name)
        if before == after or (name in GROWING and _is_more(before, after)):
            continue
        if name not in UNCOMPARED:
            yield (name if " " in name else f"--{name}"), before, after


def _flat(config):
    """The flags, and `sha256 of <split>` for the data."""
    flat = {k: v for k, v in config.items() if k not in ("data", "about")}
    data = config.get("data")
    if isinstance(data, dict):
        flat |= {f"sha256 of {split}": value for split, value in data.items()}
    return flat


def _versions(config):
    """The versions in a config, as text."""
    about = config.get("about")
    versions = about.get("versions") if isinstance(about, dict) else None
    if not isinstance(versions, dict):
        return "unknown versions"
    return one_line(", ".join(f"{k} {versions[k]}" for k in sorted(versions)))


def _is_more(before, after):
    return isinstance(before, int) and (after is None or after > before)
