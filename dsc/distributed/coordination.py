"""What the workers of a training have to agree on: its command, its state, its end.

Each comparison is made by all workers from the same values, so that all go on or all
end with the same sentence. A process alone agrees with itself.
"""

from dsc.cli import signals
from dsc.cli.errors import RunError, one_line
from dsc.cli.flags import with_role

# Each worker may have its own paths and its own share of a GPU's memory.
PER_WORKER_FLAGS = with_role("data", "worker")
VOTE_EVERY = 10  # steps between two votes, each of which takes a message


def check_same_command(distribution, flags, data):
    """Makes sure that all workers were started with the same flags and data.

    Args:
        distribution: `dsc.distributed.mirrored.Distribution`.
        flags: dict from name to value.
        data: dict from split to a digest.

    Raises:
        RunError: they were not; says who differs from the chief, and in what.
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
    """The newest state that every worker can go on from.

    Args:
        distribution: `dsc.distributed.mirrored.Distribution`.
        candidates: iterator over `(label, anything)` of this worker's states, the
            newest first; labels sort as the states do. It is read no further than
            needed.
        n_states: how many states this worker has, damaged ones included.

    Returns:
        The candidate, or None if training has to begin at its beginning.

    Raises:
        RunError: there were states that all held, but a worker's are gone.
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
    # Who dies in the first save leaves one state there and none here; two states are
    # only where all had the first.
    if distribution.n_workers > 1 and candidate is None and max(counts) > 1:
        distribution.shutdown_barrier()
        there = ", ".join(f"worker {i} has {n}" for i, n in enumerate(counts))
        raise RunError(
            f"There is no state that all workers can go on from ({there}): put the "
            "folders of their runs back, copy another worker's folder to where one is "
            "missing, or begin anew with --restart."
        )
    return candidate


class SaveCoordinator:
    """Lets all workers save at the same step, and end at the same step for a signal.

    Args:
        distribution: `dsc.distributed.base.Distribution`.
    """

    def __init__(self, distribution):
        self.distribution = distribution

    def vote(self, due, step, must_vote=False):
        """Polls the signal flag of every worker.

        Args:
            due: whether a save is due by this worker's clock; the chief's counts.
            step: the number of steps that are done.
            must_vote: whether to vote at this step whatever its number.

        Returns:
            `(whether all workers save now, the signal that ends all of them or None)`.
        """
        if self.distribution.n_workers == 1:
            return due, signals.pending()
        if step % VOTE_EVERY and not must_vote:
            return False, None
        votes = self.distribution.all_gather_object([due, signals.pending()])
        numbers = [number for _, number in votes if number is not None]
        return votes[0][0], numbers[0] if numbers else None
