"""Measures what a training step costs, beside what it must cost at least.

    python scripts/benchmark.py [--only lm,actions,steps,eval,np,memory,profile]
                                [--repeats 11] [--json FILE] [--plot FILE]

Everything in one group is measured in turn, A B C A B C ..., in one process, so that a
noisy machine is noisy for all of them; the table shows medians, and medians of the
ratios within a turn. The floor of a step is the time of its matrix products alone: the
same shapes, the same library, all tensors distinct, each waiting for those that it
waits for in the step. Peak memory is that of a process of its own that takes a few
steps, TensorFlow itself included.
"""

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this clone's code

from dsc.cli import startup

with startup.backend("tensorflow"):
    from benchmarking.cases import CASES, FLAGS, SIZES
    from benchmarking.profile import shares

import numpy as np
from benchmarking import plot
from plots import style

from dsc.cli import program
from dsc.cli.errors import writing
from dsc.cli.flags import Group

group = Group("measurement", FLAGS)
group.integer("repeats", 11, "turns per group", 1)
group.path("json", None, "write the figures to this file too")
group.path(
    "plot", None, "draw the groups lm, actions and steps to this file (.svg or .png)"
)
group.enum("measure_memory", None, CASES, "one case, for this script's own use")

NP_BATCHES_PER_EPOCH = 1000
MEMORY_STEPS = 5
WARM_UP = 2


def measure(reference, names):
    """Prints the seconds per step of some cases; returns `{case: [repeats]}`.

    Args:
        reference: the case whose time the others are divided by.
        names: of the cases, which are measured in turn.
    """
    steps = {}
    for name in names:
        start = time.perf_counter()
        steps[name] = CASES[name]()
        steps[name]()
        print(f"  {name}: first step after {time.perf_counter() - start:.1f} s")
        for _ in range(WARM_UP):
            steps[name]()
    times = {name: [] for name in names}
    for _ in range(FLAGS.repeats):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            times[name].append(time.perf_counter() - start)
    print(
        f"  {'case':16}{'median':>11}{'min':>11}{'max':>11}"
        f"   over {reference}, turn by turn"
    )
    for name, values in times.items():
        milliseconds = 1e3 * np.array([np.median(values), min(values), max(values)])
        print(
            f"  {name:16}"
            + "".join(f"{value:8.1f} ms" for value in milliseconds)
            + f"{ratio(times, name, reference):12.3f}"
        )
    return times


def ratio(times, a, b):
    """Median of A / B within a turn."""
    return float(np.median(np.array(times[a]) / np.array(times[b])))


def peak_mb(name):
    """Peak memory in MB of a process that takes a few steps of a case."""
    command = [sys.executable, __file__, f"--measure_memory={name}"]
    command += [f"--{flag}={FLAGS[flag].value}" for flag in SIZES]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(output)


def print_peak_memory(name):
    step = CASES[name]()
    for _ in range(MEMORY_STEPS):
        step()
    status = Path("/proc/self/status")
    if status.exists():  # Linux counts the parent's memory into a child's ru_maxrss
        (line,) = (s for s in status.read_text().splitlines() if "VmHWM" in s)
        print(int(line.split()[1]) * 1024 / 1e6)
    else:
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)


def measure_lm():
    times = measure(
        "lm_floor", ["lm", "lm_floor", "lm_plain", "lm_keras", "lm_bfloat16"]
    )
    seconds = float(np.median(times["lm"]))
    return {
        "lm_step_s": seconds,
        "lm_step_over_floor": ratio(times, "lm", "lm_floor"),
        "lm_step_over_plain": ratio(times, "lm", "lm_plain"),
        "lm_step_over_keras": ratio(times, "lm", "lm_keras"),
        "lm_bfloat16_over_float32": ratio(times, "lm_bfloat16", "lm"),
        "lm_words_per_s": FLAGS.batch_size * FLAGS.num_unroll_steps / seconds,
    }


def measure_actions():
    times = measure("lm", ["lm", "lm_k20", "lm_k50"])
    return {
        "lm_k20_over_k5_time": ratio(times, "lm_k20", "lm"),
        "lm_k50_over_k5_time": ratio(times, "lm_k50", "lm"),
    }


def measure_steps():
    times = measure("lm", ["lm", "lm_t70", "lm_t140"])
    return {
        "lm_t70_over_t35_per_word": ratio(times, "lm_t70", "lm") / 2,
        "lm_t140_over_t35_per_word": ratio(times, "lm_t140", "lm") / 4,
    }


def measure_eval():
    times = measure("eval_floor", ["eval", "eval_floor"])
    return {"eval_over_floor": ratio(times, "eval", "eval_floor")}


def measure_np():
    times = measure("np_floor", ["np", "np_floor", "np_without_xla"])
    return {
        "np_step_over_floor": ratio(times, "np", "np_floor"),
        "np_step_over_without_xla": ratio(times, "np", "np_without_xla"),
        "np_epoch_s": NP_BATCHES_PER_EPOCH * float(np.median(times["np"])),
    }


def measure_memory():
    names = ("lm", "lm_plain", "lm_keras", "lm_k50", "lm_t70", "lm_t140", "np")
    megabytes = {name: peak_mb(name) for name in names}
    for name, value in megabytes.items():
        print(f"  {name:16}{value:9.0f} MB")
    return {
        **{f"{name}_peak_mb": value for name, value in megabytes.items()},
        "lm_k50_over_k5_memory": megabytes["lm_k50"] / megabytes["lm"],
    }


def measure_profile():
    step = CASES["lm"]()
    for _ in range(1 + WARM_UP):
        step()
    parts = shares(step)
    for part, share in parts.items():
        print(f"  {part:20}{share:7.1%}")
    return {f"lm_share_{part.replace(' ', '_')}": s for part, s in parts.items()}


MEASUREMENTS = {
    "lm": measure_lm,
    "actions": measure_actions,
    "steps": measure_steps,
    "eval": measure_eval,
    "np": measure_np,
    "memory": measure_memory,
    "profile": measure_profile,
}


def main():
    if FLAGS.measure_memory:
        return print_peak_memory(FLAGS.measure_memory)
    if FLAGS.plot:
        style.require("--plot")
        if Path(FLAGS.plot).suffix not in (".png", ".svg"):
            sys.exit("--plot takes a path that ends in .png or .svg.")
        if not {"lm", "actions", "steps"} <= set(FLAGS.only):
            sys.exit("--plot needs the groups lm, actions and steps.")
    for flag in ("json", "plot"):
        if path := FLAGS[flag].value:
            with writing(path, f"--{flag}"):
                Path(path).touch()
    figures = {}
    for group in FLAGS.only:
        print(f"{group}:")
        figures |= MEASUREMENTS[group]()
    for name, value in figures.items():
        print(f"{name} = {value:.4g}")
    if FLAGS.json:
        Path(FLAGS.json).write_text(json.dumps(figures, indent=2) + "\n")
    if FLAGS.plot:
        plot.draw(figures, FLAGS.plot, FLAGS.n_actions, FLAGS.num_unroll_steps)


if __name__ == "__main__":
    group.list(
        "only", list(MEASUREMENTS), f"groups to measure, of {','.join(MEASUREMENTS)}"
    )
    group.check("only", set(MEASUREMENTS).issuperset, "there is no such group")
    program.parse(FLAGS, __doc__)
    program.main(FLAGS, main)
