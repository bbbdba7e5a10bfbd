"""Reading TF_CONFIG, and waiting for the other workers."""

import json
import socket
import threading
import time

import clusters
import pytest
from small import refused

from dsc.cli.errors import RunError
from dsc.distributed.cluster import Cluster


def config(cluster, job="worker", index=0):
    """The text of `TF_CONFIG`."""
    return json.dumps({"cluster": cluster, "task": {"type": job, "index": index}})


@pytest.mark.parametrize(
    ("job", "place", "place_among_all"),
    [("chief", 0, 0), ("worker", 0, 1), ("worker", 1, 2)],
)
def test_the_chief_comes_first_whatever_the_order(job, place, place_among_all):
    cluster = {"worker": ["bob:22", "[::1]:33"], "chief": ["ann:11"]}
    found = Cluster(config(cluster, job, place))
    assert found.addresses == (("ann", 11), ("bob", 22), ("::1", 33))
    assert found.index == place_among_all


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "is not set"),
        ("{", "Expecting property name"),
        ("[]", "list indices"),
        ('{"cluster": {"worker": ["a:1"]}}', "'task'"),
        (config({"worker": []}), "worker 0, is not in its cluster"),
        (config({"worker": ["a:1"]}, index=1), "worker 1, is not in its cluster"),
        (config({"worker": ["a:1"]}, index=-1), "worker -1, is not in its cluster"),
        (config({"worker": ["a:1"], "ps": ["b:1"]}), "not 'ps'"),
        (config({"worker": ["a:1"]}, job="evaluator"), "not 'evaluator'"),
        (config({"worker": ["a:1", "a:1"]}), "an address is there twice"),
        (config({"worker": ["a"]}), "'a' is not host:port"),
        (config({"worker": ["a:70000"]}), "'a:70000' is not host:port"),
        (config({"worker": [1]}), "'1' is not host:port"),
    ],
)
def test_what_is_no_cluster_is_refused_in_one_sentence(text, reason):
    with refused("--strategy multi_worker: TF_CONFIG", reason, "README.md."):
        Cluster(text)


def pair():
    addresses = clusters.free_addresses()
    return [Cluster(clusters.tf_config(addresses, index)) for index in range(2)]


def test_who_is_missing_is_said_and_waited_for_no_longer_than_the_limit(capsys):
    first, second = pair()
    host, port = second.addresses[1]
    start = time.monotonic()
    with pytest.raises(RunError, match=rf"waited 1 s for worker 1 \({host}:{port}\);"):
        first.wait(limit=1.0)
    assert time.monotonic() - start >= 1.0
    assert capsys.readouterr().out == (
        f"Waiting for worker 1 ({host}:{port}), at most 1 s.\n"
    )


def test_where_there_is_no_ipv6_the_port_is_one_of_ipv4(monkeypatch):
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    first, _ = pair()
    with pytest.raises(RunError, match="waited 0 s"):
        first.wait(limit=0.1)


def test_a_worker_is_waited_for_until_it_is_there():
    first, second = pair()
    waiting = threading.Thread(target=first.wait, kwargs={"limit": 30.0})
    waiting.start()
    waiting.join(0.5)
    assert waiting.is_alive()
    second.wait(limit=30.0)  # finds the first, who waits
    # As TensorFlow's server does after the wait, for those who still look.
    with socket.create_server(("", second.addresses[1][1])):
        waiting.join()


def test_a_port_that_is_taken_is_said():
    first, _ = pair()
    port = first.addresses[0][1]
    with (
        socket.create_server(("", port)),
        pytest.raises(RunError, match=f"port {port} of TF_CONFIG cannot be used"),
    ):
        first.wait(limit=1.0)
