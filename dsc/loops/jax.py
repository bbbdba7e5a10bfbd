"""The fast JAX time loop.

It computes what `DSCLSTMCell.step` computes over time, but takes out of the loop what
does not depend on the step before: the products with the inputs, the agent's logits for
the policy loss, and the gradient of the recurrent kernel, which is one product over all
steps. Unlike the TensorFlow loop it stacks the memory of `n_actions` states at every
step, so its cost grows with `n_actions`.
"""

from typing import Any, NamedTuple

import jax
from jax import lax
from jax import numpy as jnp
from keras import ops

from dsc.cell import lstm_gates

# Time steps in one iteration of the loop, where it is not one. With one, a GPU spends
# nearly half of the time between iterations; a CPU gains nothing from more.
UNROLL = {"gpu": 5}


class _DiffInputs(NamedTuple):
    """Inputs of the loop that receive gradients, beside the recurrent kernel."""

    z: Any  # [time, batch, 4 * units], pre-activations from the inputs
    state: Any  # h, c [batch, units], memory of h, of c [n_actions, batch, units]
    dropout_mask: Any  # [time, batch, units], or None


class _ConstInputs(NamedTuple):
    """Inputs of the loop that receive no gradients; parts may be None."""

    from_x: (
        Any  # [time, batch, agent_units], the agent's pre-activations from the inputs
    )
    noise: Any  # [time, batch, n_actions]
    mask: Any  # [time, batch]


def dsc_lstm(cell, x, noise, dropout_mask, mask, state):
    """Runs a `DSCLSTMCell` over time; see `dsc.loops.tensorflow.dsc_lstm`."""

    first_step_forced = len(state) == 2
    x, batch = ops.cast(x, cell.compute_dtype), x.shape[0]
    x, noise, dropout_mask, mask = (
        None if part is None else jnp.swapaxes(part, 0, 1)
        for part in (x, noise, dropout_mask, mask)
    )
    if first_step_forced:
        memory = [jnp.zeros((cell.n_actions, batch, cell.units), x.dtype)] * 2
    else:
        memory = [jnp.swapaxes(part, 0, 1) for part in state[2:]]
    from_x, agent = None, None
    if cell.has_agent:
        kernel, bias, *logits_weights = cell.agent_weights
        x_kernel, h_kernel = jnp.split(kernel, [x.shape[-1]])
        from_x, agent = x @ x_kernel + bias, (h_kernel, *logits_weights)
    kernel, recurrent_kernel, bias = cell.lstm_weights

    h, observed_h, actions, state = _scan_with_vjp(cell, first_step_forced)(
        recurrent_kernel,
        _DiffInputs(x @ kernel + bias, (*state[:2], *memory), dropout_mask),
        agent,
        _ConstInputs(from_x, noise, mask),
    )
    if cell.n_actions > 1:
        logits = cell.policy(x, observed_h)
    else:
        logits = jnp.zeros((*h.shape[:2], 1), h.dtype)
    if mask is not None:  # zeros until there is an output to repeat
        h = jnp.where(jnp.cumsum(mask, axis=0)[..., None] > 0, h, 0.0)
    h, logits, actions, *memory = (
        jnp.swapaxes(part, 0, 1) for part in (h, logits, actions, *state[2:])
    )
    return h, logits, actions, [*state[:2], *memory]


def _scan_with_vjp(cell, first_step_forced):
    """`_scan` with a gradient of its own.

    Automatic differentiation would accumulate the gradient of the recurrent kernel step
    by step. Here it differentiates all the rest, and the kernel's gradient is one
    product of the h that the steps continued from and the gradients of z.
    """

    @jax.custom_vjp
    def scan(*arrays):
        return _scan(cell, first_step_forced, *arrays)[0]

    def forward(recurrent_kernel, diff, *const):
        results, vjp, start_h = jax.vjp(
            lambda diff: _scan(cell, first_step_forced, recurrent_kernel, diff, *const),
            diff,
            has_aux=True,
        )
        return results, (vjp, start_h)

    def backward(saved, d_results):
        vjp, start_h = saved
        (d_diff,) = vjp(d_results)
        d_kernel = jnp.einsum("tbi,tbo->io", start_h, d_diff.z)
        return d_kernel, d_diff, None, None

    scan.defvjp(forward, backward)
    return scan


def _scan(cell, first_step_forced, recurrent_kernel, diff, agent, const):
    """The loop itself, time first.

    Args:
        cell: `DSCLSTMCell`.
        first_step_forced: whether the first step of a row continues from the state that
            it is given, whatever the agent chooses.
        recurrent_kernel: `[units, 4 * units]`.
        diff: `_DiffInputs`.
        agent: its kernel for the observed h, and the weights of its logits; or None.
        const: `_ConstInputs`.

    Returns:
        `((h [time, batch, units], observed_h [time, batch, units], actions [time,
        batch], state as in _DiffInputs), start_h [time, batch, units])`, the last being
        the h that each step continued from.
    """

    def step(carry, inputs):
        state, started = carry
        z, factors, now = inputs
        start, observed_h, action = _start(cell, state, started, agent, now)
        gates = jnp.split(z + start[0] @ recurrent_kernel, 4, axis=-1)
        h, c = lstm_gates(gates, start[1], cell.forget_bias, factors)
        memory = (
            jnp.concatenate([old[1:], new[None]])
            for old, new in zip(state[2:], (h, c), strict=True)
        )
        after = (h, c, *memory), jnp.ones_like(started)
        if now.mask is not None:
            after = jax.tree.map(
                lambda new, old: jnp.where(now.mask[:, None], new, old), after, carry
            )
        return after, (after[0][0], start[0], observed_h, action)

    started = jnp.full((diff.z.shape[1], 1), not first_step_forced)
    (state, _), (h, start_h, observed_h, actions) = lax.scan(
        step,
        (diff.state, started),
        (diff.z, diff.dropout_mask, const),
        unroll=UNROLL.get(jax.default_backend(), 1),
    )
    return (h, lax.stop_gradient(observed_h), actions, state), start_h


def _start(cell, state, started, agent, now):
    """What a step continues from.

    Args:
        cell: `DSCLSTMCell`.
        state: as in `_DiffInputs`.
        started: `[batch, 1]`, whether a row has had its first step.
        agent: as in `_scan`.
        now: `_ConstInputs` at this step.

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
        h_kernel, logits_kernel, logits_bias = agent
        hidden = jnp.tanh(observed_h @ h_kernel + now.from_x)
        logits = hidden @ logits_kernel + logits_bias
    else:
        logits = cell.fixed_logits(observed_h)
    noisy = logits if now.noise is None else logits.astype(now.noise.dtype) + now.noise
    action = jnp.argmax(noisy, axis=-1)
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
