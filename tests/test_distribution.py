"""One process, two devices, two processes: the same training."""

import json
import random
import signal
import time
from pathlib import Path

import clusters
import numpy as np
import pytest

from dsc.runs.checkpoints import Checkpoints
from language_modeling.agreement import grammar
from number_prediction import produce_data
from tests.stress import programs
from tests.stress.programs import LANGUAGE, NUMBERS

TWO_CPUS = Path(__file__).with_name("two_cpus.py")
SMALL = ("--rnn_size=7", "--agent_units=5", "--n_actions=3", "--print_every=5")
# Dropout and sampled actions as by default; gradients are clipped.
TASKS = {
    "language": (
        LANGUAGE,
        *("--rnn_layers=1", "--batch_size=6", "--num_unroll_steps=4"),
        *("--max_grad_norm=1", "--data_dir={}/corpus"),
    ),
    "released": (
        LANGUAGE,
        *("--rnn_layers=1", "--batch_size=6", "--num_unroll_steps=4"),
        *("--recipe=released", "--max_grad_norm=0.9", "--data_dir={}/corpus"),
    ),
    "carried": (
        LANGUAGE,
        *("--rnn_layers=0", "--batch_size=6", "--num_unroll_steps=4"),
        *("--carry_memory", "--data_dir={}/corpus"),
    ),
    "numbers": (
        NUMBERS,
        *("--batch_size=10", "--learning_rate=0.01", "--data_dir={}/digits"),
        "--nojit_compile",  # as it is over devices and workers
    ),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    grammar.write(folder / "corpus", seed=3, n_train=300, n_valid=60, n_test=70)
    (folder / "digits").mkdir()
    produce_data.write(
        folder / "digits" / produce_data.file_name(10),
        sequence_length=10,
        sizes={"train": 250, "valid": 90, "test": 80},
        seed=3,
    )
    return folder


def command(task, data, *more):
    script, *arguments = TASKS[task]
    more = more or ("--max_steps=50",)
    return script, *(a.format(data) for a in arguments), *SMALL, *more


def outcome(run):
    """Arrays of the newest state, and the records, of a run."""
    _, arrays = next(Checkpoints(run).states())
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return arrays, [json.loads(line) for line in lines]


def assert_equal_to_rounding(run, expected, tolerance=1e-5):
    """Arrays differ by less than a share of their largest number, metrics likewise."""
    (arrays, records), (expected_arrays, expected_records) = map(
        outcome, (run, expected)
    )
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


def succeeds(result):
    assert result.code == 0, "\n".join(result.err)  # pytest would cut a tuple short
    return result


@pytest.fixture(scope="module")
def alone(data, tmp_path_factory):
    """The run of a task in one process, made when it is first asked for."""
    made = {}

    def run(task):
        if task not in made:
            folder = tmp_path_factory.mktemp(task)
            succeeds(programs.run(folder, *command(task, data), "--train_dir=run"))
            made[task] = folder / "run"
        return made[task]

    return run


@pytest.mark.parametrize(
    "task",
    [
        "language",
        pytest.param("numbers", marks=pytest.mark.slow),
        pytest.param("released", marks=pytest.mark.slow),
        pytest.param("carried", marks=pytest.mark.slow),
    ],
)
def test_two_devices_end_with_losses_and_weights_of_one(tmp_path, data, alone, task):
    flags = ("--strategy=mirrored", "--train_dir=run")
    result = succeeds(
        programs.run(tmp_path, TWO_CPUS, *command(task, data), *flags, timeout=120)
    )
    assert any(line.startswith("Training on 2 replicas, with") for line in result.out)
    assert_equal_to_rounding(tmp_path / "run", alone(task))


@pytest.mark.parametrize("task", ["language", "numbers"])
def test_two_workers_end_with_losses_and_weights_of_one_process(
    tmp_path, data, alone, task
):
    run = tmp_path / "run"
    chief, other = clusters.run(tmp_path, *command(task, data), f"--train_dir={run}")
    succeeds(chief), succeeds(other)
    assert_equal_to_rounding(run, alone(task))
    # Only the chief speaks; each has the whole run.
    assert any(line.startswith("test ") for line in chief.out)
    assert not [line for line in other.out if not line.startswith("Waiting for ")]
    theirs, own = outcome(tmp_path / "run.worker-1"), outcome(run)
    assert theirs[1] == own[1]
    for name, array in own[0].items():
        np.testing.assert_array_equal(theirs[0][name], array)


def test_a_run_may_go_on_with_another_number_of_replicas(tmp_path, data, alone):
    task = command("language", data, "--train_dir=run")
    both = ("--strategy=mirrored",)
    succeeds(programs.run(tmp_path, TWO_CPUS, *task, *both, "--max_steps=22"))
    succeeds(programs.run(tmp_path, *task, "--max_steps=50"))
    assert_equal_to_rounding(tmp_path / "run", alone("language"))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ("--strategy=mirrored", "--batch_size=7"),
            "--batch_size 7 cannot be split over 2 replicas; give a multiple of 2.",
        ),
        (
            ("--strategy=mirrored", "--load_model=run"),
            "--strategy mirrored is for training: --load_model evaluates in one "
            "process, on one device; leave --strategy out.",
        ),
    ],
)
def test_what_cannot_be_split_is_refused(tmp_path, data, flags, message):
    result = programs.run(tmp_path, TWO_CPUS, *command("language", data), *flags)
    assert (result.code, result.err[-1]) == (1, message)


# Accidents


LONG = ("--max_epochs=12", "--save_every=0.1")


@pytest.mark.parametrize(
    ("task", "n_kills"),
    [("numbers", 1), pytest.param("language", 5, marks=pytest.mark.slow)],
)
def test_workers_killed_at_random_end_as_if_nothing_had_been(
    tmp_path, data, task, n_kills
):
    rng = random.Random(n_kills)
    task = command(task, data, *LONG)
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
    chief, other = clusters.run(tmp_path, *task, f"--train_dir={run}")
    assert any(line.startswith("Going on after step") for line in chief.out)
    succeeds(chief), succeeds(other)
    for worker in ("", ".worker-1"):
        arrays, records = outcome(Path(f"{run}{worker}"))
        expected, expected_records = outcome(Path(f"{calm}{worker}"))
        assert records == expected_records
        for name in expected:
            np.testing.assert_array_equal(arrays[name], expected[name])


def wait_for_a_state(process, run):
    """Waits until this run saves one, after its first epoch, that was not there."""
    last, end = run / "last", time.monotonic() + 60
    before = set(last.glob("state-*"))
    while process.is_alive() and time.monotonic() < end:
        if set(last.glob("state-*")) - before - set(last.glob("state-000000-*")):
            return
        time.sleep(0.01)
    raise AssertionError("no state was saved")


def test_a_signal_to_one_worker_ends_all_at_the_same_step(tmp_path, data):
    task = command("numbers", data, "--max_epochs=200", "--save_every=1000")
    run = tmp_path / "run"
    workers = clusters.start(tmp_path, *task, f"--train_dir={run}")
    wait_for_a_state(workers[0], run)
    time.sleep(0.3)
    workers[1].terminate()
    results = clusters.finish(workers, tmp_path)
    assert [result.code for result in results] == [128 + signal.SIGTERM] * 2
    newest = [
        next(Checkpoints(folder).states())[0].name
        for folder in (run, tmp_path / "run.worker-1")
    ]
    assert newest[0] == newest[1]


CONNECTING = """
import socket
from dsc.distributed import multi_worker
from dsc.distributed.cluster import Cluster
multi_worker.CONNECT = 1
with socket.create_server(("localhost", {port})):  # listens, and never answers
    multi_worker.MultiWorkerDistribution(Cluster.from_environment())
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


def test_a_worker_with_other_flags_or_data_is_refused(tmp_path, data):
    own = ((), ("--seed=7", "--EOS=</s>"))
    run = f"--train_dir={tmp_path}/run"
    results = clusters.run(tmp_path, *command("language", data), run, own=own)
    for result in results:
        assert result.code == 1
        message = result.err[-1]
        assert message.startswith(
            "Worker 1 was started with --EOS </s> (the chief: <eos>), --seed 7 (the "
            "chief: 3435), other data"
        )
        assert message.endswith("start all workers with the same flags and data.")
    assert not (tmp_path / "run").exists()
