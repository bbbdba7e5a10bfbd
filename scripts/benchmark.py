"""Measures the time and memory of a training step.

    python scripts/benchmark.py [--only lm,actions,agent,steps,eval,np,memory,profile]
                                [--repeats 11] [--json FILE] [--plot FILE]

The cases of a group are timed in alternation, A B C A B C ..., in one process, so that
a noisy machine slows all of them alike. The table shows medians, and medians of the
ratios within a turn. The floor of a step is the time of its matrix products alone: the
same shapes and the same order of dependent products. Peak memory is that of a separate
process that takes a few steps, including TensorFlow itself.
"""

import itertools
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this clone's code

from dsc.cli import startup

with startup.backend("tensorflow"):
    from benchmarking.cases import CASES, FLAGS
    from benchmarking.profile import shares

import numpy as np
from benchmarking import plot
from plots import style

from dsc.cli import program
from dsc.cli.errors import RunError, writing
from dsc.cli.flags import Group

# Ratios of the times of two cases, per word, by group. The first ratio of a group
# divides by the case that the printed table compares with.
RATIOS = {
    "lm": {
        "lm_step_over_floor": ("lm", "lm_floor"),
        "lm_step_over_plain": ("lm", "lm_plain"),
        "lm_step_over_keras": ("lm", "lm_keras"),
        "lm_bfloat16_over_float32": ("lm_bfloat16", "lm"),
    },
    "actions": {
        "lm_k20_over_k5_time": ("lm_k20", "lm"),
        "lm_k50_over_k5_time": ("lm_k50", "lm"),
    },
    "agent": {
        "lm_exact_over_reinforce": ("lm_exact", "lm"),
        "lm_states_over_mean": ("lm_states", "lm"),
    },
    "steps": {
        "lm_t70_over_t35_per_word": ("lm_t70", "lm"),
        "lm_t140_over_t35_per_word": ("lm_t140", "lm"),
    },
    "eval": {"eval_over_floor": ("eval", "eval_floor")},
    "np": {
        "np_step_over_floor": ("np", "np_floor"),
        "np_step_over_without_xla": ("np", "np_without_xla"),
    },
}
WORDS = {"lm_t70": 2, "lm_t140": 4}  # words in a step, relative to `lm`
MEMORY_CASES = ("lm", "lm_plain", "lm_keras", "lm_k50", "lm_t70", "lm_t140", "np")
GROUPS = (*RATIOS, "memory", "profile")
NP_BATCHES_PER_EPOCH = 1000
MEMORY_STEPS = 5
WARM_UP = 2

group = Group("measurement", FLAGS)
group.list("only", list(GROUPS), f"groups to measure, of {','.join(GROUPS)}")
group.integer("repeats", 11, "turns per group", 1)
group.path("json", None, "write the figures to this file too")
group.path(
    "plot", None, "plot the groups lm, actions and steps to this .svg or .png file"
)
group.enum("measure_memory", None, CASES, "one case, for this script's own use")


def measure_times(group):
    """Times the cases of a group, prints a table, and returns the figures."""
    ratios = RATIOS[group]
    steps = {}
    for name in dict.fromkeys(itertools.chain(*ratios.values())):
        start = time.perf_counter()
        steps[name] = CASES[name]()
        steps[name]()
        print(f"  {name}: first step after {time.perf_counter() - start:.1f} s")
        for _ in range(WARM_UP):
            steps[name]()
    times = {name: [] for name in steps}
    for _ in range(FLAGS.repeats):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            times[name].append(time.perf_counter() - start)

    reference = next(iter(ratios.values()))[1]
    print(f"  {'case':16}{'median':>11}{'min':>11}{'max':>11}   over {reference}")
    for name, values in times.items():
        milliseconds = [1e3 * f(values) for f in (np.median, min, max)]
        print(
            f"  {name:16}"
            + "".join(f"{value:8.1f} ms" for value in milliseconds)
            + f"{ratio(times, name, reference):12.3f}"
        )
    figures = {
        name: ratio(times, a, b) / WORDS.get(a, 1) for name, (a, b) in ratios.items()
    }
    seconds = float(np.median(times[next(iter(times))]))
    if group == "lm":
        words = FLAGS.batch_size * FLAGS.num_unroll_steps
        figures |= {"lm_step_s": seconds, "lm_words_per_s": words / seconds}
    if group == "np":
        figures["np_epoch_s"] = NP_BATCHES_PER_EPOCH * seconds
    return figures


def ratio(times, a, b):
    """Median of A / B within a turn."""
    return float(np.median(np.array(times[a]) / np.array(times[b])))


def peak_mb(name):
    """Peak memory in MB of a process that takes a few steps of a case."""
    command = [sys.executable, *sys.argv, f"--measure_memory={name}"]
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


def measure_memory():
    megabytes = {name: peak_mb(name) for name in MEMORY_CASES}
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


def main():
    if FLAGS.measure_memory:
        return print_peak_memory(FLAGS.measure_memory)
    if not set(FLAGS.only) <= set(GROUPS):
        raise RunError(
            f"flag --only={','.join(FLAGS.only)}: there is no such group; the groups "
            f"are {', '.join(GROUPS)}."
        )
    if FLAGS.plot:
        style.require("--plot")
        if Path(FLAGS.plot).suffix not in (".png", ".svg"):
            raise RunError("--plot takes a path that ends in .png or .svg.")
        if not {"lm", "actions", "steps"} <= set(FLAGS.only):
            raise RunError("--plot needs the groups lm, actions and steps.")
    for flag in ("json", "plot"):
        if path := FLAGS[flag].value:
            with writing(path, f"--{flag}"), open(path, "ab"):
                pass  # finds out now whether it can be written
    figures = {}
    for name in FLAGS.only:
        print(f"{name}:")
        if name in RATIOS:
            figures |= measure_times(name)
        else:
            figures |= measure_memory() if name == "memory" else measure_profile()
    for name, value in figures.items():
        print(f"{name} = {value:.4g}")
    if FLAGS.json:
        Path(FLAGS.json).write_text(json.dumps(figures, indent=2) + "\n")
    if FLAGS.plot:
        plot.draw(figures, FLAGS.plot, FLAGS.n_actions, FLAGS.num_unroll_steps)


if __name__ == "__main__":
    program.parse(FLAGS, __doc__)
    program.main(FLAGS, main)
