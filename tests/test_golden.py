"""scripts/check_golden.py passes what is right and names what is wrong.

`Release` is the authors' program, written from the description of the golden files. It
makes files of sizes that the recorded ones do not have, and is itself compared with the
recorded ones.
"""

from pathlib import Path

import check_golden as script
import numpy as np
import pytest
import tensorflow as tf

from dsc.cli.errors import RunError
from tests.stress import programs

SCRIPT = programs.ROOT / "scripts" / "check_golden.py"
GOLDEN = Path(__file__).resolve().parent / "golden"
FILES = ("lm_a.npz", "lm_b.npz", "np_a.npz")


def load(path):
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


# The authors' program


def pick(values, index):
    return tf.gather(values, index, batch_dims=index.ndim)


def lstm_step(x, c, h, w_x, w_h, bias, forget_bias):
    i, j, f, o = tf.split(x @ w_x + h @ w_h + bias, 4, axis=-1)
    c = c * tf.sigmoid(f + forget_bias) + tf.sigmoid(i) * tf.tanh(j)
    return c, tf.tanh(c) * tf.sigmoid(o)


class Release:
    """What the authors' program computes from weights, inputs and actions, in float64.

    An operation at a time, with TensorFlow's gradients of each.
    """

    def __init__(self, arrays):
        self.arrays = {
            name: array.astype(float) if array.dtype.kind == "f" else array
            for name, array in arrays.items()
        }
        self.w = {
            name[2:]: tf.constant(array)
            for name, array in self.arrays.items()
            if name.startswith("w_")
        }
        self.forget_bias = float(arrays.get("forget_bias", 1.0))
        self.is_lm = len(arrays["config"]) == 6

    def dsc(self, x, c, h, actions):
        """The DSC-LSTM on `[batch, time, n]`: outputs, log of policy, final c and h."""
        w, n_actions = self.w, len(self.w["policy_fc2_bias"])
        memory = [(tf.zeros_like(c), tf.zeros_like(h))] * n_actions  # oldest first
        outputs, policy = [], []
        for t in range(x.shape[1]):
            if t == 0:
                seen = h
            else:
                memory = [*memory[1:], (c, h)]
                seen = sum(stored for _, stored in memory) / n_actions
                # [K, c or h, batch, units] -> [batch, K, c or h, units]
                stored = tf.transpose(tf.stack(memory), (2, 0, 1, 3))
                c, h = tf.unstack(pick(stored, actions[:, t]), axis=1)
            observed = tf.stop_gradient(tf.concat([x[:, t], seen], axis=1))
            hidden = tf.tanh(observed @ w["policy_fc1_kernel"] + w["policy_fc1_bias"])
            logits = hidden @ w["policy_fc2_kernel"] + w["policy_fc2_bias"]
            policy.append(tf.nn.log_softmax(logits))
            weights = w["dsc_w_x"], w["dsc_w_h"], w["dsc_bias"]
            c, h = lstm_step(x[:, t], c, h, *weights, self.forget_bias)
            outputs.append(h)
        return tf.stack(outputs, 1), tf.stack(policy, 1), c, h

    def language_model(self):
        """`(loss * T, everything that a file records of the forward pass)`."""
        w, a = self.w, self.arrays
        n_steps, n_actions = a["x"].shape[1], int(a["config"][-1])
        x, states = tf.gather(w["embedding"], a["x"]), {}
        for layer in range(int(a["config"][2])):
            kernel, bias = w[f"lstm{layer}_kernel"], w[f"lstm{layer}_bias"]
            w_x, w_h = tf.split(kernel, 2)
            c, h = a[f"lstm{layer}_c0"], a[f"lstm{layer}_h0"]
            outputs = []
            for t in range(n_steps):
                c, h = lstm_step(x[:, t], c, h, w_x, w_h, bias, 1.0)
                outputs.append(h)
            x = tf.stack(outputs, axis=1)
            states |= {f"lstm{layer}_c1": c, f"lstm{layer}_h1": h}
        x, policy, c, h = self.dsc(x, a["dsc_c0"], a["dsc_h0"], a["actions"])
        states |= {"dsc_c1": c, "dsc_h1": h}
        logits = x @ tf.transpose(w["softmax_w"]) + w["softmax_b"]
        log_words = pick(tf.nn.log_softmax(logits), a["y"])
        log_pi = pick(policy, a["actions"])
        rewards = tf.stop_gradient(tf.exp(log_words))
        to_go = tf.cumsum(rewards, axis=1, reverse=True)
        task = -tf.reduce_mean(log_words)
        rl = -0.3 * tf.reduce_mean(log_pi * to_go)
        total = task * n_steps + rl
        return total, states | {
            "actions": a["actions"],
            "action_probs": tf.exp(policy),
            "outputs": x,
            "logits": logits,
            "loss_task": task,
            "loss_rl": rl,
            "loss_entropy": tf.reduce_mean(log_pi) / n_actions,
            "loss": total / n_steps,
        }

    def number_prediction(self):
        """`(loss, everything that a file records of the forward pass)`."""
        w, a = self.w, self.arrays
        zeros = np.zeros((len(a["x"]), len(w["dsc_w_h"])))
        actions = np.pad(a["actions"], ((0, 0), (1, 0)))  # the first is never used
        _, policy, _, h = self.dsc(np.eye(10)[a["x"]], zeros, zeros, actions)
        policy = policy[:, 1:]
        logits = h @ w["out_kernel"] + w["out_bias"]
        right = np.argmax(logits, axis=1) == a["y"]
        rewards = np.where(right, 1.0, -1.0)[:, None]
        answers = tf.exp(pick(tf.nn.log_softmax(logits), a["y"]))
        task = -tf.reduce_mean(tf.math.log(answers + 1e-7)) / 10
        pi = tf.exp(pick(policy, a["actions"]))
        rl = -tf.reduce_mean(tf.math.log(pi + 1) * rewards)
        return task + rl, {
            "actions": a["actions"],
            "action_probs": tf.exp(policy),
            "logits": logits,
            "output": h,
            "rewards": rewards,
            "accuracy": np.mean(right),
            "loss_task": task,
            "loss_rl": rl,
            "loss": task + rl,
        }

    def record(self):
        """Everything that a file records."""
        with tf.GradientTape() as tape:
            tape.watch(self.w)
            total, recorded = (
                self.language_model() if self.is_lm else self.number_prediction()
            )
        gradients = tape.gradient(total, self.w, unconnected_gradients="zero")
        # That of the embedding has a row for each word that was read.
        norm = tf.linalg.global_norm([*gradients.values()])
        gradients = {name: tf.convert_to_tensor(g) for name, g in gradients.items()}
        recorded |= {f"g_{name}": g for name, g in gradients.items()}
        if self.is_lm:
            recorded["grad_global_norm"] = norm
            step = min(1.0, 5.0 / norm)
            recorded |= {f"w1_{n}": self.w[n] - step * g for n, g in gradients.items()}
        return {name: np.asarray(array) for name, array in recorded.items()}


def draw(config, agent_units, scale, seed, forget_bias=0.3, repeated_target=None):
    """A golden file with random weights and inputs, computed by `Release`."""
    is_lm = len(config) == 6
    if is_lm:
        n_words, batch, layers, units, n_steps, n_actions = config
    else:
        batch, n_steps, units, n_actions = config
        n_words, layers = 10, 0
    features = units if is_lm else n_words
    shapes = {
        "w_dsc_w_x": (features, 4 * units),
        "w_dsc_w_h": (units, 4 * units),
        "w_dsc_bias": (4 * units,),
        "w_policy_fc1_kernel": (features + units, agent_units),
        "w_policy_fc1_bias": (agent_units,),
        "w_policy_fc2_kernel": (agent_units, n_actions),
        "w_policy_fc2_bias": (n_actions,),
    }
    if is_lm:
        shapes |= {"w_embedding": (n_words, units)}
        shapes |= {"w_softmax_w": (n_words, units), "w_softmax_b": (n_words,)}
        for layer in (*(f"lstm{i}" for i in range(layers)), "dsc"):
            shapes |= {f"{layer}_c0": (batch, units), f"{layer}_h0": (batch, units)}
    else:
        shapes |= {"w_out_kernel": (units, n_words), "w_out_bias": (n_words,)}
    for i in range(layers):
        shapes[f"w_lstm{i}_kernel"] = (2 * units, 4 * units)
        shapes[f"w_lstm{i}_bias"] = (4 * units,)

    rng = np.random.default_rng(seed)
    given = {
        name: (scale * rng.normal(size=shape)).astype(np.float32)
        for name, shape in shapes.items()
    }
    given["config"] = np.array(config)
    given["x"] = rng.integers(0, n_words, (batch, n_steps))
    given["y"] = rng.integers(0, n_words, (batch, n_steps) if is_lm else batch)
    if is_lm:
        given["forget_bias"] = np.float32(forget_bias)
    if repeated_target is not None:  # the gradients of one word add up
        given["y"][:] = repeated_target
    given["actions"] = rng.integers(0, n_actions, (batch, n_steps - (not is_lm)))
    return given | Release(given).record()


MADE_UP = {  # sizes that the recorded files do not have
    "no lower layer, one action": ((11, 2, 0, 3, 5, 1), 4, 0.5, 1),
    "three lower layers, clipped": ((7, 2, 3, 5, 9, 4), 3, 0.9, 2, 0.3, 4),
    "two actions": ((5, 4, 3, 2), 6, 0.7, 3),
    "one action": ((3, 5, 2, 1), 4, 0.7, 4),
}


@pytest.fixture(scope="module")
def made_up():
    return {name: draw(*arguments) for name, arguments in MADE_UP.items()}


@pytest.mark.parametrize("name", FILES)
def test_the_program_computes_what_the_release_recorded(name):
    recorded = load(GOLDEN / name)
    computed = Release(recorded).record()
    assert computed.keys() == computed_of(recorded)
    for key, values in computed.items():
        # What float32 recorded of float64.
        atol = 2e-6 * np.max(np.abs(recorded[key]))
        np.testing.assert_allclose(values, recorded[key], 0, atol, err_msg=key)


# The script


@pytest.fixture
def check(capsys):
    """Runs the script's main on files; returns its exit code and its table."""

    def run(*paths, implementation="auto"):
        with pytest.raises(SystemExit) as end:
            script.main(paths, implementation)
        return end.value.code, capsys.readouterr().out

    return run


def save(folder, arrays, name="file.npz"):
    path = folder / name
    np.savez(path, **arrays)
    return path


def marked(table):
    """The arrays that the table lists, and those of them that it marks."""
    rows = [line.split() for line in table.splitlines() if line.startswith("  ")]
    rows = [row for row in rows if row[1:2] != ["arrays,"] and row[0] != "array"]
    return {row[0] for row in rows}, {row[0] for row in rows if "DIFFERS" in row}


def computed_of(arrays):
    """What the program computes: all but the inputs.

    With one action the release still has an agent, which learns nothing.
    """
    inputs = {"config", "forget_bias", "x", "y"}
    if arrays["config"][-1] == 1:
        inputs |= {name for name in arrays if "policy" in name}
    return {
        name
        for name in arrays.keys() - inputs
        if name[:2] != "w_" and name[-3:] not in ("_c0", "_h0")
    }


@pytest.mark.parametrize("implementation", ["fast", "plain"])
def test_recorded_files_pass_from_the_command_line(implementation, tmp_path, call):
    result = call(tmp_path, SCRIPT, "--implementation", implementation)
    assert result.code == 0, result
    assert result.out[-1] == "PASSED: all arrays agree."
    tables = "\n".join(result.out[:-1]).split(str(GOLDEN))[1:]
    assert len(tables) == len(FILES)
    for name, table in zip(FILES, tables, strict=True):
        assert table.startswith(f"/{name} ({implementation} loop)")
        listed, different = marked(table)
        assert listed == computed_of(load(GOLDEN / name))
        assert not different


@pytest.mark.parametrize("implementation", ["fast", "plain"])
@pytest.mark.parametrize("name", MADE_UP)
def test_files_of_other_sizes_pass(check, made_up, tmp_path, name, implementation):
    is_clipped = made_up[name].get("grad_global_norm", 0) > 5
    assert is_clipped == (name == "three lower layers, clipped")
    path = save(tmp_path, made_up[name])
    code, table = check(path, implementation=implementation)
    assert code == 0, table
    assert marked(table) == (computed_of(made_up[name]), set())


@pytest.mark.parametrize("name", ["lm_b.npz", "np_a.npz"])
def test_one_weight_that_is_off_by_a_thousandth_differs(check, tmp_path, name):
    arrays = load(GOLDEN / name)
    arrays["w_dsc_w_x"][1, 2] += 1e-3
    code, table = check(save(tmp_path, arrays), GOLDEN / "np_a.npz")
    assert code == 1
    different = marked(table)[1]
    assert "logits" in different and "actions" not in different  # those are forced
    assert f"{len(different)} beyond 1e-05" in table
    assert table.splitlines()[-1] == f"FAILED: {len(different)} arrays differ."
    assert table.count("arrays, 0 beyond") == 1  # of the file that is right


@pytest.mark.parametrize("name", FILES)
def test_an_array_is_compared_with_its_own_largest_number(name):
    for key, array in load(GOLDEN / name).items():
        if array.dtype.kind == "f":
            assert not script.compare(1.001 * array, array)[1] <= script.TOLERANCE, key
            assert script.compare(array, array) == (0, 0), key
    for computed, expected in ([np.nan], [1.0]), ([1.0], [np.nan]), ([1e-12], [0.0]):
        assert not script.compare(computed, expected)[1] <= script.TOLERANCE


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"g_dsc_bias": None}, "'g_dsc_bias'"),
        ({"config": None}, "'config'"),
        ({"config": np.array([6, 8, 13, 5])}, "shape"),
        ({"w_out_bias": np.full(10, None)}, "not a golden file"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_file_of_another_format_is_refused(tmp_path, changed, says):
    arrays = load(GOLDEN / "np_a.npz") | changed
    path = save(tmp_path, {k: v for k, v in arrays.items() if v is not None})
    with pytest.raises(RunError) as error:
        script.check(path, "auto")
    message = str(error.value)
    assert message.startswith(f"{path}: not a golden file (") and says in message
    assert "\n" not in message and message.endswith(".")


def test_an_error_ends_the_program_with_code_1_and_no_traceback(tmp_path, call):
    path = tmp_path / "gone.npz"
    result = call(tmp_path, SCRIPT, path)
    assert result == (1, [], [f"{path}: there is no such file."])
