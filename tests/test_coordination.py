"""Decisions of all workers; each worker is a thread here."""

import os
import queue
import signal
import threading

import pytest

from dsc.cli import signals as interruption
from dsc.cli.errors import RunError
from dsc.cli.signals import Interrupted
from dsc.distributed.base import Distribution
from dsc.distributed.coordination import (
    VOTE_EVERY,
    check_same_command,
    newest_common,
    vote_on_save,
)
from dsc.distributed.multi_worker import MultiWorkerDistribution

N = 3


class Thread(Distribution):
    """A worker that exchanges values with others in the same process."""

    n_workers = N
    has_left = False

    def __init__(self, worker, table, barrier):
        self.worker = worker
        self.table = table
        self.barrier = barrier

    def all_gather_object(self, value):
        self.table[self.worker] = value
        self.barrier.wait(10)
        values = list(self.table)
        self.barrier.wait(10)
        return values

    def shutdown_barrier(self):
        self.has_left = True
        self.barrier.wait(10)


def by_all(function, *arguments):
    """What `function(distribution, *its own arguments)` returns or raises, for each."""
    table, barrier, results = [None] * N, threading.Barrier(N), [None] * N

    def work(worker):
        distribution = Thread(worker, table, barrier)
        try:
            results[worker] = function(distribution, *(a[worker] for a in arguments))
        except RunError as error:
            assert distribution.has_left
            results[worker] = error

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(N)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def check(flags_of_the_last, data_of_the_last):
    flags, data = {"seed": 1, "data_dir": "a"}, {"train": "d1"}
    return by_all(
        check_same_command,
        [flags, flags, {**flags, **flags_of_the_last}],
        [data, data, data_of_the_last],
    )


@pytest.mark.parametrize(
    "own", [{}, {"data_dir": "b"}, {"train_dir": "c"}, {"cache_dir": "d"}]
)
def test_workers_may_have_their_files_elsewhere(own):
    assert check(own, {"train": "d1"}) == [None] * N


@pytest.mark.parametrize(
    ("flags", "data", "difference"),
    [
        ({"seed": 2}, {"train": "d1"}, "--seed 2 (the chief: 1)"),
        ({"n_actions": 3}, {"train": "d1"}, "--n_actions 3 (the chief: None)"),
        ({}, {"train": "d2"}, "other data"),
        ({"seed": 2}, {}, "--seed 2 (the chief: 1), other data"),
    ],
)
def test_all_workers_refuse_one_with_another_command(flags, data, difference):
    for error in check(flags, data):
        assert isinstance(error, RunError)
        assert str(error) == (
            f"Worker 2 was started with {difference}; start all workers with the same "
            "flags and data."
        )


def test_only_in_the_last_exchange_may_others_have_left():
    class Worker(MultiWorkerDistribution):
        def __init__(self, n_exchanges):
            self.n_left = n_exchanges

        def all_gather_object(self, value):
            self.n_left -= 1
            if self.n_left < 0:
                raise RunError("Another worker is lost.")

    Worker(1).shutdown_barrier()
    with pytest.raises(RunError):
        Worker(0).shutdown_barrier()


def states(*labels):
    return iter([(label, f"state {label}") for label in labels])


@pytest.mark.parametrize(
    ("labels", "common"),
    [
        (["321", "321", "321"], "3"),
        (["321", "321", "21"], "2"),  # one died before its save
        (["432", "321", "31"], "3"),
        (["42", "32", "321"], "2"),  # 3 is damaged in one
        (["1", "1", ""], None),  # one died before its first save
        (["", "", ""], None),
    ],
)
def test_all_go_on_from_the_newest_state_that_all_hold(labels, common):
    candidates = [states(*own) for own in labels]
    found = by_all(newest_common, candidates, [len(own) for own in labels])
    assert found == [common and (common, f"state {common}")] * N


@pytest.mark.parametrize("labels", [["321", "321", ""], ["65", "65", "32"]])
def test_a_worker_that_has_lost_its_states_is_refused_by_all(labels):
    candidates = [states(*own) for own in labels]
    counts = [len(own) for own in labels]
    for error in by_all(newest_common, candidates, counts):
        assert isinstance(error, RunError)
        assert f"worker 2 has {counts[2]}). Restore the run" in str(error)


def test_the_chief_alone_decides_when_to_save():
    def votes(dues, step, must_vote=False):
        return by_all(vote_on_save, dues, [step] * N, [must_vote] * N)

    assert votes([True, False, False], VOTE_EVERY) == [(True, None)] * N
    assert votes([False, True, True], VOTE_EVERY) == [(False, None)] * N
    assert votes([True, True, True], VOTE_EVERY + 1) == [(False, None)] * N
    assert votes([True, False, False], VOTE_EVERY + 1, True) == [(True, None)] * N


def test_a_process_alone_saves_when_its_clock_says():
    assert vote_on_save(Distribution(), True, 1) == (True, None)
    assert vote_on_save(Distribution(), False, VOTE_EVERY, True) == (False, None)


def test_a_signal_is_heard_by_all_at_the_next_vote(signals):
    told = queue.SimpleQueue()

    class Pair(Distribution):
        n_workers = 2

        def all_gather_object(self, value):
            told.put(value)
            return [value, [False, None]]

    with pytest.raises(Interrupted) as ended, interruption.polled():
        os.kill(os.getpid(), signal.SIGTERM)
        assert vote_on_save(Pair(), True, VOTE_EVERY - 1) == (False, None)
        assert vote_on_save(Pair(), False, VOTE_EVERY) == (False, signal.SIGTERM)
    assert ended.value.code == 128 + signal.SIGTERM
    assert told.get() == [False, signal.SIGTERM] and told.empty()
    # And by one who had none.
    Pair.all_gather_object = lambda self, value: [[False, None], [False, signal.SIGINT]]
    assert vote_on_save(Pair(), False, VOTE_EVERY) == (False, signal.SIGINT)


def test_a_second_signal_is_heard_at_once(signals):
    with pytest.raises(Interrupted) as ended, interruption.polled():
        assert interruption.pending() is None
        os.kill(os.getpid(), signal.SIGTERM)
        assert interruption.pending() == signal.SIGTERM
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("not heard")
    assert ended.value.code == 128 + signal.SIGINT
    # And the first one, once nobody polls.
    with pytest.raises(Interrupted):
        os.kill(os.getpid(), signal.SIGINT)
