"""The language model under JAX: the same step, without TensorFlow; the script."""

import importlib.util
import json
import re
import signal
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from on_jax import needs_jax, python, succeeds

from dsc.recipes import LANGUAGE_MODELING
from dsc.training.step import clip
from language_modeling.agreement import grammar
from language_modeling.model import LanguageModel, Noise, loss
from tests.stress import programs

VOCAB, BATCH, STEPS, UNITS, AGENT_UNITS, ACTIONS = 11, 4, 7, 6, 5, 3
SIZES = (VOCAB, UNITS, 2, ACTIONS, 0.7, 0.8, AGENT_UNITS)
RATE, MAX_NORM = 0.9, 0.3
RECIPE = LANGUAGE_MODELING["corrected"]


def test_what_jax_trains_with_needs_no_tensorflow():
    modules = "flags, data, measures, model, reader, schedule"
    code = f"from language_modeling import {modules}\n"
    code += "from dsc import program, report, resuming, run_folder\n"
    succeeds(python(code, backend="numpy"))


@needs_jax
def test_a_step_under_jax_is_that_of_the_plain_loop_under_tensorflow(rng, tmp_path):
    model = LanguageModel(*SIZES, implementation="plain")
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
        outputs = model(given["words"], state, Noise(given["noise"], masks))
        total, _ = loss(outputs, given["targets"], RECIPE)
    gradients = list(map(tf.convert_to_tensor, tape.gradient(total, variables)))
    clipped, norm = clip(gradients, MAX_NORM, dense_norm=True)
    assert norm > MAX_NORM
    keras.optimizers.SGD(RATE).apply(clipped, variables)

    arguments = (tmp_path / "step.npz", *map(json.dumps, (SIZES, RATE, MAX_NORM)))
    (paths,) = succeeds(python(JAX_STEP, *arguments))
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


SMALL = ("--rnn_size=8", "--rnn_layers=1", "--agent_units=5", "--batch_size=4")
SMALL += ("--num_unroll_steps=6", "--print_every=5", "--max_epochs=3")
SCRIPT = programs.ROOT / "scripts" / "train_jax.py"
AS_SCRIPT = """
import runpy
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("jax") / "corpus"
    grammar.write(folder, seed=3, n_train=600, n_valid=150, n_test=140)
    return folder


def start(corpus, name, *arguments):
    places = {"data_dir": corpus, "train_dir": corpus.parent / name}
    places["cache_dir"] = corpus.parent / "cache"
    folders = (f"--{flag}={folder}" for flag, folder in places.items())
    return python(AS_SCRIPT, SCRIPT, *SMALL, *folders, *arguments)


@pytest.fixture(scope="module")
def trained(corpus):
    """What training without an interruption prints."""
    return succeeds(start(corpus, "whole"))


@needs_jax
def test_the_script_says_what_tensorflows_says_and_learns(trained, corpus):
    lines = (corpus.parent / "whole" / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    scores = [r["valid perplexity"] for r in records if "valid perplexity" in r]
    assert len(scores) == 3
    assert min(scores) < 0.7 * 264  # words in the vocabulary
    assert trained[-3] == f"valid perplexity = {min(scores):.6f}"
    done = [line for line in trained if re.match(r"epoch \d done in \d+:\d\d: ", line)]
    assert len(done) == 3
    reports = [r for r in records if "nll" in r]
    assert len(reports) == 3 * 5
    assert all(abs(sum(r["actions"]) - 1) < 1e-5 for r in reports)


@needs_jax
def test_an_interrupted_run_goes_on_as_if_it_had_not_been(trained, corpus):
    process = start(corpus, "again", "--save_every=0")
    again = corpus.parent / "again"
    while not list(again.glob("last/state-*-*[1-9]-*")) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130, err
    assert "Interrupted by SIGINT: repeat the same command" in err
    lines = succeeds(start(corpus, "again", "--save_every=0"))
    assert any(line.startswith("Going on after step ") for line in lines)
    metrics = [
        (corpus.parent / name / "metrics.jsonl").read_bytes()
        for name in ("whole", "again")
    ]
    assert metrics[0] == metrics[1]
    assert lines[-3:] == trained[-3:]


@needs_jax
def test_tensorflow_evaluates_what_jax_trained(trained, corpus):
    arguments = (f"--data_dir={corpus}", f"--load_model={corpus.parent / 'whole'}")
    result = programs.run(corpus.parent / "tf", programs.LANGUAGE, *arguments)
    assert result.code == 0, result
    for line, expected in zip(result.out[-3::2], trained[-3::2], strict=True):
        (name, value), (same_name, other) = (x.split(" = ") for x in (line, expected))
        assert name == same_name
        assert float(value) == pytest.approx(float(other), rel=1e-5)


@needs_jax
@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("--recipe=released", "--recipe released counts"),
        ("--max_epochs=0", "leave the flag out"),
        ("--strategy=mirrored", "--strategy mirrored is TensorFlow's"),
        ("--n_actions=0", "n_actions"),
    ],
)
def test_the_script_refuses_what_it_does_not_do(corpus, argument, said):
    process = start(corpus, "refused", argument)
    _, err = process.communicate()
    assert process.returncode == 1
    assert said in err
    assert "Traceback" not in err
    assert not (corpus.parent / "refused").exists()


@pytest.mark.skipif(
    importlib.util.find_spec("jax") is not None, reason="jax is installed"
)
def test_the_script_asks_for_jax_in_a_sentence(corpus):
    process = start(corpus, "missing")
    _, err = process.communicate()
    assert process.returncode == 1
    assert "pip install -e '.[jax]'" in err.splitlines()[-1]
