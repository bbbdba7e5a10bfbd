"""What the fast time loops share: all that can be computed for every step at once.

A fast loop computes what `DSCLSTMCell.step` computes over time, but

- it stores every state once, in one history, and turns an action into a row index: no
  stack of K states is ever made, so time and memory do not grow with K;
- inside the loop the agent only chooses; its logits, which the policy loss needs, are
  computed for all steps at once;
- it has a gradient of its own, which computes that of the recurrent kernel in one
  matrix product after the walk back.

There are two histories, of h and of c. A history is `[blocks * batch, units]`:

    block 0                  the state that step 0 was given
    blocks 1 .. K            the memory before step 0, oldest first
    blocks K+1 .. K+time     the states of the steps

so the memory of step t is the blocks t+1 .. t+K, and action a means block t+1+a.

`dsc.loops.tensorflow` and `dsc.loops.jax` have the walk over time itself, `run`.
"""

import functools
from typing import Any, NamedTuple

from keras import ops

from dsc.cell import lstm_gates, zone_out


class Agent(NamedTuple):
    """The agent inside a loop, where it only chooses.

    It learns from the logits that `dsc_lstm` computes for all steps at once.

    Attributes:
        from_x: `[time, batch, agent_units]`, its pre-activations from the inputs; None
            for a choice without an agent, as are the weights.
        h_kernel: `[units, agent_units]`, its kernel for what it observes of the past.
        logits_kernel, logits_bias: `[agent_units, n_actions]` and `[n_actions]`.
        noise: `[time, batch, n_actions]`, added to its logits, or None.
        from_age: `[n_actions, 1, agent_units]`, its pre-activations from the ages of
            the states, if it scores each of them.
    """

    from_x: Any = None
    h_kernel: Any = None
    logits_kernel: Any = None
    logits_bias: Any = None
    noise: Any = None
    from_age: Any = None

    def project(self, h):
        """The agent's pre-activations from a hidden state, `[..., agent_units]`."""
        return ops.matmul(h, self.h_kernel)

    def remember(self, projected, h):
        """The projected memory `[n_actions, batch, agent_units]` after a step."""
        return ops.concatenate([projected[1:], self.project(h)[None]], axis=0)

    def scores(self, projected, from_x):
        """The logits `[..., batch, n_actions]` of an agent that scores each state.

        `projected` is memory, `[..., n_actions, batch, agent_units]`; `from_x`
        broadcasts to it.
        """
        hidden = ops.tanh(projected + self.from_age + from_x)
        scores = ops.matmul(hidden, self.logits_kernel)[..., 0] + self.logits_bias
        return ops.swapaxes(scores, -1, -2)

    def noisy_logits(self, cell, observed_h, from_x, noise):
        """The logits of one step, whose greatest is its action, `[batch, n_actions]`.

        Args:
            cell: `DSCLSTMCell`.
            observed_h: `[batch, units]`, or the projected memory.
            from_x, noise: those of the step.
        """
        if cell.observes_states:
            logits = self.scores(observed_h, from_x)
        elif cell.has_agent:
            hidden = ops.tanh(self.project(observed_h) + from_x)
            logits = ops.matmul(hidden, self.logits_kernel) + self.logits_bias
        else:
            logits = cell.fixed_logits(observed_h)
        if noise is not None:
            logits = ops.cast(logits, noise.dtype) + noise
        return logits


class Rows:
    """Row indices into a history.

    Args:
        n_actions: K.
        batch: number of sequences, an integer or a scalar tensor.
        first_step_forced: whether step 0 continues from the given state, whatever the
            agent chooses.
    """

    def __init__(self, n_actions, batch, first_step_forced):
        self.n_actions = n_actions
        self.first_step_forced = first_step_forced
        self.batch = batch

    @property
    def row(self):
        # Made where it is used: under JAX it would belong to the trace that made it.
        return ops.arange(self.batch, dtype="int32")

    def block(self, n):
        """Block n: `[batch]`, or `[time, batch]` for n `[time, 1]`."""
        return n * self.batch + self.row

    def newest(self, t):
        """The newest state before step t."""
        return self.block(ops.where(t == 0, 0, t + self.n_actions))

    def chosen(self, t, actions):
        """What the actions `[batch]` or `[time, batch]` mean at step t."""
        rows = self.block(t + 1 + ops.cast(actions, "int32"))
        if self.first_step_forced:
            return ops.where(t == 0, self.block(t), rows)
        return rows


def dsc_lstm(run, cell, x, noise, dropout_mask, zoneout_mask, mask, state, wanted=None):
    """Runs a `DSCLSTMCell` over time.

    Args:
        run: the walk over time of a backend; `dsc.loops.jax.run` says what it computes.
        cell: a built `DSCLSTMCell` without attention and layer normalisation.
        x: `[batch, time, features]`.
        noise: `[batch, time, n_actions]` added to the agent's logits, or None.
        dropout_mask: `[batch, time, units]`, factors on the candidates, or None.
        zoneout_mask: `[batch, time, 2 * units]`, see `DSCLSTMCell.step`, if the cell
            has zoneout. It receives no gradient.
        mask: `[batch, time]` boolean, False where a step is to change nothing, or
            None.
        state: list of h, c, each `[batch, units]`, optionally followed by the memory
            of h and of c, each `[batch, n_actions, units]`, oldest first. Without
            them the memory is zeros and the first step of a row continues from h, c.
        wanted: whether to return the alternatives of `"all"` steps, only of the
            `"last"`, or, if it is None, none.

    Returns:
        `(h [batch, time, units], logits [batch, time, n_actions],
        actions [batch, time], final state [h, c, memory_h, memory_c], alternatives)`.
        At masked steps h repeats the last one, as in Keras; the others have no meaning.
    """
    batch, time, features = ops.shape(x)
    rows = Rows(cell.n_actions, batch, first_step_forced=len(state) == 2)
    order = None if mask is None else _unmasked_first(mask, rows, time)
    x, noise, dropout_mask, zoneout_mask = (
        _time_first(part, order) for part in (x, noise, dropout_mask, zoneout_mask)
    )
    held = ops.split(zoneout_mask, 2, axis=-1) if cell.zoneout else None

    flat_x = ops.reshape(x, (-1, features))  # [time * batch, features]
    kernel, recurrent_kernel, bias = cell.lstm_weights
    z = ops.matmul(flat_x, kernel) + bias
    z = ops.reshape(z, (time, batch, 4 * cell.units))
    agent = None
    if cell.n_actions > 1:
        agent = _agent(cell, flat_x, noise, (time, batch))

    given = _given(cell, state, batch)
    *histories, observed_h, actions = run(
        cell, rows, recurrent_kernel, z, dropout_mask, held, given, agent
    )

    n_blocks = 1 + cell.n_actions + time
    h = ops.reshape(histories[0], (n_blocks, batch, cell.units))[1 + cell.n_actions :]
    if cell.observes_states:
        logits = _policy(cell, flat_x, histories[0], (time, batch))
    elif agent:
        logits = cell.policy(flat_x, ops.reshape(observed_h, (-1, cell.units)))
        logits = ops.reshape(logits, (time, batch, cell.n_actions))
    else:
        logits = ops.zeros((time, batch, 1), z.dtype)
    # As floats: oneDNN logs an error for integers on CPUs without AVX-512.
    outputs = [h, logits, ops.cast(actions, "float32")]
    alternatives = functools.partial(
        _alternatives, cell, rows, recurrent_kernel, z, dropout_mask, held, histories
    )
    if wanted == "all":
        outputs.append(alternatives(ops.arange(time, dtype="int32")[:, None]))
    if mask is None:
        outputs = [ops.swapaxes(part, 0, 1) for part in outputs]
        lengths = ops.full((batch,), time, "int32")
    else:
        counted = ops.cumsum(ops.cast(mask, "int32"), axis=1)
        # The last unmasked step so far.
        index = ops.maximum(counted - 1, 0) * batch + rows.row[:, None]
        outputs = [_take(part, index) for part in outputs]
        started = counted[..., None] > 0
        outputs[0] = ops.where(started, outputs[0], ops.zeros_like(outputs[0]))
        lengths = counted[:, -1]
    blocks = lengths[:, None] + 1 + ops.arange(cell.n_actions, dtype="int32")
    memory = blocks * batch + rows.row[:, None]  # [batch, n_actions]
    final = [
        ops.take(part, index, axis=0)
        for index in (rows.newest(lengths), memory)
        for part in histories
    ]
    h, logits, actions, *found = outputs
    if wanted == "last":
        found = alternatives(ops.maximum(lengths - 1, 0)[None])  # [1, batch, ...]
    return h, logits, ops.cast(actions, "int32"), final, found[0] if wanted else None


def _agent(cell, flat_x, noise, shape, learns=False):
    if not cell.has_agent:
        return Agent(noise=noise)
    weights = cell.agent_weights
    kernel, bias, *logits_weights = (
        weights if learns else map(ops.stop_gradient, weights)
    )
    features, ages = flat_x.shape[-1], flat_x.shape[-1] + cell.units
    from_x = ops.matmul(ops.stop_gradient(flat_x), kernel[:features]) + bias
    from_x = ops.reshape(from_x, (*shape, cell.agent_units))
    from_age = None
    if cell.observes_states:
        from_age = ops.matmul(cell.ages, kernel[ages:])[:, None]
    return Agent(from_x, kernel[features:ages], *logits_weights, noise, from_age)


def _policy(cell, flat_x, history, shape):
    """`cell.policy` of all steps; each state is projected once, not K times."""
    time, batch = shape
    agent = _agent(cell, flat_x, None, shape, learns=True)
    projected = agent.project(ops.stop_gradient(history))
    projected = ops.reshape(projected, (-1, batch, cell.agent_units))  # [blocks, ...]
    slots = 1 + ops.arange(cell.n_actions, dtype="int32")
    memory = ops.arange(time, dtype="int32")[:, None] + slots  # [time, n_actions]
    projected = ops.take(projected, memory, axis=0)
    return agent.scores(projected, agent.from_x[:, None])


def _alternatives(
    cell, rows, recurrent_kernel, z, dropout_mask, held, histories, steps
):
    """What steps would output if they continued from each of the states.

    Args:
        z: `[time, batch, 4 * units]`, pre-activations from the inputs.
        steps: `[n, 1]` or `[n, batch]`, numbers of steps.

    Returns:
        `[n, batch, n_actions, units]`, without a gradient.
    """
    # Here, and not at the end: so no derivative is ever begun.
    recurrent_kernel, z, *histories = map(
        ops.stop_gradient, (recurrent_kernel, z, *histories)
    )
    slots = ops.arange(cell.n_actions, dtype="int32")[:, None, None]
    chosen = rows.chosen(steps, slots)  # [n_actions, n, batch]
    newest, own = rows.newest(steps), rows.block(steps)  # [n, batch]
    lamda = cell.lamda if cell.n_actions > 1 else 0.0

    def mix(history):
        state = ops.take(history, chosen, axis=0)
        if lamda == 1.0:
            return state
        return lamda * state + (1.0 - lamda) * ops.take(history, newest, axis=0)

    h, c = histories
    z = _take(z, own) + mix(ops.matmul(h, recurrent_kernel))
    if dropout_mask is not None:
        dropout_mask = _take(ops.stop_gradient(dropout_mask), own)
    gates = ops.split(z, 4, axis=-1)
    start_c = mix(c)
    new = lstm_gates(gates, start_c, cell.forget_bias, dropout_mask)
    if held is not None:
        new = zone_out(new, (mix(h), start_c), [_take(part, own) for part in held])
    return ops.moveaxis(new[0], 0, 2)


def _given(cell, state, batch):
    """The blocks 0 .. K of both histories, each `[(1 + K) * batch, units]`."""
    if len(state) == 2:
        shape = (cell.n_actions, batch, cell.units)
        memory = [ops.zeros(shape, cell.compute_dtype)] * 2
    else:
        memory = [ops.swapaxes(part, 0, 1) for part in state[2:]]
    return [
        ops.reshape(ops.concatenate([part[None], old], axis=0), (-1, cell.units))
        for part, old in zip(state[:2], memory, strict=True)
    ]


def _unmasked_first(mask, rows, time):
    """The steps of each row in an order that needs no mask: the unmasked ones first.

    Returns:
        `[time, batch]`, rows of a tensor of `[batch * time, ...]`.
    """
    step = ops.arange(time, dtype="int32")
    order = ops.argsort(ops.where(mask, step, step + time), axis=1)
    first = rows.row[:, None] * time
    return ops.transpose(first + ops.cast(order, "int32"))


def _time_first(x, order):
    """`[batch, time, n]` as `[time, batch, n]`, the steps in `order`."""
    if x is None:
        return None
    return ops.swapaxes(x, 0, 1) if order is None else _take(x, order)


def _take(x, index):
    """Takes rows of the first two axes as one: `[*index.shape, *x.shape[2:]]`."""
    return ops.take(ops.reshape(x, (-1, *x.shape[2:])), index, axis=0)
