"""Training on one device: what the ways to train on several say of it.

Without TensorFlow.
"""

import contextlib


class Distribution:
    """No distribution: one process, one replica, which has all rows.

    Attributes:
        n_replicas: over all workers.
        n_workers: number of processes.
        worker: this process's number; 0 is the chief, who reports and decides.
    """

    n_replicas = 1
    n_workers = 1
    worker = 0

    @property
    def is_chief(self):
        return self.worker == 0

    def scope(self):
        """Where model and optimizer are to be made."""
        return contextlib.nullcontext()

    def folder(self, path):
        """The folder of this worker's run: the chief's is `path` itself."""
        return path if self.is_chief else f"{path}.worker-{self.worker}"

    def all_gather_object(self, value):
        """What every worker gave: a list, in their order.

        All have to call it. Values are JSON-serialisable; lists come as tuples.
        """
        return [value]

    def shutdown_barrier(self):
        """Waits, before a worker ends, until all are about to.

        All have to call it: whoever ends without it is taken for lost, or cuts off
        another that is still receiving what was exchanged last.
        """

    def run_on_chief(self, function):
        """What a function returns to the chief, who alone calls it."""
        return function()

    @contextlib.contextmanager
    def translate_worker_loss(self):
        """Turns the loss of another worker inside into a `RunError`."""
        yield

    # Within a compiled step:

    def run(self, step, *args):
        """Calls `step` on each replica with the same arguments, all of them whole.

        Its results must be the same on each.
        """
        return step(*args)

    # Within a function that `run` calls:

    def local_rows(self, values):
        """The replica's rows of whole tensors `[batch, ...]`, in any structure."""
        return values

    def join(self, gradients, state, metrics):
        """The whole batch's from those of the replica's rows.

        Args:
            gradients: list of tensors, `tf.IndexedSlices` or None: of the mean over the
                rows.
            state: structure of tensors `[rows, ...]`.
            metrics: dict of float tensors, means over the rows.
        """
        return gradients, state, metrics

    def on_global_batch(self, function):
        """A function of tensors `[batch, ...]` as one of the replica's rows.

        `function(x, *args)` returns a tensor `[batch, ...]` through which no gradient
        goes.
        """
        return function

    def apply(self, optimizer, gradients, variables):
        """Applies gradients that all replicas know."""
        optimizer.apply(gradients, variables)
