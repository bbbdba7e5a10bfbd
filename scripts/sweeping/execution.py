"""One run of a sweep as a process, tried again when it fails; many of them at once.

A folder that another process trains in is waited for: it may be a run whose parent was
killed, and its training is not lost.
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
TICK = 0.1  # seconds between looks at the processes
PATIENCE = 60  # seconds that a process may take to save its state and end


class Run(NamedTuple):
    """One training.

    Attributes:
        settings: dict from flag to value, as text: the point of the grid.
        seed: as text.
        folder: absolute path of its run folder.
    """

    settings: dict
    seed: str
    folder: Path

    @property
    def name(self):
        """The folder's place in the sweep's."""
        return f"{self.folder.parent.name}/{self.folder.name}"

    @property
    def flags(self):
        """What is computed: the training script's flags but for --train_dir."""
        settings = {**self.settings, "seed": self.seed}
        return [f"--{name}={value}" for name, value in settings.items()]


class Outcome(NamedTuple):
    """How a run ended.

    Attributes:
        scores: dict from name to number, those of `result.json`; None if the run
            failed.
        error: one line, or None.
        tries: how often it was started.
    """

    scores: dict | None
    error: str | None = None
    tries: int = 0


class Job(NamedTuple):
    """What a process needs to know; the same for all runs but for the first.

    Attributes:
        run: `Run`.
        script: path of the training script, from the project's root.
        data: dict, `stamps` of the data.
        working_dir: where relative paths in flags start.
        threads: of TensorFlow within an operation.
        retries: how often a run that failed is started again.
        placed_by: the flag that says where its folder is, for errors.
    """

    run: tuple
    script: str
    data: dict
    working_dir: str
    threads: int
    retries: int
    placed_by: str = "--sweep_dir"

    @property
    def computed(self):
        """What is computed, as `job.json` keeps it of a finished job."""
        return {"script": self.script, "flags": self.run.flags, "data": self.data}


class Execution:
    """A `Job` while it is done; `poll` has to be called now and then."""

    def __init__(self, job):
        self.job = job
        self.tries = 0
        self.process = None

    def poll(self):
        """Starts what is to start; returns the `Outcome` when there is one.

        Raises:
            RunError: the run's folder cannot be written.
        """
        with writing(self.job.run.folder, self.job.placed_by):
            if self.process:
                return self._ended()
            self.job.run.folder.mkdir(parents=True, exist_ok=True)
            if not _in_use(self.job.run.folder):
                self._start()
        return None

    def terminate(self):
        """Tells the process to save its state and end."""
        if self.process:
            self.process.terminate()

    def wait(self):
        """Waits for the end of a process that was told to end."""
        if self.process:
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()

    def _ended(self):
        folder = self.job.run.folder
        code = self.process.poll()
        if code is None:
            return None
        self.process = None
        if code == 0:
            scores = _scores(read_result(folder))
            content = f"{atomic_io.to_json(self.job.computed, indent=2)}\n"
            atomic_io.write(folder / JOB, content.encode())
            return Outcome(scores, tries=self.tries)
        if self.tries > self.job.retries:
            output = (folder / OUTPUT).read_text(encoding="utf-8", errors="replace")
            return Outcome(None, _error(code, output), self.tries)
        return None

    def _start(self):
        run = self.job.run
        self.tries += 1
        threads = {"TF_NUM_INTRAOP_THREADS": str(self.job.threads)}
        with open(run.folder / OUTPUT, "ab") as output:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    ROOT / self.job.script,
                    *run.flags,
                    f"--train_dir={run.folder}",
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.job.working_dir,
                # Unbuffered: what is printed last stands last.
                env={**os.environ, **threads, "PYTHONUNBUFFERED": "1"},
                # Ctrl-C reaches the sweep alone, which tells each process once.
                start_new_session=True,
            )


def run_all(jobs, at_once, started, ended):
    """Does jobs as processes of this machine, until all are done or a signal comes.

    Args:
        jobs: list of `Job`.
        at_once: number of processes.
        started: function of a `Run`, called when it begins.
        ended: function of a `Run` and its `Outcome`.

    Raises:
        Interrupted: a signal came; the processes have saved their states.
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
                time.sleep(TICK)
        finally:
            for execution in running:
                execution.terminate()
            for execution in running:
                execution.wait()


def stamps(paths):
    """What tells cheaply that data may have changed: sizes, times and inodes of files.

    The training script, which is then started again, compares the content, or says
    what is missing.
    """
    found = {path.name: path.stat() for path in paths if path.exists()}
    return {name: [s.st_size, s.st_mtime_ns, s.st_ino] for name, s in found.items()}


def finished(job):
    """The `Outcome` of a job that was done before, or None."""
    try:
        done = result = read_result(job.run.folder)
        if "script" not in result:  # an older version had both in one file
            done = json.loads((job.run.folder / JOB).read_text(encoding="utf-8"))
        same = {name: done[name] for name in job.computed} == job.computed
        return Outcome(_scores(result)) if same else None
    except (RunError, OSError, ValueError, TypeError, KeyError):
        return None  # the training script will say how far it is


def _in_use(folder):
    """Whether a process trains in a folder; see `dsc.runs.folder`."""
    try:
        atomic_io.lock(folder / LOCK).close()
    except BlockingIOError:
        return True
    return False


def _scores(result):
    """The scores of a result; what no float holds is null there."""
    scores = result["scores"].items()
    return {name: math.inf if x is None else float(x) for name, x in scores}


def _error(code, output):
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    lines = [line for line in map(one_line, output.splitlines()) if line]
    return lines[-1] if lines else f"exit code {code}"
