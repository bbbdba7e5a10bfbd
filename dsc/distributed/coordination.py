"""Decisions that all workers make together: same command, same state, same end.

All workers compare the same values, so that all continue or all end with the same
message.
"""

from dsc.cli import signals
from dsc.cli.errors import RunError, one_line
from dsc.cli.flags import with_role

# Each worker may have its own paths and its own share of a GPU's memory.
PER_WORKER_FLAGS = with_role("data", "worker")
VOTE_EVERY = 10  # steps between two votes, each of which costs a message


def check_same_command(distribution, flags, data):
    """Checks that all workers were started with the same flags and data, two dicts.

    Raises:
        RunError: they were not; the message names the differences.
    """
    shared = {k: v for k, v in flags.items() if k not in PER_WORKER_FLAGS}
    chief, *others = distribution.all_gather_object({"flags": shared, "data": data})
    for worker, other in enumerate(others, 1):
        theirs, ours = other["flags"], chief["flags"]
        differences = [
            one_line(f"--{name} {theirs.get(name)} (the chief: {ours.get(name)})")
            for name in sorted({*theirs, *ours})
            if theirs.get(name) != ours.get(name)
        ]
        if other["data"] != chief["data"]:
            differences.append("other data")
        if differences:
            distribution.shutdown_barrier()
            raise RunError(
                f"Worker {worker} was started with {', '.join(differences)}; start all "
                "workers with the same flags and data."
            )


def newest_common(distribution, candidates, n_states):
    """The newest state that is usable on all workers.

    Args:
        distribution: of this worker.
        candidates: iterator over `(step key, anything)` of this worker's usable states,
            the newest first; it is read as far as necessary.
        n_states: number of this worker's states, damaged ones included.

    Returns:
        The candidate, or None if training starts from the beginning.

    Raises:
        RunError: all workers had a common state, but one has lost it.
    """
    candidate = next(candidates, None)
    while True:
        step_key = candidate[0] if candidate else ""
        offers = distribution.all_gather_object([step_key, n_states])
        oldest = min(step_key for step_key, _ in offers)
        if all(step_key == oldest for step_key, _ in offers):
            break
        while candidate and candidate[0] > oldest:
            candidate = next(candidates, None)
    counts = [n for _, n in offers]
    # If a worker dies in the first save, the others have one state and it has none. Two
    # states imply that all workers had the first one.
    if distribution.n_workers > 1 and candidate is None and max(counts) > 1:
        distribution.shutdown_barrier()
        there = ", ".join(f"worker {i} has {n}" for i, n in enumerate(counts))
        raise RunError(
            f"No checkpoint is usable on all workers ({there}). Restore the run "
            "folders, copy another worker's folder to where one is missing, or start "
            "over with --restart."
        )
    return candidate


def vote_on_save(distribution, due, step, must_vote=False):
    """Lets all workers save at the same step, and stop at the same step on a signal.

    Args:
        distribution: of this worker.
        due: whether a save is due by this worker's clock; the chief's counts.
        step: number of finished steps.
        must_vote: whether to vote at a step that is no multiple of `VOTE_EVERY`.

    Returns:
        `(whether all workers save now, the signal that stops all of them or None)`.
    """
    if distribution.n_workers == 1:
        return due, signals.pending()
    if step % VOTE_EVERY and not must_vote:
        return False, None
    votes = distribution.all_gather_object([due, signals.pending()])
    numbers = [number for _, number in votes if number is not None]
    return votes[0][0], numbers[0] if numbers else None
