"""The walk over time of the fast TensorFlow loop; see `dsc.loops.fast`.

It leaves little to do on the way back: the derivatives of the gates are computed for
all steps before the walk.
"""

import keras
import tensorflow as tf
from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext

from dsc.cell import lstm_gates, zone_out

NO_SECOND_DERIVATIVES = (
    "DSCLSTM has no second derivatives with this implementation; use 'plain'."
)


def run(cell, rows, recurrent_kernel, z, dropout_mask, held, given, agent, xla=False):
    """`dsc.loops.jax.run` for TensorFlow.

    Args:
        xla: whether XLA is to compile the loop, as it always does in a function with
            `jit_compile=True`. XLA has no operations that write in place, but it writes
            in place where it can.
    """
    xla = xla or GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())
    loop = _Loop(cell, rows, agent, held, z, xla)

    @tf.custom_gradient
    def walk(*inputs):
        # Else a persistent tape asks for the gradient of each operation in here.
        inputs = list(map(tf.stop_gradient, inputs))
        mask = None if dropout_mask is None else inputs.pop()
        recurrent_kernel, z, *given = inputs
        histories, saved = loop.forward(recurrent_kernel, z, mask, given)

        def gradient(*d_outputs):
            d_inputs = loop.backward(
                saved["z"],
                saved.get("actions"),
                histories,
                recurrent_kernel,
                mask,
                d_outputs[:2],
            )
            return [
                tf.raw_ops.PreventGradient(input=d, message=NO_SECOND_DERIVATIVES)
                for d in d_inputs
            ]

        if not agent:
            saved["observed_h"] = tf.zeros(loop.shape, z.dtype)
            saved["actions"] = tf.zeros(loop.shape[:2], tf.int64)
        return (*histories, saved["observed_h"], saved["actions"]), gradient

    masks = [] if dropout_mask is None else [dropout_mask]
    *histories, observed_h, actions = walk(recurrent_kernel, z, *given, *masks)
    # The loop loses the sizes that are known while the graph is built.
    observed_h = tf.reshape(observed_h, loop.shape)
    return *histories, observed_h, tf.reshape(actions, loop.shape[:2])


def run_for_xla(*inputs):
    """`run` for functions that XLA compiles."""
    return run(*inputs, xla=True)


class _Loop:
    """The walks of one call, forward and back.

    In here a history is `[blocks, batch * units]`, since a step writes a block.

    Args: see `run`.
    """

    def __init__(self, cell, rows, agent, held, z, xla):
        self.cell = cell
        self.rows = rows
        self.agent = agent
        self.held = held
        self.xla = xla
        self.units = cell.units
        self.n_actions = cell.n_actions
        self.lamda = cell.lamda if agent else 0.0
        self.shape = (*_sizes(z), cell.units)
        self.time, self.batch, _ = self.shape
        self.n_blocks = 1 + cell.n_actions + self.time

    def forward(self, recurrent_kernel, z, dropout_mask, given):
        """`((history of h, history of c), what the steps saved: dict of arrays)`."""
        # Of the memory: the projected states, or a running sum of them, which gives
        # the mean of K states at the cost of two. Half precision would lose it in its
        # own rounding.
        sum_dtype = keras.backend.result_type(z.dtype, "float32")
        given = [tf.reshape(part, (1 + self.n_actions, -1)) for part in given]
        if self.cell.observes_states:
            shape = (self.n_actions, self.batch, self.units)
            summary = self.agent.project(tf.reshape(given[0][1:], shape))
        else:
            summary = tf.reduce_sum(tf.cast(given[0], sum_dtype), axis=0)
            summary = tf.reshape(summary, (self.batch, self.units))  # with block 0

        def step(t, newest, histories, summary, saved):
            chosen = None
            observed_h = newest[0]
            if self.cell.observes_mean:
                # What has left the memory is subtracted here, not a step earlier: so a
                # step first reads the history and then writes to it, which XLA needs
                # to write in place.
                summary -= tf.cast(self._block(histories[0], t), sum_dtype)
                observed_h = tf.cast(summary / self.n_actions, z.dtype)
                if self.rows.first_step_forced:
                    observed_h = tf.where(t == 0, newest[0], observed_h)
            if self.agent:
                seen = summary if self.cell.observes_states else observed_h
                action = self._choose(t, seen)
                chosen = self.rows.chosen(t, action)
                saved = {
                    **saved,
                    "observed_h": saved["observed_h"].write(t, observed_h),
                    "actions": saved["actions"].write(t, action),
                }
            start_h, start_c = (
                self._mix(history, chosen, part)
                for history, part in zip(histories, newest, strict=True)
            )
            z_t = tf.matmul(start_h, recurrent_kernel) + z[t]
            factors = None if dropout_mask is None else dropout_mask[t]
            # Slices: tf.split wakes its threads even for so little.
            units = self.units
            gates = [z_t[:, n * units : (n + 1) * units] for n in range(4)]
            newest = lstm_gates(gates, start_c, self.cell.forget_bias, factors)
            if self.held:
                held = [share[t] for share in self.held]
                newest = zone_out(newest, (start_h, start_c), held)
            if self.cell.observes_mean:
                summary += tf.cast(newest[0], sum_dtype)
            elif self.cell.observes_states:
                summary = self.agent.remember(summary, newest[0])
            # In place: nothing else holds the histories, and no step reads what it
            # writes.
            histories = tuple(
                _put_block(history, t + 1 + self.n_actions, part, self.xla)
                for history, part in zip(histories, newest, strict=True)
            )
            saved = {**saved, "z": saved["z"].write(t, z_t)}
            return t + 1, newest, histories, summary, saved

        saved = {"z": tf.TensorArray(z.dtype, self.time, element_shape=z.shape[1:])}
        if self.agent:
            saved["observed_h"] = tf.TensorArray(z.dtype, self.time)
            saved["actions"] = tf.TensorArray(tf.int64, self.time)
        _, _, histories, _, saved = tf.while_loop(
            lambda t, *_: t < self.time,
            step,
            (
                tf.constant(0),
                tuple(self._block(part, 0) for part in given),
                tuple(map(self._new_history, given)),
                summary,
                saved,
            ),
        )
        histories = [tf.reshape(part, (-1, self.units)) for part in histories]
        return histories, {name: array.stack() for name, array in saved.items()}

    def backward(
        self, z, actions, histories, recurrent_kernel, dropout_mask, d_histories
    ):
        """The gradients of the recurrent kernel, z, the given h and c, and any mask.

        Args:
            z: `[time, batch, 4 * units]`, pre-activations with the recurrent part.
            actions: `[time, batch]`, or None without an agent.
            histories: of h and of c, from `forward`.
            recurrent_kernel: `[units, 4 * units]`.
            dropout_mask: `[time, batch, units]` or None.
            d_histories: gradients of the histories.
        """
        steps = tf.range(self.time)[:, None]
        newest = self.rows.newest(steps)
        chosen = self.rows.chosen(steps, actions) if self.agent else None
        # What the steps continued from, h and c, each [time, batch, units].
        start_h, start_c = (
            self._mix(part, chosen, tf.gather(part, newest)) for part in histories
        )
        gates = _GateGradients(z, start_c, self.cell.forget_bias, dropout_mask)
        # Once: transpose_b would reorder the weights at every step.
        transposed_kernel = tf.transpose(recurrent_kernel)
        sources = [
            (rows, weight)
            for rows, weight in ((chosen, self.lamda), (newest, 1.0 - self.lamda))
            if weight > 0.0
        ]

        def step_back(t, d_histories, d_z):
            d_h, d_c = (self._block(d, t + 1 + self.n_actions) for d in d_histories)
            if self.held:
                held_h, held_c = self.held[0][t] * d_h, self.held[1][t] * d_c
                d_h, d_c = d_h - held_h, d_c - held_c
            d_z_t, d_start_c = gates.of_step(t, d_h, d_c)
            d_start = tf.matmul(d_z_t, transposed_kernel), d_start_c
            if self.held:
                d_start = d_start[0] + held_h, d_start[1] + held_c
            for rows, weight in sources:
                d_histories = tuple(
                    _add_to_rows(
                        part, rows[t], d if weight == 1.0 else weight * d, self.xla
                    )
                    for part, d in zip(d_histories, d_start, strict=True)
                )
            return t - 1, d_histories, d_z.write(t, d_z_t)

        blocks = (self.n_blocks, self.batch * self.units)
        _, d_histories, d_z = tf.while_loop(
            lambda t, *_: t >= 0,
            step_back,
            (
                self.time - 1,
                tuple(self._new_history(tf.reshape(d, blocks)) for d in d_histories),
                tf.TensorArray(z.dtype, self.time, element_shape=z.shape[1:]),
            ),
        )
        d_z = d_z.stack()
        d_kernel = tf.matmul(
            tf.reshape(start_h, (-1, self.units)),
            tf.reshape(d_z, (-1, 4 * self.units)),
            transpose_a=True,
        )
        n_given = 1 + self.n_actions
        d_given = (tf.reshape(d[:n_given], (-1, self.units)) for d in d_histories)
        gradients = [d_kernel, d_z, *d_given]
        if dropout_mask is not None:
            d_states = [tf.reshape(d[n_given:], self.shape) for d in d_histories]
            if self.held:
                parts = zip(self.held, d_states, strict=True)
                d_states = [(1.0 - share) * d for share, d in parts]
            gradients.append(gates.of_dropout_mask(*d_states))
        return gradients

    def _choose(self, t, observed_h):
        """The actions at step t, `[batch]`."""
        with tf.name_scope("agent"):
            from_x, noise = (
                None if part is None else part[t]
                for part in (self.agent.from_x, self.agent.noise)
            )
            logits = self.agent.noisy_logits(self.cell, observed_h, from_x, noise)
            return tf.argmax(logits, axis=-1)

    def _mix(self, history, chosen, newest):
        """What a step continues from; `chosen` are rows of the history."""
        if self.lamda == 0.0:
            return newest
        state = tf.gather(tf.reshape(history, (-1, self.units)), chosen)
        if self.lamda == 1.0:
            return state
        return self.lamda * state + (1.0 - self.lamda) * newest

    def _block(self, history, n):
        return tf.reshape(history[n], (self.batch, self.units))

    def _new_history(self, first):
        return _new_history(first, self.n_blocks, self.xla)


class _GateGradients:
    """The gradients of the gates, prepared for all steps at once.

    Every unit stands for itself, so the derivatives are factors.

    Args:
        z: `[time, batch, 4 * units]`, pre-activations.
        start_c: `[time, batch, units]`, the cell states that the steps continued from.
        forget_bias: see `lstm_gates`.
        dropout_mask: `[time, batch, units]` or None.
    """

    def __init__(self, z, start_c, forget_bias, dropout_mask):
        i, j, f, o = tf.split(z, 4, axis=-1)
        sources = [i, j, f, start_c]
        if dropout_mask is not None:
            sources.append(dropout_mask)
        with tf.GradientTape(persistent=True) as tape:
            tape.watch((*sources, o))
            h, c = lstm_gates((i, j, f, o), start_c, forget_bias, dropout_mask)
        *dc_dgates, self._dc_dstart = tape.gradient(c, sources[:4])
        self._dc_dmask = tape.gradient(c, sources[4:])
        self._dh_dc, dh_do = tape.gradient(h, (c, o))
        self._own = tf.concat([*dc_dgates, dh_do], axis=-1)

    def of_step(self, t, d_h, d_c):
        """`(d_z [batch, 4 * units], d_start_c [batch, units])` of step t.

        Args:
            t: scalar.
            d_h, d_c: `[batch, units]`, gradients of the state after the step.
        """
        d_c += d_h * self._dh_dc[t]
        d_z = tf.concat([d_c, d_c, d_c, d_h], axis=-1) * self._own[t]
        return d_z, d_c * self._dc_dstart[t]

    def of_dropout_mask(self, d_h, d_c):
        """The gradient of the mask; d_h and d_c as above, `[time, batch, units]`."""
        return (d_c + d_h * self._dh_dc) * self._dc_dmask[0]


# Writing to a history. TensorFlow writes in place by operations that XLA does not have;
# XLA writes in place by itself where the operations below `if xla` make a copy
# elsewhere.


def _new_history(first, n_blocks, xla):
    """A history that begins with the blocks `first`; the others are not initialised."""
    n_given, size = _sizes(first)
    if xla:
        rest = tf.zeros((n_blocks - n_given, size), first.dtype)
        return tf.concat([first, rest], axis=0)
    # `Empty` is stateful, so TensorFlow never merges two of them into one tensor, as it
    # does with equal constants.
    empty = tf.raw_ops.Empty(shape=(n_blocks, size), dtype=first.dtype)
    return tf.raw_ops.InplaceUpdate(x=empty, i=tf.range(n_given), v=first)


def _put_block(history, n, state, xla):
    """Writes `state` `[batch, units]` to block n."""
    block = tf.reshape(state, (1, -1))
    if xla:
        return tf.tensor_scatter_nd_update(history, [[n]], block)
    return tf.raw_ops.InplaceUpdate(x=history, i=[n], v=block)


def _add_to_rows(history, rows, d_state, xla):
    """Adds `d_state` `[batch, units]` to different rows `[batch]`."""
    flat = tf.reshape(history, (-1, d_state.shape[-1]))
    if xla:
        flat = tf.tensor_scatter_nd_add(flat, rows[:, None], d_state)
    else:
        flat = tf.raw_ops.InplaceAdd(x=flat, i=rows, v=d_state)
    return tf.reshape(flat, tf.shape(history))


def _sizes(x):
    """The first two sizes of a tensor: integers where they are known."""
    known, found = x.shape[:2], tf.shape(x)
    return [found[n] if known[n] is None else known[n] for n in range(2)]
