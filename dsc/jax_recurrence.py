"""The fast JAX time loop, as `recurrence.py` is TensorFlow's.

It computes what `DSCLSTMCell.step` computes over time (`cell.py` is the definition,
the tests hold the two together), but takes out of the loop what need not be in it: what
depends on the inputs alone, the agent's logits, which are all that is learned of it,
and the recurrent weights' gradient, one product over all steps. Unlike TensorFlow's it
keeps a memory of `n_actions` states, which costs the more the more there are.
"""

from typing import Any, NamedTuple

import jax
from jax import lax
from jax import numpy as jnp
from keras import ops

from dsc.cell import lstm_gates

# Steps in a turn of the loop, where not one. With one, a GPU spends nearly half of the
# time on turns; a CPU gains nothing from more, which take longer to compile.
STEPS_PER_TURN = {"gpu": 5}


class _Learned(NamedTuple):
    """What the loop passes gradients to, beside the recurrent weights."""

    z: Any  # [time, batch, 4 * units], pre-activations from the inputs
    state: Any  # h, c [batch, units], memory of h, of c [n_actions, batch, units]
    dropout_mask: Any  # [time, batch, units], or None
    norm: Any  # the layer normalisation's weights, or None


class _Given(NamedTuple):
    """What steps read that gets no gradients; parts may be None."""

    observed_x: Any  # [time, batch, agent_units], what the agent makes of the inputs
    noise: Any  # [time, batch, n_actions]
    mask: Any  # [time, batch]


def dsc_lstm(cell, x, noise, dropout_mask, mask, state):
    """Runs a `DSCLSTMCell` over time; see `dsc.recurrence.dsc_lstm`."""

    def weights(variables):
        # Keras casts them itself, but not in a layer's `stateless_call`.
        return [ops.cast(variable, cell.compute_dtype) for variable in variables]

    fresh = len(state) == 2
    x, batch = ops.cast(x, cell.compute_dtype), x.shape[0]
    x, noise, dropout_mask, mask = (
        None if part is None else jnp.swapaxes(part, 0, 1)
        for part in (x, noise, dropout_mask, mask)
    )
    if fresh:
        memory = [jnp.zeros((cell.n_actions, batch, cell.units), x.dtype)] * 2
    else:
        memory = [jnp.swapaxes(part, 0, 1) for part in state[2:]]
    observed_x, agent = None, None
    if cell.has_agent:
        of_agent = (*cell.agent_hidden.weights, *cell.agent_logits.weights)
        hidden_kernel, hidden_bias, *of_logits = weights(of_agent)
        of_x, of_h = jnp.split(hidden_kernel, [x.shape[-1]])
        observed_x, agent = x @ of_x + hidden_bias, (of_h, *of_logits)
    norm = cell.norm and weights(cell.norm)
    kernel, recurrent_kernel, bias = weights(
        (cell.kernel, cell.recurrent_kernel, cell.bias)
    )

    h, observed_h, actions, state = _looped(cell, fresh)(
        recurrent_kernel,
        _Learned(x @ kernel + bias, (*state[:2], *memory), dropout_mask, norm),
        agent,
        _Given(observed_x, noise, mask),
    )
    if cell.n_actions > 1:
        logits = cell.policy(x, observed_h)
    else:
        logits = jnp.zeros((*h.shape[:2], 1), h.dtype)
    if mask is not None:  # zeros until there is an output to repeat, as TensorFlow has
        h = jnp.where(jnp.cumsum(mask, axis=0)[..., None] > 0, h, 0.0)
    h, logits, actions, *memory = (
        jnp.swapaxes(part, 0, 1) for part in (h, logits, actions, *state[2:])
    )
    return h, logits, actions, [*state[:2], *memory]


def _looped(cell, fresh):
    """`_scan` as a function of its arrays, with the gradient that it is to have.

    Differentiated as it stands, it would sum up the recurrent weights' gradient step by
    step. So it is differentiated for all the rest alone, and theirs is one product of
    what the steps' products began with and of the gradients of what came out.
    """

    @jax.custom_vjp
    def looped(*arrays):
        return _scan(cell, fresh, *arrays)[0]

    def forward(recurrent_kernel, learned, *rest):
        results, pull_back, start_h = jax.vjp(
            lambda learned: _scan(cell, fresh, recurrent_kernel, learned, *rest),
            learned,
            has_aux=True,
        )
        return results, (pull_back, start_h)

    def backward(kept, d_results):
        pull_back, start_h = kept
        (d_learned,) = pull_back(d_results)
        d_kernel = jnp.einsum("tbi,tbo->io", start_h, d_learned.z)
        return d_kernel, d_learned, None, None

    looped.defvjp(forward, backward)
    return looped


def _scan(cell, fresh, recurrent_kernel, learned, agent, given):
    """The loop itself, time first.

    Args:
        cell: `DSCLSTMCell`.
        fresh: whether a row's first step continues from the state that it is given.
        recurrent_kernel: `[units, 4 * units]`.
        learned: `_Learned`.
        agent: its weights on the observed h, and those of its logits; or None.
        given: `_Given`.

    Returns:
        `((h [time, batch, units], observed_h [time, batch, units], actions [time,
        batch], state as in _Learned), start_h [time, batch, units])`, the last being
        the h that each step continued from.
    """

    def step(carried, at_step):
        state, started = carried
        z, factors, now = at_step
        start, observed_h, action = _start(cell, state, started, agent, now)
        parts = jnp.split(z + start[0] @ recurrent_kernel, 4, axis=-1)
        h, c = lstm_gates(parts, start[1], cell.forget_bias, factors, learned.norm)
        memory = (
            jnp.concatenate([kept[1:], new[None]])
            for kept, new in zip(state[2:], (h, c), strict=True)
        )
        after = (h, c, *memory), jnp.ones_like(started)
        if now.mask is not None:
            after = jax.tree.map(
                lambda new, old: jnp.where(now.mask[:, None], new, old), after, carried
            )
        return after, (after[0][0], start[0], observed_h, action)

    started = jnp.full((learned.z.shape[1], 1), not fresh)
    (state, _), (h, start_h, observed_h, actions) = lax.scan(
        step,
        (learned.state, started),
        (learned.z, learned.dropout_mask, given),
        unroll=STEPS_PER_TURN.get(jax.default_backend(), 1),
    )
    return (h, lax.stop_gradient(observed_h), actions, state), start_h


def _start(cell, state, started, agent, now):
    """What a step continues from.

    Args:
        cell: `DSCLSTMCell`.
        state: as in `_Learned`.
        started: `[batch, 1]`, whether a row chooses.
        agent: as in `_scan`.
        now: `_Given` at this step.

    Returns:
        `([h, c], observed_h, action)`, `[batch, units]` each and `[batch]`.
    """
    newest, memories = state[:2], state[2:]
    if cell.n_actions == 1:
        return newest, newest[0], jnp.zeros(started.shape[0], "int32")
    observed_h = newest[0]
    if cell.has_agent:
        if cell.observation == "mean":
            observed_h = jnp.where(started, jnp.mean(memories[0], axis=0), observed_h)
        of_h, of_logits, bias = agent
        logits = jnp.tanh(observed_h @ of_h + now.observed_x) @ of_logits + bias
    else:
        logits = cell.fixed_logits(observed_h)
    action = jnp.argmax(logits if now.noise is None else logits + now.noise, axis=-1)
    chosen = jax.nn.one_hot(action, cell.n_actions, dtype=observed_h.dtype, axis=0)
    start = [
        jnp.where(
            started,
            cell.lamda * jnp.sum(chosen[..., None] * memory, axis=0)
            + (1.0 - cell.lamda) * part,
            part,
        )
        for part, memory in zip(newest, memories, strict=True)
    ]
    return start, observed_h, action.astype("int32")
