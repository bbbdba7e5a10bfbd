"""The walk over time of the fast JAX loop; see `dsc.loops.fast`."""

import functools

import jax
from jax import lax
from jax import numpy as jnp
from keras.backend import result_type

from dsc.cell import lstm_gates, zone_out

# Time steps in one iteration of the loop, where it is not one. With one, a GPU spends
# nearly half of the time between iterations; a CPU gains nothing from more.
UNROLL = {"gpu": 5}


def run(cell, rows, recurrent_kernel, z, dropout_mask, held, given, agent):
    """Runs over all steps, with a gradient of its own.

    Args:
        cell: `DSCLSTMCell`.
        rows: `dsc.loops.fast.Rows`.
        recurrent_kernel: `[units, 4 * units]`.
        z: `[time, batch, 4 * units]`, pre-activations from the inputs.
        dropout_mask: `[time, batch, units]`, or None.
        held: a pair of `[time, batch, units]`, see `dsc.cell.zone_out`, or None. It
            receives no gradient.
        given: the first blocks of the histories of h and of c.
        agent: `dsc.loops.fast.Agent`, or None if there is one action. It receives no
            gradient.

    Returns:
        `(history of h, history of c, observed_h [time, batch, units], actions [time,
        batch])`.
    """

    @jax.custom_vjp
    def loop(*inputs):
        return _forward(cell, rows, *inputs)[0]

    def forward(*inputs):
        results, z = _forward(cell, rows, *inputs)
        recurrent_kernel, _, dropout_mask, _, held, _ = inputs
        history, _, actions = results
        return results, (recurrent_kernel, z, dropout_mask, held, history, actions)

    def backward(saved, d_results):
        return *_backward(cell, rows, *saved, d_results[0]), None, None

    loop.defvjp(forward, backward)
    given = jnp.stack(given)
    history, *results = loop(recurrent_kernel, z, dropout_mask, given, held, agent)
    return *history, *results


# In here the two histories are one, `[2, blocks * batch, units]`, and a state is `[2,
# batch, units]`: a step that reads and writes it once is compiled to write in place.


def _forward(cell, rows, recurrent_kernel, z, dropout_mask, given, held, agent):
    """`((history, observed_h, actions), z with the recurrent part)`; see `run`."""
    time, batch, _ = z.shape
    n_actions = cell.n_actions
    # Of the memory: the projected states, or a running sum of them, which gives the
    # mean of K states at the cost of two. Half precision would lose it in its own
    # rounding.
    sum_dtype = result_type(z.dtype, "float32")
    summary = given[0].reshape(1 + n_actions, batch, cell.units)
    if cell.observes_states:
        summary = agent.project(summary[1:])
    else:
        summary = summary.astype(sum_dtype).sum(axis=0)

    def step(carry, inputs):
        newest, history, summary = carry
        t, z, factors, held, from_x, noise = inputs
        observed_h, action, chosen = newest[0], jnp.zeros(batch, "int32"), None
        if agent:
            if cell.observes_mean:
                summary -= _block(history, t, batch)[0].astype(sum_dtype)
                mean_h = (summary / n_actions).astype(z.dtype)
                from_given = rows.first_step_forced & (t == 0)
                observed_h = jnp.where(from_given, observed_h, mean_h)
            seen = summary if cell.observes_states else observed_h
            logits = agent.noisy_logits(cell, seen, from_x, noise)
            action = jnp.argmax(logits, axis=-1).astype("int32")
            chosen = rows.chosen(t, action)
        start_h, start_c = _mix(cell, history, chosen, newest)
        z = z + start_h @ recurrent_kernel
        newest = _gates(cell, z, start_c, factors, start_h, held)
        if cell.observes_mean:
            summary += newest[0].astype(sum_dtype)
        elif cell.observes_states:
            summary = agent.remember(summary, newest[0])
        for n, part in enumerate(newest):
            where = jnp.int32(n), (t + 1 + n_actions) * batch, jnp.int32(0)
            history = lax.dynamic_update_slice(history, part[None], where)
        return (newest, history, summary), (z, observed_h, action)

    new = jnp.zeros((2, time * batch, cell.units), z.dtype)
    (_, history, _), (z, observed_h, actions) = _scan(
        step,
        (tuple(given[:, :batch]), jnp.concatenate([given, new], axis=1), summary),
        (
            jnp.arange(time, dtype="int32"),
            z,
            dropout_mask,
            held,
            agent and agent.from_x,
            agent and agent.noise,
        ),
    )
    return (history, observed_h, actions), z


def _backward(
    cell, rows, recurrent_kernel, z, dropout_mask, held, history, actions, d_history
):
    """The gradients of the recurrent kernel, z, the dropout mask and what is given."""
    time, batch, _ = z.shape
    steps = jnp.arange(time, dtype="int32")
    newest = rows.newest(steps[:, None])
    chosen = rows.chosen(steps[:, None], actions)
    # What the steps continued from, h and c, each [time, batch, units].
    start_h, start_c = _mix(cell, history, chosen, history[:, newest])
    lamda = cell.lamda if cell.n_actions > 1 else 0.0
    gates = functools.partial(_gates, cell)

    def step_back(d_history, inputs):
        t, gate_inputs, chosen = inputs
        d_state = _block(d_history, t + 1 + cell.n_actions, batch)
        derivatives = jax.vjp(gates, *gate_inputs)[1](tuple(d_state))
        d_z, d_start_c, d_mask, *d_zoned = derivatives
        d_start_h = d_z @ recurrent_kernel.T
        if d_zoned:
            d_start_h += d_zoned[0]
        d_start = jnp.stack([d_start_h, d_start_c])
        if lamda > 0.0:
            d_history = d_history.at[:, chosen].add(
                lamda * d_start, unique_indices=True, mode="promise_in_bounds"
            )
        if lamda < 1.0:
            n = jnp.where(t == 0, 0, t + cell.n_actions)
            d_newest = _block(d_history, n, batch) + (1.0 - lamda) * d_start
            d_history = lax.dynamic_update_slice_in_dim(
                d_history, d_newest, n * batch, axis=1
            )
        return d_history, (d_z, d_mask)

    gate_inputs = z, start_c, dropout_mask
    if held is not None:
        gate_inputs += start_h, held
    inputs = steps, gate_inputs, chosen
    d_history, (d_z, d_mask) = _scan(step_back, d_history, inputs, reverse=True)
    d_kernel = jnp.einsum("tbi,tbo->io", start_h, d_z)
    d_given = d_history[:, : (1 + cell.n_actions) * batch]
    return d_kernel, d_z, d_mask, d_given


def _scan(step, carry, inputs, reverse=False):
    unroll = UNROLL.get(jax.default_backend(), 1)
    return lax.scan(step, carry, inputs, reverse=reverse, unroll=unroll)


def _gates(cell, z, start_c, factors, start_h=None, held=None):
    gates = jnp.split(z, 4, axis=-1)
    state = lstm_gates(gates, start_c, cell.forget_bias, factors)
    return state if held is None else zone_out(state, (start_h, start_c), held)


def _block(history, n, batch):
    return lax.dynamic_slice_in_dim(history, n * batch, batch, axis=1)


def _mix(cell, history, chosen, newest):
    """What a step continues from; `chosen` are rows of the history."""
    if cell.n_actions == 1 or cell.lamda == 0.0:
        return newest
    state = history[:, chosen]
    if cell.lamda == 1.0:
        return state
    return cell.lamda * state + (1.0 - cell.lamda) * jnp.asarray(newest)
