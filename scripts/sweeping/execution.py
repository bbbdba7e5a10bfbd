"""Runs training scripts as processes, several at a time, and restarts those that fail.

If another process is training in a run's folder, for instance because its sweep was
killed, that process is waited for and its work is kept.
"""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from dsc.cli import signals
from dsc.cli.errors import RunError, one_line, writing
from dsc.runs import atomic_io
from dsc.runs.folder import LOCK, read_result

ROOT = Path(__file__).resolve().parents[2]
OUTPUT, JOB = "output.txt", "job.json"
POLL_SECONDS = 0.1
SAVE_SECONDS = 60  # how long a process may take to save its state and exit


class Run(NamedTuple):
    """One training run."""

    settings: dict  # from flag to value, as text: the point of the grid
    seed: str
    folder: Path  # absolute

    @property
    def name(self):
        """The path of the folder in that of the sweep."""
        return f"{self.folder.parent.name}/{self.folder.name}"

    @property
    def flags(self):
        """The training script's flags except --train_dir."""
        settings = {**self.settings, "seed": self.seed}
        return [f"--{name}={value}" for name, value in settings.items()]


class Outcome(NamedTuple):
    """How a run ended."""

    scores: dict | None  # from `result.json`; None if the run failed
    error: str | None = None  # one line
    tries: int = 0


class Job(NamedTuple):
    """A run and how to start it."""

    run: Run
    script: str  # path of the training script, from the project's root
    data: dict  # `stamps` of the data
    working_dir: str  # where relative paths in flags start
    threads: int  # of TensorFlow within an operation
    retries: int
    folder_flag: str = "--sweep_dir"  # sets the run's folder; for error messages

    @property
    def computed(self):
        """What determines the result; `job.json` keeps it when the run is done."""
        return {"script": self.script, "flags": self.run.flags, "data": self.data}


class Execution:
    """A `Job` in progress; call `poll` until it returns an `Outcome`."""

    def __init__(self, job):
        self.job = job
        self.tries = 0
        self.process = None

    def poll(self):
        """Starts the process if needed; returns the `Outcome` once it is done."""
        with writing(self.job.run.folder, self.job.folder_flag):
            if self.process:
                return self._outcome()
            self.job.run.folder.mkdir(parents=True, exist_ok=True)
            if not _is_in_use(self.job.run.folder):
                self._start()
        return None

    def terminate(self):
        """Tells the process to save its state and exit."""
        if self.process:
            self.process.terminate()

    def wait(self):
        """Waits for the end of a terminated process."""
        if self.process:
            try:
                self.process.wait(SAVE_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()

    def _outcome(self):
        folder = self.job.run.folder
        code = self.process.poll()
        if code is None:
            return None
        self.process = None
        if code == 0:
            return done(self.job, self.tries)
        if self.tries > self.job.retries:
            output = (folder / OUTPUT).read_text(encoding="utf-8", errors="replace")
            return Outcome(None, _error(code, output), self.tries)
        return None

    def _start(self):
        run = self.job.run
        self.tries += 1
        threads = {"TF_NUM_INTRAOP_THREADS": str(self.job.threads)}
        script = ROOT / self.job.script
        with open(run.folder / OUTPUT, "ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, script, *run.flags, f"--train_dir={run.folder}"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.job.working_dir,
                # Unbuffered, so that the error is the last line.
                env={**os.environ, **threads, "PYTHONUNBUFFERED": "1"},
                # Ctrl-C reaches only the sweep, which signals each process once.
                start_new_session=True,
            )


def run_all(jobs, at_once, started, ended):
    """Runs jobs as processes of this machine until all are done or a signal arrives.

    Calls `started(run)` when a run starts and `ended(run, outcome)` when it ends. After
    a signal, waits until the processes have saved their states.
    """
    waiting, running = list(jobs), []
    with signals.polled():
        try:
            while (waiting or running) and signals.pending() is None:
                while waiting and len(running) < at_once:
                    running.append(Execution(waiting.pop(0)))
                    started(running[-1].job.run)
                for execution in list(running):
                    if outcome := execution.poll():
                        running.remove(execution)
                        ended(execution.job.run, outcome)
                time.sleep(POLL_SECONDS)
        finally:
            for execution in running:
                execution.terminate()
            for execution in running:
                execution.wait()


def stamps(paths):
    """Size, time and inode of each file, which change when the data may have changed.

    The training script, which then starts again, compares the content.
    """
    found = {path.name: path.stat() for path in paths if path.exists()}
    return {name: [s.st_size, s.st_mtime_ns, s.st_ino] for name, s in found.items()}


def done(job, tries):
    """The `Outcome` of a job whose run has just finished; keeps it for `finished`."""
    scores = _scores(read_result(job.run.folder))
    atomic_io.write_json(job.run.folder / JOB, job.computed)
    return Outcome(scores, tries=tries)


def finished(job):
    """The `Outcome` of a job that an earlier sweep finished, or None."""
    try:
        scores = _scores(read_result(job.run.folder))
        computed = json.loads((job.run.folder / JOB).read_text(encoding="utf-8"))
        return Outcome(scores) if computed == job.computed else None
    except (RunError, OSError, ValueError, TypeError, KeyError):
        return None  # the training script checks the folder


def _is_in_use(folder):
    """Whether another process is training in the folder."""
    try:
        atomic_io.lock(folder / LOCK).close()
    except BlockingIOError:
        return True
    return False


def _scores(result):
    """The scores of a result; null stands for a value that is not finite."""
    scores = result["scores"].items()
    return {name: math.inf if x is None else float(x) for name, x in scores}


def _error(code, output):
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    lines = [line for line in map(one_line, output.splitlines()) if line]
    return lines[-1] if lines else f"exit code {code}"
