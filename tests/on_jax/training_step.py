"""One training step of the language model under JAX.

    python tests/on_jax/training_step.py ARRAYS SIZES LEARNING_RATE MAX_NORM

Reads weights, window, state and noise from the file ARRAYS (.npz), replaces them by
loss, gradients and updated weights, and prints the paths of the weights as JSON. Also
evaluates the model.
"""

import json
import sys

import jax
import keras
import numpy as np

from dsc.recipes import LANGUAGE_MODELING
from language_modeling.corpora.corpus import Corpus
from language_modeling.jax_task import (
    JaxLanguageModeling,
    compute_gradients,
    descend,
)
from language_modeling.model import LanguageModel, Noise

path, sizes, rate, max_norm = sys.argv[1], *map(json.loads, sys.argv[2:])
given = dict(np.load(path))
model = LanguageModel(**sizes)
model.build()
ids = dict.fromkeys(("train", "valid", "test"), np.arange(20, dtype=np.int32) % 11)
task = JaxLanguageModeling(
    model,
    keras.optimizers.SGD(rate),
    Corpus((), ids, {}, {}),
    LANGUAGE_MODELING["corrected"],
    batch_size=2,
    n_steps=3,
    dropout=0.0,
    seed=1,
    max_grad_norm=max_norm,
    schedule=None,
)


def listed(name):
    return [given[f"{name}/{i}"] for i in range(sum(k.startswith(name) for k in given))]


parts = listed("state")
state = [parts[i : i + 2] for i in range(0, len(parts), 2)]
noise = Noise(given["noise"], listed("mask"))


@jax.jit
def train_step(weights):
    gradients, loss, _, _ = compute_gradients(
        model, task.recipe, weights, given["words"], given["targets"], state, noise
    )
    return gradients, loss, *descend(weights, gradients, rate, max_norm)


gradients, loss, weights, norm = train_step(listed("weight"))
found = {"loss": loss, "norm": norm}
found |= {f"gradient/{i}": gradient for i, gradient in enumerate(gradients)}
found |= {f"after/{i}": weight for i, weight in enumerate(weights)}
np.savez(path, **found)
assert np.isfinite(task.evaluate()[1])
print(json.dumps([variable.path for variable in model.trainable_variables]))
