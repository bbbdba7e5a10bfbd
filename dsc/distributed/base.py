"""Training on one device: the interface that the distributed strategies override.

Without TensorFlow.
"""

import contextlib


class Distribution:
    """One process with one replica, which has all rows of a batch.

    Attributes:
        n_replicas: number of replicas of all workers.
        n_workers: number of processes.
        worker: number of this process; 0 is the chief, which evaluates and prints.
    """

    n_replicas = 1
    n_workers = 1
    worker = 0

    @property
    def is_chief(self):
        return self.worker == 0

    def scope(self):
        """Context in which to create the model and the optimizer."""
        return contextlib.nullcontext()

    def folder(self, path):
        """The run folder of this worker: `path` for the chief."""
        return path if self.is_chief else f"{path}.worker-{self.worker}"

    # All workers have to call each of the next three together.

    def all_gather_object(self, value):
        """The values of all workers, a list in their order.

        Values are JSON-serialisable; lists are returned as tuples.
        """
        return [value]

    def run_on_chief(self, function):
        """Calls `function` on the chief only; returns its result on all workers."""
        return function()

    def shutdown_barrier(self):
        """Waits until all workers are about to end.

        Without it the others take a worker that ends for lost.
        """

    @contextlib.contextmanager
    def translate_worker_loss(self):
        """Turns the loss of another worker inside into a `RunError`."""
        yield

    # For a compiled step:

    def run(self, step, *args):
        """Calls `step` on each replica with the same arguments.

        The results must be equal on all replicas.
        """
        return step(*args)

    # For a function that `run` calls:

    def local_rows(self, values):
        """The replica's rows of tensors `[batch, ...]`, in any structure."""
        return values

    def join(self, gradients, state, metrics):
        """Gradients, state and metrics of the batch from those of the replica's rows.

        Args:
            gradients: list of tensors, `tf.IndexedSlices` or None, of the mean over the
                rows.
            state: structure of tensors `[rows, ...]`.
            metrics: dict of float tensors, means over the rows.
        """
        return gradients, state, metrics

    def on_global_batch(self, function):
        """Makes a function of tensors `[batch, ...]` one of the replica's rows.

        `function(x, *args)` returns a tensor `[batch, ...]` without gradient.
        """
        return function

    def apply(self, optimizer, gradients, variables):
        """Applies gradients that `join` returned."""
        optimizer.apply(gradients, variables)
