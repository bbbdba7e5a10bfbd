"""The training loop of many models: what `dsc.training.loop` is for one."""

import contextlib
import dataclasses
import time
from typing import Any, TextIO

import jax
import numpy as np
from jax import numpy as jnp

from dsc.cli import signals
from dsc.cli.errors import RunError
from dsc.runs.train_state import State
from dsc.training.loop import end_epoch
from dsc.training.report import epoch_line
from dsc.training.resume import Saver, resume
from language_modeling.many.models import select


@dataclasses.dataclass(eq=False)
class Member:
    """One of the models, with a run folder of its own.

    Attributes:
        task: `JaxLanguageModeling`.
        folder: `dsc.runs.folder.RunFolder`.
        output: file for what is printed about the model.
        state: `dsc.runs.train_state.State`, up to date between epochs.
        saver: `dsc.training.resume.Saver`.
        error: why its training failed, or None.
    """

    task: Any
    folder: Any
    output: TextIO
    state: State
    saver: Saver
    error: str | None = None

    @classmethod
    def begin(cls, task, folder, output, max_steps):
        """A member at the beginning of its run, or where its run was interrupted."""
        task.optimizer.build(task.model.trainable_variables)
        with contextlib.redirect_stdout(output):
            state, path = resume(task, folder, max_steps)
        saver = Saver(task, folder, state, path, every=0.0)
        return cls(task, folder, output, state, saver)

    @contextlib.contextmanager
    def contained(self):
        """An error inside ends the training of this model, and not of the others."""
        try:
            with self.saver.explain_divergence():
                yield
        except RunError as error:
            self.error = str(error)


def fit(models, members, max_epochs, print_every, max_steps=None):
    """Trains all models; each gets the weights that it would get alone.

    The runs are saved after each epoch. A signal ends the program, and the epoch that
    it interrupts is repeated when the runs are resumed.

    Args:
        models: `Models`, with the weights of the members' tasks.
        members: list of `Member`, in the order of the models.
        max_epochs, print_every, max_steps: see `dsc.training.loop.fit`.

    Raises:
        Interrupted: a signal.
    """
    with signals.polled():
        while active := _next_members(members, max_epochs, max_steps):
            start = time.monotonic()
            step, epoch = active[0].state.step, active[0].state.epochs + 1
            before = None
            if len(active) < len(members):  # those that have ended must not change
                before = jax.tree.map(jnp.copy, models.weights)
            _train_epoch(models, members, active, print_every, max_steps)
            if before is not None:
                models.weights = select(
                    [member in active for member in members], models.weights, before
                )
            for i, member in enumerate(members):
                if member in active and not member.error:
                    models.scatter(i)
                    with member.contained():
                        _end_epoch(member, time.monotonic() - start)
            seconds = time.monotonic() - start
            done = max(member.state.step for member in active) - step
            speed = len(active) * done / seconds
            print(
                f"epoch {epoch}: {len(active)} models, "
                f"{speed:.1f} steps of one model per second",
                flush=True,
            )


def _next_members(members, max_epochs, max_steps):
    """The models to train next: those that are furthest behind."""
    unfinished = [
        member
        for member in members
        if not (member.error or member.state.why_finished(max_epochs, max_steps))
    ]
    behind = min((member.state.step for member in unfinished), default=0)
    return [member for member in unfinished if member.state.step == behind]


def _train_epoch(models, members, active, print_every, max_steps):
    n_batches = active[0].task.n_batches
    print_every = min(print_every, n_batches)
    step, position, state = active[0].state.step, 0, models.initial_state()
    while position < n_batches and step != max_steps:
        if (number := signals.pending()) is not None:
            raise signals.Interrupted(number)
        n = min(print_every, n_batches - position)
        n = n if max_steps is None else min(n, max_steps - step)
        state, means = models.train(state, step, position, n)
        step, position = step + n, position + n
        for i, member in enumerate(members):
            if member in active and not member.error:
                member.state.step, member.state.position = step, position
                with member.contained():
                    _record(member, {k: v[i] for k, v in means.items()}, print_every)


def _record(member, means, print_every):
    """Logs the mean metrics of some steps."""
    task, state = member.task, member.state
    means["actions"] = means["actions"][-task.model.dsc.n_actions :]
    state.means.add(state.step - 1, means)
    state.means.read()
    if state.position % print_every == 0:
        record = {"step": state.step, "epoch": state.epochs + 1}
        record |= {"learning_rate": task.learning_rate}
        means = task.record(state.means.take())
        member.folder.log(
            record | {k: np.asarray(v).tolist() for k, v in means.items()}
        )


def _end_epoch(member, seconds):
    task, state = member.task, member.state
    scores, score = task.evaluate()

    def show_scores(scores):
        print(epoch_line(task, state, scores, seconds), file=member.output, flush=True)

    end_epoch(task, member.folder, state, scores, score, show_scores)
    member.saver.save()
