"""Starts two workers on this machine, each in its own process."""

import contextlib
import json
import random
import socket

from tests.stress import programs

N_WORKERS = 2


def free_addresses(n=N_WORKERS):
    """Addresses that are free, with ports that no outgoing connection gets."""
    addresses = []
    ports = iter(random.SystemRandom().sample(range(20_000, 32_000), 1000))
    while len(addresses) < n:
        address = ("localhost", next(ports))
        with contextlib.suppress(OSError), socket.create_server(address):
            addresses.append(f"localhost:{address[1]}")
    return addresses


def tf_config(addresses, index):
    """The variable `TF_CONFIG` of a worker."""
    cluster = {"worker": addresses}
    return json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})


def start(folder, script, *arguments, own=((), ())):
    """Starts both workers in `folder/worker-0` and `folder/worker-1`.

    Args:
        folder: `pathlib.Path`.
        script, arguments: of both.
        own: further arguments of each.

    Returns:
        List of processes.
    """
    folder.mkdir(exist_ok=True)
    addresses = free_addresses()
    return [
        programs.start(
            folder / f"worker-{i}",
            script,
            "--strategy=multi_worker",
            *arguments,
            *own[i],
            TF_CONFIG=tf_config(addresses, i),
        )
        for i in range(N_WORKERS)
    ]


def finish(started, folder, timeout=120):
    """Waits for both workers; returns a `programs.Result` for each."""
    return [
        programs.finish(process, folder / f"worker-{i}", timeout)
        for i, process in enumerate(started)
    ]


def run(folder, script, *arguments, **own):
    """Runs both workers to their end; see `start` and `finish`."""
    return finish(start(folder, script, *arguments, **own), folder)
