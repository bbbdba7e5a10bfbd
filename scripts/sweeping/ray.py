"""Runs of a sweep on a Ray cluster; Ray Tune only decides where and when.

All machines must see the project and the sweep's folder at the same paths.
"""

import os
import shutil
import sys
import time

if "RAY_ADDRESS" in os.environ:  # read at import; the default is 20 tries of 41 s
    os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "1")

import ray
from ray import tune

from dsc.cli import signals
from dsc.cli.errors import RunError, one_line
from sweeping.execution import POLL_SECONDS, Execution, Outcome

POLLS = 10  # per step of Tune
RECORDS = ".tune"  # folder of Tune's own files
SETTINGS = {  # this module handles signals and reports itself
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_worker_niceness": "0",  # as for `execution.run_all`
}


class Trial(tune.Trainable):
    """An `Execution`, which Tune starts again elsewhere if a machine is lost."""

    def setup(self, config, jobs):
        self.execution = Execution(jobs[config["job"]])

    def step(self):
        for _ in range(POLLS):
            if outcome := self.execution.poll():
                return {"done": True, "outcome": tuple(outcome)}
            time.sleep(POLL_SECONDS)
        return {"done": False}

    def cleanup(self):
        self.execution.terminate()
        self.execution.wait()


class Signals(tune.Stopper):
    """Stops all trials when a signal arrives."""

    def __call__(self, trial_id, result):
        return False

    def stop_all(self):
        return signals.pending() is not None


class Reporter(tune.Callback):
    """Calls `started` and `ended` for each run."""

    def __init__(self, jobs, started, ended):
        self.jobs, self.started, self.ended = jobs, started, ended

    def on_trial_start(self, iteration, trials, trial, **info):
        self.started(self._run(trial))

    def on_trial_complete(self, iteration, trials, trial, **info):
        if outcome := trial.last_result.get("outcome"):  # none if stopped
            self.ended(self._run(trial), Outcome(*outcome))

    def on_trial_error(self, iteration, trials, trial, **info):
        error = f"its Ray worker died {trial.num_failures} times"
        self.ended(self._run(trial), Outcome(None, error))

    def _run(self, trial):
        return self.jobs[trial.config["job"]].run


def run_all(jobs, at_once, gpus, started, ended):
    """Runs jobs on the machines of a Ray cluster; see `execution.run_all`.

    The cluster is that of `RAY_ADDRESS`, or one that runs on this machine, or else one
    that is started for this sweep. Each job takes as many CPUs as it has threads, and
    `gpus` GPUs, which may be a fraction.
    """
    os.environ |= SETTINGS
    try:
        ray.init(
            include_dashboard=False,
            log_to_driver=False,
            logging_level="error",
            runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join(sys.path)}},
        )
    except (OSError, RuntimeError, ValueError) as error:
        raise RunError(
            f"--engine ray: cannot reach or start a cluster ({one_line(error)}); set "
            "RAY_ADDRESS to that of a cluster, or unset it."
        ) from None
    _warn_if_too_large({"CPU": jobs[0].threads, "GPU": gpus})
    signals.exit_on_signals()  # Ray has replaced the handlers
    folder = jobs[0].run.folder.parents[1]
    shutil.rmtree(folder / RECORDS, ignore_errors=True)
    tuner = tune.Tuner(
        tune.with_resources(
            tune.with_parameters(Trial, jobs=jobs),
            {"cpu": jobs[0].threads, "gpu": gpus},
        ),
        param_space={"job": tune.grid_search(range(len(jobs)))},
        tune_config=tune.TuneConfig(max_concurrent_trials=at_once),
        run_config=tune.RunConfig(
            name=RECORDS,
            storage_path=str(folder),
            stop=Signals(),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            failure_config=tune.FailureConfig(max_failures=jobs[0].retries),
            callbacks=[Reporter(jobs, started, ended)],
            verbose=0,
        ),
    )
    with signals.polled():
        tuner.fit()


def _warn_if_too_large(needs):
    """Prints a warning if no machine has what a run needs; one may join later."""
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    fits = [all(m.get(k, 0) >= n for k, n in needs.items()) for m in machines]
    if not any(fits):
        print(
            f"No machine of the cluster has {needs['CPU']} CPUs (--threads) and "
            f"{needs['GPU']:g} GPUs (--gpus): the runs wait for such a machine.",
            flush=True,
        )
