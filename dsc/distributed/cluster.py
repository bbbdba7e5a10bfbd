"""The workers that `TF_CONFIG` names, and waiting for them before TensorFlow does.

    TF_CONFIG='{"cluster": {"worker": ["ann:2222", "bob:2222"]},
                "task": {"type": "worker", "index": 0}}'

TensorFlow waits for a missing worker for an hour and ignores signals meanwhile.
"""

import json
import socket
import time

from dsc.cli.errors import RunError, one_line

JOBS = ("chief", "worker")  # in the order in which TensorFlow numbers their tasks
WAIT = 300.0  # seconds to wait for the others at the start


class Cluster:
    """The addresses of all workers, and the number of this one.

    Args:
        config: text of `TF_CONFIG`, or None.

    Attributes:
        addresses: tuple of `(host, port)`, the chief's first.
        index: number of this worker.

    Raises:
        RunError: the text does not describe a cluster of workers.
    """

    def __init__(self, config):
        if not config:
            raise RunError(
                "--strategy multi_worker: TF_CONFIG, which names all workers and which "
                "of them this one is, is not set; see language_modeling/README.md."
            )
        try:
            tasks, own = _tasks(json.loads(config))
            self.addresses = tuple(_address(str(text)) for text in tasks.values())
            self.index = list(tasks).index(own)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise RunError(
                "--strategy multi_worker: TF_CONFIG does not describe a cluster of "
                f"workers ({one_line(error)}); see language_modeling/README.md."
            ) from None

    def wait(self, limit=WAIT):
        """Listens at this worker's port until all other workers listen at theirs.

        Args:
            limit: seconds.

        Raises:
            RunError: some were not there in time, or this worker's port is in use.
        """
        port = self.addresses[self.index][1]
        both = socket.has_dualstack_ipv6()
        try:
            # All interfaces and both families, as TensorFlow's own server.
            listener = socket.create_server(
                ("", port),
                family=socket.AF_INET6 if both else socket.AF_INET,
                dualstack_ipv6=both,
            )
        except OSError as error:
            raise RunError(
                f"--strategy multi_worker: port {port} of TF_CONFIG cannot be used "
                f"({one_line(error)}); end what uses it, or give another."
            ) from None
        end = time.monotonic() + limit
        with listener:
            missing = self._missing(range(len(self.addresses)))
            if missing:
                names = self._names(missing)
                print(f"Waiting for {names}, at most {limit:.0f} s.", flush=True)
            while missing:
                if time.monotonic() > end:
                    raise RunError(
                        f"--strategy multi_worker: waited {limit:.0f} s for "
                        f"{self._names(missing)}; start every worker with the same "
                        "cluster in TF_CONFIG, and let this machine reach them."
                    )
                time.sleep(0.2)
                missing = self._missing(missing)

    def _missing(self, indices):
        own, all_ = self.index, self.addresses
        return [i for i in indices if i != own and not _listens(all_[i])]

    def _names(self, indices):
        """Text such as `worker 1 (bob:2222)`."""
        return ", ".join(
            "worker {} ({}:{})".format(i, *self.addresses[i]) for i in indices
        )


def _listens(address):
    try:
        socket.create_connection(address, timeout=2.0).close()
    except OSError:
        return False
    return True


def _tasks(config):
    """`(dict from (job, index) to address, own (job, index))`."""
    cluster, own = config["cluster"], config["task"]
    others = sorted({*cluster, own["type"]} - {*JOBS})
    if others:
        raise ValueError(f"only {' and '.join(JOBS)} are known here, not {others[0]!r}")
    tasks = {
        (job, i): address
        for job in JOBS
        for i, address in enumerate(cluster.get(job, ()))
    }
    if len({*tasks.values()}) < len(tasks):
        raise ValueError("an address is there twice")
    own = (own["type"], int(own["index"]))
    if own not in tasks:
        raise ValueError(f"its task, {own[0]} {own[1]}, is not in its cluster")
    return tasks, own


def _address(text):
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 2**16:
        raise ValueError(f"{text!r} is not host:port")
    return host.strip("[]"), int(port)
