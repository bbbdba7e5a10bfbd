"""One process, two devices, two processes: the same training."""

import random
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import clusters
import numpy as np
import pytest
from small import metrics, succeeds

from dsc.cli.errors import RunError
from dsc.distributed import strategy
from dsc.runs.checkpoints import Checkpoints
from tests.stress import programs
from tests.stress.programs import LANGUAGE, NUMBERS

TWO_CPUS = Path(__file__).with_name("two_cpus.py")
SMALL = ("--rnn_size=7", "--agent_units=5", "--n_actions=3", "--print_every=5")
CORPUS = ("--data_dir={}/corpus", "--batch_size=6", "--num_unroll_steps=4")
# Dropout and sampled actions as by default; gradients are clipped.
TASKS = {
    "language": (LANGUAGE, *CORPUS, "--rnn_layers=1", "--max_grad_norm=1"),
    "released": (
        LANGUAGE,
        *CORPUS,
        *("--rnn_layers=1", "--max_grad_norm=0.9", "--recipe=released"),
    ),
    "carried": (LANGUAGE, *CORPUS, "--rnn_layers=0", "--carry_memory"),
    "numbers": (
        NUMBERS,
        *("--data_dir={}/digits", "--batch_size=10", "--learning_rate=0.01"),
        "--fresh_data",
        "--nojit_compile",  # as with several devices or workers
    ),
}
ALL_TASKS = ["language"]
ALL_TASKS += [pytest.param(task, marks=pytest.mark.slow) for task in [*TASKS][1:]]


def command(task, data, *more):
    script, *arguments = TASKS[task]
    return script, *(a.format(data) for a in arguments), *SMALL, *more


def outcome(run):
    """Arrays of the newest state, and the records, of a run."""
    _, arrays = next(Checkpoints(run).states())
    del arrays["seconds"]
    return arrays, metrics(run)


def assert_equal_to_rounding(found, expected, tolerance=1e-5):
    """Arrays differ by less than a share of their largest number, metrics likewise."""
    (arrays, records), (expected_arrays, expected_records) = found, expected
    assert arrays.keys() == expected_arrays.keys()
    for name in arrays.keys() - {"counts"}:
        scale = np.abs(expected_arrays[name]).max(initial=0.0)
        np.testing.assert_allclose(
            arrays[name], expected_arrays[name], 0, tolerance * scale, err_msg=name
        )
    for record, expected_record in zip(records, expected_records, strict=True):
        for name, value in record.items():
            np.testing.assert_allclose(
                value, expected_record[name], tolerance, tolerance, err_msg=name
            )


STEPS = "--max_steps=50"


@pytest.fixture(scope="module")
def alone(data, tmp_path_factory):
    """A function of a task: the outcome of 50 steps in one process."""
    made = {}

    def run(task):
        if task not in made:
            folder = tmp_path_factory.mktemp(task)
            arguments = command(task, data, "--train_dir=run", STEPS)
            succeeds(programs.run(folder, *arguments))
            made[task] = outcome(folder / "run")
        return made[task]

    return run


def run_on_two_devices(folder, task, data, steps):
    arguments = command(task, data, "--strategy=mirrored", "--train_dir=run", steps)
    return succeeds(programs.run(folder, TWO_CPUS, *arguments, timeout=120))


@pytest.mark.parametrize("task", ALL_TASKS)
def test_two_devices_end_with_losses_and_weights_of_one(tmp_path, data, alone, task):
    result = run_on_two_devices(tmp_path, task, data, STEPS)
    assert any(line.startswith("Training on 2 replicas, with") for line in result.out)
    assert_equal_to_rounding(outcome(tmp_path / "run"), alone(task))


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_two_workers_end_with_losses_and_weights_of_one_process(
    tmp_path, data, alone, task
):
    run = tmp_path / "run"
    arguments = command(task, data, STEPS, f"--train_dir={run}")
    chief, other = map(succeeds, clusters.run(tmp_path, *arguments))
    assert_equal_to_rounding(outcome(run), alone(task))
    # Only the chief speaks; each has the whole run.
    assert any(line.startswith("test ") for line in chief.out)
    assert not [line for line in other.out if not line.startswith("Waiting for ")]
    np.testing.assert_equal(outcome(tmp_path / "run.worker-1"), outcome(run))


@pytest.mark.slow
def test_a_run_may_go_on_with_another_number_of_replicas(tmp_path, data, alone):
    run_on_two_devices(tmp_path, "language", data, "--max_steps=22")
    arguments = command("language", data, "--train_dir=run", STEPS)
    succeeds(programs.run(tmp_path, *arguments))
    assert_equal_to_rounding(outcome(tmp_path / "run"), alone("language"))


def test_a_batch_that_cannot_be_split_is_refused(monkeypatch):
    two_replicas = SimpleNamespace(n_replicas=2)
    monkeypatch.setattr(strategy, "MirroredDistribution", lambda _: two_replicas)
    flags = SimpleNamespace(strategy="mirrored", batch_size=7, load_model=None)
    with pytest.raises(RunError, match="--batch_size 7 cannot be split over 2 replica"):
        strategy.make_distribution(flags)


# Accidents


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "n_kills", "n_epochs"), [("numbers", 1, 30), ("language", 2, 8)]
)
def test_workers_killed_at_random_end_as_if_nothing_had_been(
    tmp_path, data, task, n_kills, n_epochs
):
    rng = random.Random(n_kills)
    task = command(task, data, f"--max_epochs={n_epochs}", "--save_every=0.1")
    calm, run = tmp_path / "calm", tmp_path / "run"
    for result in clusters.run(calm, *task, f"--train_dir={calm}"):
        succeeds(result)
    for _ in range(n_kills):
        workers = clusters.start(tmp_path, *task, f"--train_dir={run}")
        victim = rng.randrange(2)
        wait_for_a_state(workers[victim], run)
        time.sleep(rng.uniform(0.0, 0.5))
        workers[victim].kill()
        killed = time.monotonic()
        results = clusters.finish(workers, tmp_path)
        assert time.monotonic() - killed < 60
        assert results[victim].code == -signal.SIGKILL
        survivor = results[1 - victim]
        assert survivor.code == 1
        assert survivor.err[-1].startswith("Another worker is lost (")
        assert "Traceback" not in "".join(survivor.err)
    chief, _ = map(succeeds, clusters.run(tmp_path, *task, f"--train_dir={run}"))
    assert any(line.startswith("Going on after step") for line in chief.out)
    for worker in ("", ".worker-1"):
        np.testing.assert_equal(
            outcome(Path(f"{run}{worker}")), outcome(Path(f"{calm}{worker}"))
        )


def wait_for_a_state(process, run):
    """Waits until this run saves one, after its first epoch, that was not there."""
    last, end = run / "last", time.monotonic() + 60
    before = set(last.glob("state-*"))
    while process.is_alive() and time.monotonic() < end:
        if set(last.glob("state-*")) - before - set(last.glob("state-000000-*")):
            return
        time.sleep(0.01)
    raise AssertionError("no state was saved")


@pytest.mark.slow
def test_a_signal_to_one_worker_ends_all_at_the_same_step(tmp_path, data):
    task = command("numbers", data, "--max_epochs=2000", "--save_every=1000")
    run = tmp_path / "run"
    workers = clusters.start(tmp_path, *task, f"--train_dir={run}")
    wait_for_a_state(workers[0], run)
    time.sleep(0.3)
    workers[1].terminate()
    results = clusters.finish(workers, tmp_path)
    assert [result.code for result in results] == [128 + signal.SIGTERM] * 2
    np.testing.assert_equal(outcome(run), outcome(tmp_path / "run.worker-1"))


CONNECTING = """
import os, socket
from dsc.distributed import multi_worker
from dsc.distributed.cluster import Cluster
multi_worker.CONNECT = 1
with socket.create_server(("localhost", {port})):  # listens, and never answers
    multi_worker.MultiWorkerDistribution(Cluster(os.environ["TF_CONFIG"]))
"""


@pytest.mark.parametrize("worker", [0, 1])
def test_who_waits_for_a_worker_that_never_connects_says_so(tmp_path, worker):
    addresses = clusters.free_addresses()
    port = addresses[1 - worker].rpartition(":")[2]
    (tmp_path / "connecting.py").write_text(CONNECTING.format(port=port))
    script, config = tmp_path / "connecting.py", clusters.tf_config(addresses, worker)
    process = programs.start(tmp_path, script, TF_CONFIG=config)
    result = programs.finish(process, tmp_path, timeout=60)
    assert (result.code, result.err[-1]) == (
        -signal.SIGKILL,
        "Not all workers have connected within 1 s; see what the others said, then "
        "start all workers again with their commands.",
    )


@pytest.mark.slow
def test_a_worker_with_other_flags_or_data_is_refused(tmp_path, data):
    own = ((), ("--seed=7", "--EOS=</s>"))
    run = f"--train_dir={tmp_path}/run"
    results = clusters.run(tmp_path, *command("language", data), run, own=own)
    for result in results:
        assert (result.code, result.err[-1].partition(" with ")[2]) == (
            1,
            "--EOS </s> (the chief: <eos>), --seed 7 (the chief: 3435), other data; "
            "start all workers with the same flags and data.",
        )
    assert not (tmp_path / "run").exists()
