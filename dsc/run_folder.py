"""The folder of a run: its flags, its metrics, its best weights."""

import contextlib
import itertools
import json
import os
from pathlib import Path

CONFIG = "config.json"
METRICS = "metrics.jsonl"
VOCABULARY = "vocabulary.txt"
BEST = "best.weights.h5"


class RunError(ValueError):
    """A run folder cannot be used; the message says why and what to do."""


class RunFolder:
    """Where a run is kept.

    `config.json` holds what the run was started with, `metrics.jsonl` one JSON object
    per report and per epoch, `best.weights.h5` the weights that did best on validation.
    Files are written aside and renamed, so what is there is whole.

    Attributes:
        path: the folder; `create` makes it, `open` expects it.
        config: dict, what `config.json` holds.
    """

    def __init__(self, path, config):
        self.path = Path(path)
        self.config = config

    @classmethod
    def create(cls, path, config, restart=False):
        """Begins a run in a folder that holds none.

        Args:
            path: folder.
            config: JSON-serialisable dict.
            restart: whether a run that the folder already holds is moved aside, to
                `path.1` or the next free number.

        Raises:
            RunError: the folder holds a run already, or cannot be written.
        """
        run = cls(path, config)
        with run._writing():
            if (run.path / CONFIG).exists():
                if not restart:
                    raise RunError(
                        f"--train_dir: {path} holds a run already; give another "
                        f"folder, evaluate that run with --load_model {path}, or "
                        "begin anew with --restart, which moves it aside."
                    )
                names = (f"{run.path.name}.{n}" for n in itertools.count(1))
                aside = next(
                    path for path in map(run.path.with_name, names) if not path.exists()
                )
                run.path.rename(aside)
                print(f"The run that was in {path} is now in {aside}.")
            run.path.mkdir(parents=True, exist_ok=True)
        run._write(CONFIG, json.dumps(config, indent=2) + "\n")
        return run

    @classmethod
    def open(cls, path):
        """A run made before.

        Raises:
            RunError: there is no run with weights in the folder.
        """
        path = Path(path)
        try:
            config = dict(json.loads((path / CONFIG).read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise RunError(
                f"--load_model: {path} holds no run (it has no {CONFIG}); give the "
                "--train_dir of a training that has finished an epoch."
            ) from None
        except (OSError, ValueError, TypeError) as error:
            raise RunError(
                f"--load_model: {path / CONFIG} cannot be read ({error}); the run "
                "must be trained again."
            ) from None
        if not (path / BEST).is_file():
            raise RunError(
                f"--load_model: the run in {path} has no weights yet (no {BEST}); let "
                "it finish its first epoch."
            )
        return cls(path, config)

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
                flags[name].value = self.config[name]
        for name in fixed:
            if name not in self.config:
                raise RunError(
                    f"--load_model: {self.path} does not say the model's {name}; it is "
                    "not a run of this script."
                )
            if flags[name].present and flags[name].value != self.config[name]:
                raise RunError(
                    f"--{name} {flags[name].value} does not fit the model in "
                    f"{self.path}, which has {self.config[name]}; leave the flag out."
                )
            flags[name].value = self.config[name]

    def write_vocabulary(self, vocabulary):
        """Keeps the words behind the ids, one a line."""
        self._write(VOCABULARY, "".join(f"{word}\n" for word in vocabulary))

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
        """Appends a record to the metrics."""
        with self._writing(), open(self.path / METRICS, "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def save_weights(self, model):
        """Keeps the model's weights as the best so far."""
        with self._replacing(BEST) as aside:
            model.save_weights(aside)

    def load_weights(self, model):
        """Loads the best weights into a built model of the same sizes.

        Raises:
            RunError: the file is damaged or belongs to a model of other sizes.
        """
        try:
            model.load_weights(self.path / BEST)
        except Exception as error:  # h5py raises many kinds for damaged files
            reason = " ".join(str(error).split())
            raise RunError(
                f"--load_model: {self.path / BEST} does not fit this model or is "
                f"damaged, and the run must be trained again ({reason})."
            ) from None

    def _write(self, name, text):
        with self._replacing(name) as aside:
            aside.write_text(text, encoding="utf-8")

    @contextlib.contextmanager
    def _replacing(self, name):
        """Gives a path to write to, which replaces the file when all went well."""
        aside = self.path / f"aside.{name}"
        try:
            with self._writing():
                yield aside
                os.replace(aside, self.path / name)
        finally:
            with contextlib.suppress(OSError):
                aside.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _writing(self):
        try:
            yield
        except (OSError, RuntimeError) as error:  # h5py raises both for a full disk
            reason = " ".join(str(getattr(error, "strerror", None) or error).split())
            raise RunError(
                f"--train_dir: cannot write to {self.path} ({reason}); free space or "
                "give another folder."
            ) from None
