"""scripts/check_golden.py passes what is right and names what is wrong."""

from pathlib import Path

import check_golden as script
import numpy as np
import pytest

from dsc.cli.errors import RunError
from tests.stress import programs

SCRIPT = programs.ROOT / "scripts" / "check_golden.py"
GOLDEN = Path(__file__).resolve().parent / "golden"
FILES = ("lm_a.npz", "lm_b.npz", "np_a.npz")


def load(path):
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


@pytest.fixture
def check(capsys):
    """Runs the script's main on files; returns its exit code and its table."""

    def run(*paths, implementation="auto"):
        with pytest.raises(SystemExit) as end:
            script.main(paths, implementation)
        return end.value.code, capsys.readouterr().out

    return run


def save(folder, arrays):
    path = folder / "file.npz"
    np.savez(path, **arrays)
    return path


def marked(table):
    """The arrays that the table lists, and those of them that it marks."""
    rows = [line.split() for line in table.splitlines() if line.startswith("  ")]
    rows = [row for row in rows if row[1:2] != ["arrays,"] and row[0] != "array"]
    return {row[0] for row in rows}, {row[0] for row in rows if "DIFFERS" in row}


GIVEN = {"config", "forget_bias", "x", "y"}


def computed_of(arrays):
    """What the program computes: all but the inputs."""
    return {
        name
        for name in arrays
        if name not in GIVEN and name[:2] != "w_" and name[-3:] not in ("_c0", "_h0")
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


@pytest.mark.parametrize("name", ["lm_b.npz", "np_a.npz"])
def test_an_agent_with_one_action_learns_nothing(check, tmp_path, name):
    """The release has an agent even then; this code has none."""
    arrays = load(GOLDEN / name)
    arrays["config"][-1] = 1
    arrays["actions"][:] = 0
    for policy in ("w_policy_fc2_kernel", "w_policy_fc2_bias"):
        arrays[policy] = arrays[policy][..., :1]
    compute = script.compute_lm if name.startswith("lm") else script.compute_np
    computed = compute(arrays, "plain")
    assert computed.keys() == computed_of(arrays)
    for policy in [key for key in arrays if key.startswith("w_policy")]:
        assert not np.any(computed[f"g_{policy[2:]}"])
        if name.startswith("lm"):
            np.testing.assert_array_equal(computed[f"w1_{policy[2:]}"], arrays[policy])
    code, table = check(save(tmp_path, arrays | computed), implementation="fast")
    assert code == 0, table


def test_a_step_is_clipped_to_a_norm_of_5():
    arrays = load(GOLDEN / "lm_a.npz")  # as all recorded files, with a smaller norm
    arrays["w_softmax_w"] *= 8
    computed = script.compute_lm(arrays, "plain")
    scale = 5 / float(computed["grad_global_norm"])
    assert scale < 0.9
    for key, weight in arrays.items():
        if key.startswith("w_"):
            expected = weight - scale * computed[f"g_{key[2:]}"]
            np.testing.assert_allclose(computed[f"w1_{key[2:]}"], expected, atol=1e-5)


@pytest.mark.parametrize("name", ["lm_b.npz", "np_a.npz"])
def test_one_weight_that_is_off_by_a_thousandth_differs(check, tmp_path, name):
    arrays = load(GOLDEN / name)
    arrays["w_dsc_w_x"][1, 2] += 1e-3
    code, table = check(save(tmp_path, arrays))
    assert code == 1
    different = marked(table)[1]
    assert "logits" in different and "actions" not in different  # those are forced
    assert f"{len(different)} beyond 1e-05" in table


@pytest.mark.parametrize("name", FILES)
def test_an_array_is_compared_with_its_own_largest_number(name):
    for key, array in load(GOLDEN / name).items():
        if array.dtype.kind == "f":
            assert not script.compare(1.001 * array, array)[1] <= script.TOLERANCE, key
            assert script.compare(array, array) == (0, 0), key
    for computed, expected in ([np.nan], [1.0]), ([1.0], [np.nan]), ([1e-12], [0.0]):
        assert not script.compare(computed, expected)[1] <= script.TOLERANCE


RECORDED = sorted(computed_of(load(GOLDEN / "np_a.npz")) - {"actions"})


@pytest.mark.parametrize("name", RECORDED)
def test_each_recorded_array_that_is_off_differs_alone(check, tmp_path, name):
    arrays = load(GOLDEN / "np_a.npz")
    arrays[name] = arrays[name].astype(np.float32)
    arrays[name].flat[-1] += 2e-5 * max(1.0, abs(arrays[name].flat[-1]))
    code, table = check(save(tmp_path, arrays))
    assert code == 1
    assert marked(table)[1] == {name}
    assert table.splitlines()[-1] == "FAILED: 1 arrays differ."


def test_one_wrong_file_before_a_right_one_fails(check, tmp_path):
    arrays = load(GOLDEN / "np_a.npz")
    arrays["loss"] += 1
    code, table = check(save(tmp_path, arrays), GOLDEN / "np_a.npz")
    assert code == 1
    assert table.count("arrays, 0 beyond") == table.count("arrays, 1 beyond") == 1


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
