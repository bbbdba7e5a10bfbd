"""Runs of `scripts/train_jax.py` in as few programs as there are shapes of models.

See `language_modeling/many`. Each run has an ordinary run folder.
"""

import contextlib
import copy
import os
import random

import train_jax  # first: it says in one sentence if JAX is missing

import jax  # isort: skip

from dsc.cli import flags as shared_flags
from dsc.cli.errors import RunError, writing
from dsc.distributed.base import Distribution
from dsc.runs.folder import MANY, RunFolder
from dsc.runs.provenance import about
from dsc.training.run import finish
from language_modeling import data, training
from language_modeling import flags as language_flags
from language_modeling.jax_task import JaxLanguageModeling
from language_modeling.many.loop import Member, fit
from language_modeling.many.models import Models
from language_modeling.model import LanguageModel
from sweeping.execution import OUTPUT, Outcome, done

# Flags in which the models of one program may differ.
DIFFERENT = {
    "decay_when",
    "dropout",
    "entropy_weight",
    "eval_actions",
    "learning_rate",
    "learning_rate_decay",
    "lr_threshold",
    "model",
    "rl_weight",
    "seed",
    "shares",
    "train_dir",
}


def run_all(jobs, at_once, started, ended):
    """Does jobs, those of one shape together; see `sweeping.execution.run_all`.

    Args:
        jobs: list of `sweeping.execution.Job` of `scripts/train_jax.py`.
        at_once: largest number of models in one program, or None.
        started, ended: see `sweeping.execution.run_all`.

    Raises:
        RunError: a run cannot be trained so, or its folder cannot be used.
        Interrupted: a signal.
    """
    groups = {}
    for job in jobs:
        values = copy.deepcopy(language_flags.FLAGS)
        values(["", *job.run.flags, f"--train_dir={job.run.folder}"])
        for name in ("data_dir", "cache_dir"):
            if path := values[name].value:
                values[name].value = os.path.join(job.working_dir, path)
        language_flags.apply_recipe(values)
        train_jax.check_flags(values)
        train_jax.limit_gpu_memory(values.gpu_portion)  # the same for all runs
        if values.model == "attention":
            raise RunError(
                "--engine jax: --model attention chooses no state, so it cannot share "
                "a program with the others; train it with --engine processes."
            )
        if (values.eval_actions or "").startswith("mean:"):
            raise RunError(
                f"--engine jax: --eval_actions {values.eval_actions} needs a state for "
                "each pass, which models in one program have not; train with other "
                "actions and evaluate the runs with --load_model."
            )
        shape = {
            k: v for k, v in values.flag_values_dict().items() if k not in DIFFERENT
        }
        groups.setdefault(str(shape), []).append((job, values))
    for group in groups.values():
        size = at_once or len(group)
        for first in range(0, len(group), size):
            with train_jax.translate_memory_errors():
                _train(group[first : first + size], started, ended)
            jax.clear_caches()  # compiled functions keep their models in memory


def _train(group, started, ended):
    """Trains the models of a group, a list of `(job, flags)`, in one program."""
    flags = [values for _, values in group]
    paths, corpus, facts = data.load(flags[0])
    max_epochs, max_steps = flags[0].max_epochs, flags[0].max_steps
    jobs, members = [], []
    with contextlib.ExitStack() as stack:
        for job, values in group:
            started(job.run)
            with writing(job.run.folder, job.folder_flag):
                job.run.folder.mkdir(parents=True, exist_ok=True)
                output = stack.enter_context(
                    open(job.run.folder / OUTPUT, "a", encoding="utf-8")
                )
            values.data_dir = flags[0].data_dir  # `data.load` has found it
            random.seed(values.seed)  # initial weights
            task = training.make_task(
                JaxLanguageModeling, values, corpus, Distribution(), facts
            )
            described = about(
                task.model,
                paths["train"].resolve().parent.name,
                train_jax.accelerator(),
                MANY,
            )
            try:
                folder = RunFolder.begin(
                    job.run.folder,
                    shared_flags.values(values),
                    corpus.digests,
                    described,
                    vocabulary=corpus.vocabulary,
                )
                stack.callback(folder.close)
                members.append(Member.begin(task, folder, output, max_steps))
                jobs.append(job)
            except RunError as error:
                print(error, file=output)
                ended(job.run, Outcome(None, str(error), tries=1))
        if not members:
            return
        tasks = [member.task for member in members]
        models = Models(tasks, _make_model(tasks, flags[0], corpus))
        fit(models, members, max_epochs, flags[0].print_every, max_steps)
        for member in members:
            if not member.error:
                with member.contained():
                    member.folder.checkpoints.load_weights(member.task.model)
        models.set_weights()
        for job, member in zip(jobs, members, strict=True):
            if member.error:
                print(member.error, file=member.output)
                ended(job.run, Outcome(None, member.error, tries=1))
                continue
            with contextlib.redirect_stdout(member.output):
                finish(member.task, member.folder, member.state, max_epochs, max_steps)
            ended(job.run, done(job, tries=1))


def _make_model(tasks, values, corpus):
    """A model of the tasks' shape with as many actions as any of them has."""
    arguments = language_flags.model_arguments(values)
    arguments |= {"choice": "agent", "shares": None}
    arguments["n_actions"] = max(task.model.dsc.n_actions for task in tasks)
    model = LanguageModel(len(corpus.vocabulary), **arguments)
    model.build()
    return model
