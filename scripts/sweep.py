"""Trains a grid of models, and tabulates mean and deviation over the seeds.

    python scripts/sweep.py --script language_modeling/rl_train.py --seeds 1,2,3 \
        --n_actions 1,5,10 --lamda 0.5,1 --max_epochs 3

Every flag of the training script that changes the result takes a comma-separated list.
Each run has an ordinary run folder in --sweep_dir. The same command resumes the sweep
and retries failed runs.
"""

import importlib
import os
import shlex
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this clone's code

from sweeping import console, execution
from sweeping import grid as sweep_grid
from sweeping import table as sweep_table
from sweeping.console import FLAGS

from dsc.cli import program
from dsc.cli.errors import RunError, writing
from dsc.cli.flags import Group
from language_modeling import corpora

SCRIPTS = {  # and the modules that define their flags
    "language_modeling/rl_train.py": "language_modeling.flags",
    "number_prediction/rl_train.py": "number_prediction.flags",
    "scripts/train_jax.py": "language_modeling.flags",
}

group = Group("sweep", FLAGS)
group.enum("script", next(iter(SCRIPTS)), list(SCRIPTS), "the training script")
group.list("seeds", ["3435"], "--seed of the runs at each point of the grid")
group.check("seeds", bool, "give at least one")
group.path("sweep_dir", "cv-sweep", "folder for the runs and the table")
group.integer("threads", 1, "TensorFlow threads within an operation", 1, 1024)
group.float("gpus", 0.0, "GPUs of each run, may be a fraction; only for ray", 0.0)


def sweep(arguments):
    """Does the runs that `arguments`, flags of the training script, ask for."""
    script = importlib.import_module(SCRIPTS[FLAGS.script])
    grid = sweep_grid.read(arguments, script.FLAGS)
    seeds = sweep_grid.values(FLAGS.seeds, script.FLAGS["seed"])
    runs = sweep_grid.runs(grid, seeds, FLAGS.sweep_dir)
    parsed = sweep_grid.parsed(runs, script.FLAGS)
    run_all = _run_all()
    for run in runs:
        with writing(run.folder, "--sweep_dir"):
            run.folder.mkdir(parents=True, exist_ok=True)

    jobs = [
        execution.Job(
            run,
            FLAGS.script,
            execution.stamps(files_read(script, values)),
            working_dir=os.getcwd(),
            threads=FLAGS.threads,
            retries=FLAGS.retries,
        )
        for run, values in zip(runs, parsed, strict=True)
    ]
    progress = console.Progress(len(runs))
    before = {job.run.name: execution.finished(job) for job in jobs}
    progress.outcomes = {name: outcome for name, outcome in before.items() if outcome}
    print(f"{len(runs)} runs, {len(progress.outcomes)} of them finished before.")
    if jobs := [job for job in jobs if job.run.name not in progress.outcomes]:
        run_all(jobs, progress.started, progress.ended)

    outcomes = [(run, progress.outcomes[run.name]) for run in runs]
    title = f"`{shlex.join([FLAGS.script, *arguments])}`, seeds {', '.join(seeds)}"
    table = sweep_table.rows(grid, outcomes)
    print("\n" + sweep_table.write(Path(FLAGS.sweep_dir), table, title))
    progress.check()


def files_read(script, values):
    """Paths of the files that a run with these flags reads."""
    if "sequence_length" in values:
        return [script.data_path(values)]
    folder = values.data_dir or execution.ROOT / "data" / "ptb"
    try:
        return corpora.find_splits(folder, values.level).values()
    except RunError:  # the embedded corpus, which does not change, or none
        return []


def _run_all():
    """The function that runs jobs, of `(jobs, started, ended)`."""
    if FLAGS.engine != "ray":
        if FLAGS.gpus:
            raise RunError(
                "--gpus is for --engine ray; the runs of this machine share its GPUs: "
                "leave it out, and give --at_once or --gpu_portion."
            )
        return console.run_all(FLAGS.script, FLAGS.threads)
    try:
        from sweeping import ray
    except ImportError as error:
        raise RunError(
            f"--engine ray needs Ray Tune ({error}); install it with "
            "`pip install -e '.[sweep]'`, or leave --engine out."
        ) from None
    return lambda jobs, *report: ray.run_all(jobs, FLAGS.at_once, FLAGS.gpus, *report)


if __name__ == "__main__":
    _, *given = program.parse(FLAGS, __doc__, takes_arguments=True, known_only=True)
    program.main(FLAGS, lambda: sweep(given))
