"""Scripts run the code beside them, without a user's settings, and start quietly."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import isolated
import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("language_modeling", "number_prediction", "scripts")
SCRIPTS = sorted(
    str(path.relative_to(ROOT))
    for folder in FOLDERS
    for path in (ROOT / folder).glob("*.py")
    if re.search(r"^from dsc.*^if __name__ == ", path.read_text(), re.M | re.S)
)
HARMLESS = b"""\
WARNING: All log messages before absl::InitializeLog() is called are written to STDERR
I0000 00:00:1795848086.249768    5796 port.cc:153] oneDNN custom operations are on.
I0000 00:00:1795848086.250097    5796 cudart_stub.cc:31] Could not find cuda drivers
E0000 00:00:1795848089.595272    5796 cuda_platform.cc:52] failed call to cuInit: \
INTERNAL: CUDA error: Failed call to cuInit: UNKNOWN ERROR (303)
"""
ERRORS = b"""\
E0000 00:00:1795848089.595272    5796 cuda_platform.cc:52] failed call to cuInit: \
INTERNAL: CUDA error: Failed call to cuInit: CUDA_ERROR_UNKNOWN: unknown error
F0000 00:00:1795848089.595272    5796 cpu_feature_guard.cc:63] not these CPUs
anything else
"""


SETTINGS = """
from dsc.cli import startup
with startup.backend("jax"):
    import keras
import jax
c = keras.config
print(c.backend(), c.floatx(), c.epsilon(), c.image_data_format(), c.is_nnx_enabled())
print(jax.numpy.ones(1, float).dtype, jax.random.key(0).dtype)
"""


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """Another clone, whose `dsc` says where it is and ends the program."""
    clone = tmp_path_factory.mktemp("clone")
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, clone / folder)
    (clone / "dsc").mkdir()
    (clone / "dsc" / "__init__.py").write_text("raise SystemExit('of this clone')")
    return clone


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_runs_the_code_beside_it(clone, script):
    installed = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, clone / script, "--help"]
    result = subprocess.run(command, env=installed, capture_output=True, text=True)
    assert result.stderr == "of this clone\n"


@isolated.needs_jax
@pytest.mark.parametrize(
    "settings",
    [
        {
            "floatx": "bfloat16",
            "epsilon": 0.1,
            "image_data_format": "channels_first",
            "nnx_enabled": True,
        },
        ["no settings"],
    ],
)
def test_no_settings_of_the_user_change_what_is_computed(
    tmp_path, monkeypatch, settings
):
    (tmp_path / ".keras").mkdir()
    (tmp_path / ".keras" / "keras.json").write_text(json.dumps(settings))
    for name, value in {
        "HOME": str(tmp_path),
        "KERAS_NNX_ENABLED": "true",
        "KERAS_MAX_EPOCHS": "one",
        "JAX_ENABLE_X64": "1",
        "JAX_DEFAULT_PRNG_IMPL": "rbg",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("KERAS_HOME")
    (tmp_path / "settings.py").write_text(SETTINGS)
    process = isolated.start(tmp_path / "settings.py", backend="tensorflow")
    lines = isolated.succeeds(process)
    assert lines == ["jax float32 1e-07 channels_last False", "float32 key<fry>"]


def start(code, level="2"):
    """What code prints to the standard error around and inside the import of Keras."""
    code = f"""
import os
from dsc.cli import startup
with startup.backend("numpy"):
    os.write(2, {HARMLESS!r} + {ERRORS!r})
    {code}
os.write(2, b"after\\n")
"""
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": level},
        capture_output=True,
    )


@isolated.needs_jax
def test_packages_that_keras_can_do_without_are_imported_only_on_demand():
    code = (
        "import sys; from dsc.cli import startup\n"
        "with startup.backend('tensorflow'):\n"
        "    import keras\n"
        "names = 'keras', 'tensorflow', 'jax', 'matplotlib', 'scipy'\n"
        "print([name for name in names if name in sys.modules])\n"
        "import jax, scipy\n"
    )
    command = [sys.executable, "-c", code]
    out = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert out.stdout == "['keras', 'tensorflow']\n"


def test_start_up_messages_are_left_out_and_nothing_else():
    assert start("").stderr == ERRORS + b"after\n"
    assert start("", level="0").stderr == HARMLESS + ERRORS + b"after\n"


def test_what_is_said_before_a_crash_is_not_lost():
    result = start("os.abort()")
    assert (result.returncode, result.stderr) == (-signal.SIGABRT, ERRORS)
    assert start("raise MemoryError").stderr.startswith(ERRORS + b"Traceback")
