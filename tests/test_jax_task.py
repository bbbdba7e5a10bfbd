"""Training the language model under JAX: one step, and the script."""

import json
import re
import signal
import time

import isolated
import keras
import numpy as np
import pytest
import small
import tensorflow as tf
from isolated import needs_jax

from dsc.recipes import LANGUAGE_MODELING
from dsc.training.step import clip
from language_modeling.model import LanguageModel, Noise, loss
from tests.stress import programs

VOCAB, BATCH, STEPS, UNITS, AGENT_UNITS, ACTIONS = 11, 4, 7, 6, 5, 3
SIZES = {
    "vocab_size": VOCAB,
    "rnn_size": UNITS,
    "n_actions": ACTIONS,
    "lamda": 0.7,
    "forget_bias": 0.8,
    "agent_units": AGENT_UNITS,
}
RATE, MAX_NORM = 0.9, 0.3
RECIPE = LANGUAGE_MODELING["corrected"]


@needs_jax
@pytest.mark.parametrize(
    "options",
    [
        {},
        pytest.param({"baseline": "value"}, marks=pytest.mark.slow),
        pytest.param(
            {"estimator": "exact", "observation": "states"}, marks=pytest.mark.slow
        ),
    ],
    ids=str,
)
def test_a_step_under_jax_equals_one_under_tensorflow(options, rng, tmp_path):
    sizes = SIZES | options
    model = LanguageModel(**sizes, implementation="plain")
    model.build()
    variables = model.trainable_variables
    for variable in variables:
        variable.assign(rng.normal(scale=0.5, size=variable.shape))
    hidden = (BATCH, STEPS, UNITS)
    given = {
        "words": rng.integers(0, VOCAB, (BATCH, STEPS)),
        "targets": rng.integers(0, VOCAB, (BATCH, STEPS)),
        "noise": rng.gumbel(size=(BATCH, STEPS, ACTIONS)).astype(np.float32),
    }
    for i in range(model.n_dropout_masks):
        kept = rng.random(hidden) < 0.5
        given[f"mask/{i}"] = 2 * kept.astype(np.float32)
    for i in range(2 * 3):  # h and c of each layer
        given[f"state/{i}"] = rng.normal(size=(BATCH, UNITS)).astype(np.float32)
    given |= {f"weight/{i}": v.numpy() for i, v in enumerate(variables)}
    np.savez(tmp_path / "step.npz", **given)

    state = [[given[f"state/{2 * i + k}"] for k in (0, 1)] for i in range(3)]
    masks = [given[f"mask/{i}"] for i in range(model.n_dropout_masks)]
    with tf.GradientTape() as tape:
        noise = Noise(given["noise"], masks)
        outputs = model(given["words"], state, noise, given["targets"])
        total, _ = loss(outputs, given["targets"], RECIPE)
    gradients = list(map(tf.convert_to_tensor, tape.gradient(total, variables)))
    clipped, norm = clip(gradients, MAX_NORM, dense_norm=True)
    assert norm > MAX_NORM
    keras.optimizers.SGD(RATE).apply(clipped, variables)

    arguments = (tmp_path / "step.npz", *map(json.dumps, (sizes, RATE, MAX_NORM)))
    (paths,) = isolated.succeeds(isolated.start("on_jax/training_step.py", *arguments))
    plain_paths = [re.sub(r"_\d+/", "/", v.path) for v in variables]
    assert [re.sub(r"_\d+/", "/", path) for path in json.loads(paths)] == plain_paths
    found = dict(np.load(tmp_path / "step.npz"))
    expected = {"loss": total, "norm": norm}
    expected |= {f"gradient/{i}": g for i, g in enumerate(gradients)}
    expected |= {f"after/{i}": v for i, v in enumerate(variables)}
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(
            found[name], np.asarray(value), rtol=1e-5, atol=1e-5, err_msg=name
        )
    moved = [np.abs(found[f"after/{i}"] - given[f"weight/{i}"]).max() for i in range(9)]
    assert min(moved) > 1e-4


# The script


SCRIPT = programs.ROOT / "scripts" / "train_jax.py"


@pytest.fixture
def start(tmp, data):
    """Starts the script on a small corpus, with the run in `tmp/name`."""

    def start(name, *arguments):
        places = (f"--data_dir={data}/corpus", f"--cache_dir={tmp}/cache")
        sizes = (*small.LANGUAGE, "--print_every=5", "--max_epochs=3")
        run = f"--train_dir={tmp / name}"
        return isolated.start(SCRIPT, *sizes, *places, run, *arguments)

    return start


@pytest.fixture(scope="module")
def tmp(tmp_path_factory):
    return tmp_path_factory.mktemp("jax")


@needs_jax
@pytest.mark.slow
def test_training_learns_resumes_and_is_evaluated_under_tensorflow(
    tmp, data, start, call
):
    trained = isolated.succeeds(start("whole"))
    records = small.metrics(tmp / "whole")
    scores = [r["valid perplexity"] for r in records if "valid perplexity" in r]
    assert len(scores) == 3
    assert min(scores) < 0.7 * 264  # words in the vocabulary
    assert trained[-3] == f"valid perplexity = {min(scores):.6f}"
    done = [line for line in trained if re.match(r"epoch \d done in \d+:\d\d: ", line)]
    assert len(done) == 3
    reports = [r for r in records if "nll" in r]
    assert len(reports) == 3 * 5
    assert all(abs(sum(r["actions"]) - 1) < 1e-5 for r in reports)

    again = tmp / "again"
    process = start("again", "--save_every=0")
    while not list(again.glob("last/state-*-*[1-9]-*")) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130, err
    assert "Interrupted by SIGINT: repeat the same command" in err
    lines = isolated.succeeds(start("again", "--save_every=0"))
    assert any(line.startswith("Going on after step ") for line in lines)
    assert small.metrics(again) == records
    assert lines[-3:] == trained[-3:]

    arguments = (f"--data_dir={data}/corpus", f"--load_model={again}")
    result = small.succeeds(call(tmp, programs.LANGUAGE, *arguments))
    for line, expected in zip(result.out[-3::2], trained[-3::2], strict=True):
        (name, value), (same_name, other) = (x.split(" = ") for x in (line, expected))
        assert name == same_name
        assert float(value) == pytest.approx(float(other), rel=1e-5)


@needs_jax
@pytest.mark.slow
def test_the_controls_train_under_jax_and_are_evaluated_under_tensorflow(
    tmp, data, start, call
):
    controls = ("--zoneout=0.1", "--recurrent_dropout=0.2", "--variational")
    controls += ("--tie_weights", "--eval_actions=newest")
    *_, last = isolated.succeeds(start("controls", *controls))
    arguments = (f"--data_dir={data}/corpus", f"--load_model={tmp / 'controls'}")
    result = small.succeeds(call(tmp, programs.LANGUAGE, *arguments))
    scores = [float(line.rpartition(" ")[2]) for line in (last, result.out[-1])]
    assert scores[1] == pytest.approx(scores[0], rel=1e-5)


@needs_jax
@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--recipe=released", "--recipe released counts"),
        ("--max_epochs=0", "leave the flag out"),
        ("--strategy=mirrored", "--strategy mirrored needs TensorFlow"),
    ],
)
def test_the_script_refuses_what_it_does_not_do(tmp_path, call, flag, said):
    result = call(tmp_path, SCRIPT, flag)
    (line,) = result.err
    assert result.code == 1 and said in line
    assert not list(tmp_path.iterdir())


def test_the_script_asks_for_jax_in_a_sentence():
    process = isolated.start(SCRIPT, without="tensorflow,jax")
    _, err = process.communicate()
    assert process.returncode == 1
    assert "pip install -e '.[jax]'" in err.splitlines()[-1]
