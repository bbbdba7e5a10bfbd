"""Compares this code with numbers recorded from the authors' own program.

    python scripts/check_golden.py [--implementation fast|plain] [FILE.npz ...]

Each file holds the weights and inputs of one training step and every array that the
release computed from them (see tests/golden/README.md). This script builds the model
with these weights, forces the recorded actions, and compares every array under the
`released` recipe. The last column is the largest difference in an array divided by the
largest number in it; float32 rounding stays below 1e-6. The exit code is 0 only if
every array agrees to 1e-5.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this clone's code

from dsc.cli import startup

with startup.backend("tensorflow"):
    import keras
    import tensorflow as tf

import numpy as np

from dsc import losses, recipes
from dsc.cli import program
from dsc.cli.errors import RunError, one_line
from dsc.cli.flags import Group
from dsc.layer import IMPLEMENTATIONS
from dsc.runs import atomic_io
from dsc.training.step import clip
from language_modeling import model as language_model
from number_prediction import model as number_predictor

GOLDEN = Path(__file__).resolve().parents[1] / "tests" / "golden"
TOLERANCE = 1e-5  # of the largest number in an array
MAX_GRAD_NORM = 5.0
LEARNING_RATE = 1.0

group = Group("flags")
FLAGS = group.defined
group.enum("implementation", "auto", IMPLEMENTATIONS, "the time loop that is checked")


def weights_of(model):
    """Lists of variables, by the names of the golden files' weights."""
    cell = model.dsc.cell
    dsc = {
        "dsc_w_x": [cell.kernel],
        "dsc_w_h": [cell.recurrent_kernel],
        "dsc_bias": [cell.bias],
    }
    if cell.n_actions > 1:  # with one state to choose from there is no agent
        dsc |= {
            "policy_fc1_kernel": [cell.agent_hidden.kernel],
            "policy_fc1_bias": [cell.agent_hidden.bias],
            "policy_fc2_kernel": [cell.agent_logits.kernel],
            "policy_fc2_bias": [cell.agent_logits.bias],
        }
    if isinstance(model, number_predictor.NumberPredictor):
        return {**dsc, "out_kernel": [model.out.kernel], "out_bias": [model.out.bias]}
    weights = {
        "embedding": [model.embedding.embeddings],
        **dsc,
        "softmax_w": [model.softmax.kernel],
        "softmax_b": [model.softmax.bias],
    }
    for i, lstm in enumerate(model.lstms):
        # The release keeps input rows and recurrent rows in one matrix.
        weights[f"lstm{i}_kernel"] = [lstm.cell.kernel, lstm.cell.recurrent_kernel]
        weights[f"lstm{i}_bias"] = [lstm.cell.bias]
    return weights


def build(model_class, arrays, **arguments):
    """Builds a model with the weights of a golden file; returns both."""
    model = model_class(
        forget_bias=float(arrays.get("forget_bias", 1.0)),
        agent_units=arrays["w_policy_fc1_bias"].size,
        **arguments,
    )
    model.build()
    weights = weights_of(model)
    for name, variables in weights.items():
        array = arrays[f"w_{name}"]
        if name.endswith("bias"):
            array = array.reshape(variables[0].shape)
        array = array.T if name == "softmax_w" else array
        sizes = np.cumsum([variable.shape[0] for variable in variables])[:-1]
        for variable, part in zip(variables, np.split(array, sizes), strict=True):
            variable.assign(part)
    return model, weights


def named(prefix, weights, model, values):
    """One array per trainable variable, under the golden files' names and layout."""
    by_variable = dict(zip(map(id, model.trainable_variables), values, strict=True))
    arrays = {}
    for name, variables in weights.items():
        parts = [tf.convert_to_tensor(by_variable[id(v)]) for v in variables]
        array = np.concatenate(parts, axis=0)
        if name.endswith("bias"):
            array = array.ravel()
        arrays[f"{prefix}_{name}"] = array.T if name == "softmax_w" else array
    return arrays


def forcing_noise(actions, n_actions):
    """Noise so large at the given actions that they are chosen."""
    return 1e6 * np.eye(n_actions, dtype=np.float32)[actions]


def compute_lm(arrays, implementation):
    """All arrays that a language-model file records, computed by this code."""
    v, _, layers, h, t, k = (int(size) for size in arrays["config"])
    model, weights = build(
        language_model.LanguageModel,
        arrays,
        vocab_size=v,
        rnn_size=h,
        rnn_layers=layers,
        n_actions=k,
        implementation=implementation,
    )
    names = [*(f"lstm{i}" for i in range(layers)), "dsc"]
    state = [[arrays[f"{name}_h0"], arrays[f"{name}_c0"]] for name in names]
    noise = language_model.Noise(forcing_noise(arrays["actions"], k))
    recipe = recipes.LANGUAGE_MODELING["released"]
    with tf.GradientTape() as tape:
        outputs = model(arrays["x"], state, noise)
        loss, metrics = language_model.loss(outputs, arrays["y"], recipe)
    gradients = tape.gradient(loss, model.trainable_variables)
    clipped, norm = clip(gradients, MAX_GRAD_NORM, dense_norm=False)
    log_prob = losses.log_prob(outputs.skips.logits, arrays["actions"])
    computed = {
        "actions": outputs.skips.actions,
        "action_probs": tf.nn.softmax(outputs.skips.logits),
        "outputs": outputs.hidden,
        "logits": outputs.logits,
        "loss_task": metrics["nll"],
        "loss_rl": metrics["rl_loss"],
        # What the release reports as entropy is no entropy, but this.
        "loss_entropy": tf.reduce_mean(log_prob) / k,
        "loss": loss / t,
        "grad_global_norm": norm,
    }
    for name, (h1, c1) in zip(names, outputs.state, strict=True):
        computed |= {f"{name}_h1": h1, f"{name}_c1": c1}
    computed |= named("g", weights, model, gradients)
    keras.optimizers.SGD(LEARNING_RATE).apply(clipped, model.trainable_variables)
    return computed | named("w1", weights, model, model.trainable_variables)


def compute_np(arrays, implementation):
    """All arrays that a number-prediction file records, computed by this code."""
    b, _, h, k = (int(size) for size in arrays["config"])
    model, weights = build(
        number_predictor.NumberPredictor,
        arrays,
        rnn_size=h,
        n_actions=k,
        implementation=implementation,
    )
    # The release does not record the first action, which is never used.
    actions = np.pad(arrays["actions"], ((0, 0), (1, 0)))
    recipe = recipes.NUMBER_PREDICTION["released"]
    with tf.GradientTape() as tape:
        outputs = model(arrays["x"], forcing_noise(actions, k))
        loss, metrics = number_predictor.loss(outputs, arrays["y"], recipe)
    gradients = tape.gradient(loss, model.trainable_variables)
    right = number_predictor.is_right(outputs.logits, arrays["y"])
    computed = {
        "actions": outputs.skips.actions[:, 1:],
        "action_probs": tf.nn.softmax(outputs.skips.logits)[:, 1:],
        "logits": outputs.logits,
        "output": outputs.hidden,
        "rewards": tf.reshape(2.0 * right - 1.0, (b, 1)),
        "accuracy": metrics["accuracy"],
        "loss_task": metrics["nll"],
        "loss_rl": metrics["rl_loss"],
        "loss": loss,
    }
    return computed | named("g", weights, model, gradients)


def compare(computed, expected):
    """The largest difference of two arrays, and its ratio to the largest expected."""
    computed = np.asarray(computed, np.float64)
    expected = np.asarray(expected, np.float64)
    if computed.shape != expected.shape:
        return np.inf, np.inf
    difference = float(np.max(np.abs(computed - expected)))
    largest = float(np.max(np.abs(expected)))
    return difference, difference / (largest or np.finfo(float).tiny)


def check(path, implementation):
    """Prints a table of differences; returns how many arrays differ."""
    try:
        arrays = atomic_io.read_arrays(path)
        compute = compute_lm if len(arrays["config"]) == 6 else compute_np
        computed = compute(arrays, implementation)
        differences = {name: compare(computed[name], arrays[name]) for name in computed}
    except FileNotFoundError:
        raise RunError(f"{path}: there is no such file.") from None
    except (KeyError, ValueError) as error:
        raise RunError(f"{path}: not a golden file ({one_line(error)}).") from None
    print(f"{path} ({implementation} loop)")
    print(f"  {'array':24}{'shape':>16}{'absolute':>12}{'relative':>12}")
    failed = 0
    for name, (absolute, relative) in differences.items():
        mark = "" if relative <= TOLERANCE else "  DIFFERS"  # also for NaN
        failed += bool(mark)
        shape = str(arrays[name].shape)
        print(f"  {name:24}{shape:>16}{absolute:12.1e}{relative:12.1e}{mark}")
    print(f"  {len(computed)} arrays, {failed} beyond {TOLERANCE:g}")
    return failed


def main(paths, implementation):
    paths = paths or sorted(GOLDEN.glob("*.npz"))
    failed = sum(check(path, implementation) for path in paths)
    print(f"FAILED: {failed} arrays differ." if failed else "PASSED: all arrays agree.")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    paths = program.parse(FLAGS, __doc__, takes_arguments=True)[1:]
    program.main(FLAGS, lambda: main(paths, FLAGS.implementation))
