"""The fast JAX loop equals the plain loop: results and gradients.

    python tests/on_jax/fast_loop.py

Fails with an AssertionError where they differ.
"""

import jax
import numpy as np
import reference
from jax import numpy as jnp
from keras import ops

from dsc import DSCLSTM, Skips
from dsc.loops import jax as jax_loop

jax.config.update("jax_enable_x64", True)
ops.tanh = jnp.tanh  # that of Keras computes in float32 under JAX

BATCH, TIME, FEATURES, UNITS, LAMDA = 3, 7, 6, 4, 0.625
MASK = np.array(
    [[1, 1, 0, 0, 1, 1, 1], [0, 1, 1, 0, 1, 1, 0], [0, 0, 0, 0, 0, 0, 0]], bool
)
# n_actions, carry_memory, other options; few, since XLA compiles each for seconds.
CASES = [
    (1, False, {"dropout": True, "mask": MASK, "unroll": 5}),
    (2, True, {"lamda": 0.0, "greedy": True, "go_backwards": True}),
    (5, False, {"lamda": LAMDA, "mask": MASK}),
    (5, True, {"choice": "random_skip"}),
    (2, False, {"choice": "fixed_skip", "zoneout": 0.3}),
    (5, True, {"observation": "last", "mask": MASK, "dropout": True, "unroll": 5}),
    (5, False, {"observation": "states", "mask": MASK, "unroll": 5}),
    (2, False, {"lamda": LAMDA, "mask": MASK, "return_alternatives": True}),
]


def layer_of(implementation, n_actions, **options):
    layer = DSCLSTM(
        UNITS,
        n_actions,
        agent_units=9,
        return_sequences=True,
        return_state=True,
        return_skips=True,
        implementation=implementation,
        dtype="float64",
        **options,
    )
    layer.build((None, None, FEATURES))
    reference.randomise(layer.cell, np.random.default_rng(0))
    return layer


def run(layer, weights, given, factors, arguments):
    def loss(weights, given, factors):
        results, _ = layer.stateless_call(
            weights,
            [v.value for v in layer.non_trainable_variables],
            given[0],
            initial_state=given[1:],
            dropout_mask=factors,
            **arguments,
        )
        n_states = 2 + 2 * layer.carry_memory
        *parts, skips = results[: n_states + 2]
        total = 0.0
        for n, part in enumerate(
            (*parts, skips.logits)
        ):  # every number has its own weight
            weighing = jnp.sin(n + 1.7 * jnp.arange(part.size, dtype=part.dtype))
            total += jnp.sum(part * weighing.reshape(part.shape))
        return total, results

    differentiated = jax.jit(jax.value_and_grad(loss, (0, 1, 2), has_aux=True))
    (_, results), gradients = differentiated(weights, given, factors)
    skips = next(part for part in results if isinstance(part, Skips))
    return jax.tree.leaves((results, gradients)), skips.actions


for n_actions, carry_memory, options in CASES:
    case = f"{n_actions} {carry_memory} {options}"
    greedy, dropout = options.pop("greedy", False), options.pop("dropout", False)
    mask = options.pop("mask", None)
    jax_loop.UNROLL["cpu"] = options.pop("unroll", 1)
    rng = np.random.default_rng(1)
    shapes = [(BATCH, TIME, FEATURES), *[(BATCH, UNITS)] * 2]
    shapes += [(BATCH, n_actions, UNITS)] * 2 * carry_memory
    given = [jnp.asarray(rng.normal(size=shape)) for shape in shapes]
    noise = jnp.asarray(rng.gumbel(size=(BATCH, TIME, n_actions)))
    factors = jnp.asarray(rng.uniform(0.5, 2.0, (BATCH, TIME, UNITS)))
    factors = factors if dropout else None
    arguments = {"noise": None if greedy else noise, "mask": mask}
    options |= {"n_actions": n_actions, "carry_memory": carry_memory}
    plain, fast = (layer_of(name, **options) for name in ("plain", "fast"))
    weights = [v.value for v in plain.trainable_variables]
    (expected, actions), (found, _) = (
        run(layer, weights, given, factors, arguments) for layer in (plain, fast)
    )
    spread = len(np.unique(actions)) > 1  # so gradients meet in one state
    assert spread or greedy or n_actions == 1 or options["choice"] == "fixed_skip", case
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6, err_msg=case)

layer = layer_of("fast", 5)
frozen = [v.value for v in layer.non_trainable_variables]


def summed(weights):
    return layer.stateless_call(weights, frozen, given[0])[0][0].sum()


# Differentiated in another trace than that of the call.
weights = [v.value for v in layer.trainable_variables]
expected = jax.jit(jax.grad(summed))(weights)
for function in (jax.jit(summed), jax.checkpoint(summed)):
    for one, other in zip(jax.grad(function)(weights), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-8)

half = DSCLSTM(UNITS, 5, dtype="mixed_bfloat16")
half.build((None, None, FEATURES))
weights = [v.value for v in half.trainable_variables]
frozen = [v.value for v in half.non_trainable_variables]
assert half.stateless_call(weights, frozen, given[0])[0].dtype == "bfloat16"

try:
    DSCLSTM(UNITS, 5, implementation="xla")
except ValueError as error:
    assert "jax" in str(error)
else:
    raise AssertionError("TensorFlow's loop is not refused")
