"""The fast TensorFlow time loop, with its own gradient.

It computes what `DSCLSTMCell.step` computes over time, but

- it stores every state once, in one history, and turns an action into a row index: no
  stack of K states is ever made, so time and memory do not grow with K;
- inside the loop the agent only chooses; its logits, which the policy loss needs, are
  computed for all steps at once;
- it walks back once and leaves little to do on the way: the derivatives of the gates
  are computed for all steps before the walk, and the gradient of the recurrent kernel
  in one matrix product after it.

There are two histories, of h and of c. A history is `[blocks, batch * units]`:

    block 0                  the state that step 0 was given
    blocks 1 .. K            the memory before step 0, oldest first
    blocks K+1 .. K+time     the states of the steps

so the memory of step t is the blocks t+1 .. t+K, and action a means block t+1+a. Viewed
as `[blocks * batch, units]`, a row is the state of one row of the batch.
"""

import keras
import tensorflow as tf

from dsc.cell import lstm_gates

NO_SECOND_DERIVATIVES = (
    "DSCLSTM has no second derivatives with this implementation; use 'plain'."
)


def dsc_lstm(cell, x, noise, dropout_mask, mask, state, xla=False):
    """Runs a `DSCLSTMCell` over time.

    Args:
        cell: a built `DSCLSTMCell` without layer normalisation.
        x: `[batch, time, features]`.
        noise: `[batch, time, n_actions]` added to the agent's logits, or None.
        dropout_mask: `[batch, time, units]`, factors on the candidates, or None.
        mask: `[batch, time]` boolean, False where a step is to change nothing, or
            None.
        state: list of h, c, each `[batch, units]`, optionally followed by the memory
            of h and of c, each `[batch, n_actions, units]`, oldest first. Without
            them the memory is zeros and the first step of a row continues from h, c.
        xla: whether XLA is to compile the loop. XLA has no operations that write in
            place, but it writes in place where it can.

    Returns:
        `(h [batch, time, units], logits [batch, time, n_actions],
        actions [batch, time], final state [h, c, memory_h, memory_c])`. At masked
        steps h repeats the last one, as in Keras; logits and actions have no meaning.
    """
    static = x.shape[:2]
    order = None
    if mask is not None:
        # The unmasked steps of each row first, in order: the loop needs no mask then.
        order = tf.argsort(tf.cast(mask, tf.int32), direction="DESCENDING", stable=True)
    x, noise, dropout_mask = (_time_first(p, order) for p in (x, noise, dropout_mask))
    (time, batch), features = _sizes(x), x.shape[-1]
    flat_x = tf.reshape(x, (-1, features))  # [time * batch, features]
    kernel, recurrent_kernel, bias = cell.lstm_weights
    z = tf.matmul(flat_x, kernel) + bias
    z = tf.reshape(z, (time, batch, 4 * cell.units))

    agent = _Agent(cell, flat_x, noise, time, batch) if cell.n_actions > 1 else None
    loop = _Loop(cell, agent, time, batch, len(state) == 2, xla)
    *histories, observed_h, actions = loop.run(z, recurrent_kernel, dropout_mask, state)

    h = tf.reshape(histories[0][1 + cell.n_actions :], (time, batch, cell.units))
    if cell.n_actions > 1:
        logits = cell.policy(flat_x, tf.reshape(observed_h, (-1, cell.units)))
        logits = tf.reshape(logits, (time, batch, cell.n_actions))
    else:
        logits = tf.zeros((time, batch, 1), z.dtype)
    # The loop loses the sizes that are known while the graph is built.
    h, logits, actions = (
        _swap_batch_time(tf.ensure_shape(p, (static[1], static[0], *p.shape[2:])))
        # As floats: oneDNN logs an error for integers on CPUs without AVX-512.
        for p in (h, logits, tf.cast(actions, tf.float32))
    )
    actions = tf.cast(actions, tf.int32)
    if mask is None:
        lengths = tf.fill((batch,), time)
    else:
        lengths = tf.reduce_sum(tf.cast(mask, tf.int32), axis=1)
        last_real = tf.cumsum(tf.cast(mask, tf.int32), axis=1) - 1
        index = tf.maximum(last_real, 0)
        h, logits, actions = (
            tf.gather(p, index, batch_dims=1) for p in (h, logits, actions)
        )
        h = tf.where(last_real[..., None] >= 0, h, tf.zeros_like(h))
    return h, logits, actions, loop.final_state(histories, lengths)


class _Agent:
    """The agent inside the loop, where it only chooses: it learns from `cell.policy`.

    Args:
        cell: `DSCLSTMCell` with more than one action.
        flat_x: `[time * batch, features]`, the inputs.
        noise: `[time, batch, n_actions]` or None.
    """

    def __init__(self, cell, flat_x, noise, time, batch):
        self.cell = cell
        self.noise = noise
        self.observes_mean = cell.has_agent and cell.observation == "mean"
        if cell.has_agent:
            kernel, bias, self.logits_kernel, self.logits_bias = (
                tf.stop_gradient(w) for w in cell.agent_weights
            )
            features = flat_x.shape[-1]
            self.h_kernel = kernel[features:]
            from_x = tf.matmul(tf.stop_gradient(flat_x), kernel[:features]) + bias
            self.from_x = tf.reshape(from_x, (time, batch, cell.agent_units))

    def choose(self, t, observed_h):
        """The actions at step t, `[batch]`."""
        with tf.name_scope("agent"):
            if self.cell.has_agent:
                hidden = tf.matmul(observed_h, self.h_kernel) + self.from_x[t]
                logits = tf.matmul(tf.tanh(hidden), self.logits_kernel)
                logits += self.logits_bias
            else:
                logits = self.cell.fixed_logits(observed_h)
            if self.noise is not None:
                logits = tf.cast(logits, self.noise.dtype) + self.noise[t]
            return tf.argmax(logits, axis=-1)


class _Loop:
    """The time loop of one call and its gradient, time first.

    Args:
        cell: `DSCLSTMCell`.
        agent: `_Agent`, or None if there is one action.
        time, batch: integers or scalar tensors.
        first_step_forced: whether step 0 continues from the given state, whatever
            the agent chooses.
        xla: see `dsc_lstm`.
    """

    def __init__(self, cell, agent, time, batch, first_step_forced, xla):
        self.cell = cell
        self.agent = agent
        self.time = time
        self.batch = batch
        self.first_step_forced = first_step_forced
        self.xla = xla
        self.units = cell.units
        self.n_actions = cell.n_actions
        self.lamda = cell.lamda if agent else 0.0
        self.n_blocks = 1 + cell.n_actions + time

    def run(self, z, recurrent_kernel, dropout_mask, state):
        """Runs over all steps.

        Args:
            z: `[time, batch, 4 * units]`, pre-activations from the inputs.
            recurrent_kernel: `[units, 4 * units]`.
            dropout_mask: `[time, batch, units]` or None.
            state: see `dsc_lstm`.

        Returns:
            `(history of h, history of c, observed_h [time, batch, units], actions
            [time, batch])`.
        """

        @tf.custom_gradient
        def run(*inputs):
            # Else a persistent tape asks for the gradient of each operation in here.
            inputs = list(map(tf.stop_gradient, inputs))
            mask = None if dropout_mask is None else inputs.pop()
            z, recurrent_kernel, *given = inputs
            histories, saved = self._forward(z, recurrent_kernel, mask, given)

            def gradient(*d_outputs):
                d_inputs = self._backward(
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

            if not self.agent:
                shape = (self.time, self.batch)
                saved["observed_h"] = tf.zeros((*shape, self.units), z.dtype)
                saved["actions"] = tf.zeros(shape, tf.int64)
            return (*histories, saved["observed_h"], saved["actions"]), gradient

        if len(state) == 2:
            memory = [tf.zeros((self.n_actions, self.batch, self.units), z.dtype)] * 2
        else:
            memory = map(_swap_batch_time, state[2:])
        # The blocks 0 .. K of both histories.
        given = [
            tf.reshape(tf.concat([part[None], old], axis=0), (1 + self.n_actions, -1))
            for part, old in zip(state[:2], memory, strict=True)
        ]
        masks = [] if dropout_mask is None else [dropout_mask]
        return run(z, recurrent_kernel, *given, *masks)

    def _forward(self, z, recurrent_kernel, dropout_mask, given):
        """`((history of h, history of c), what the steps saved: dict of arrays)`."""
        # A running sum of the memory: the mean of K states at the cost of two.
        # Half precision would lose it in its own rounding.
        sum_dtype = keras.backend.result_type(z.dtype, "float32")
        memory_sum = tf.reduce_sum(tf.cast(given[0], sum_dtype), axis=0)
        memory_sum = tf.reshape(memory_sum, (self.batch, self.units))  # with block 0
        observes_mean = self.agent and self.agent.observes_mean

        def step(t, newest, histories, memory_sum, saved):
            chosen = None
            if observes_mean:
                # What has left the memory is subtracted here, not a step earlier: so a
                # step first reads the history and then writes to it, which XLA needs
                # to write in place.
                memory_sum -= tf.cast(self._block(histories[0], t), sum_dtype)
            if self.agent:
                observed_h = self._observe(t, newest[0], memory_sum)
                action = self.agent.choose(t, observed_h)
                chosen = self._chosen_rows(t, action)
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
            if observes_mean:
                memory_sum += tf.cast(newest[0], sum_dtype)
            # In place: nothing else holds the histories, and no step reads what it
            # writes.
            histories = tuple(
                _put_block(history, t + 1 + self.n_actions, part, self.xla)
                for history, part in zip(histories, newest, strict=True)
            )
            saved = {**saved, "z": saved["z"].write(t, z_t)}
            return t + 1, newest, histories, memory_sum, saved

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
                tuple(_new_history(part, self.n_blocks, self.xla) for part in given),
                memory_sum,
                saved,
            ),
        )
        return histories, {name: array.stack() for name, array in saved.items()}

    def _backward(
        self, z, actions, histories, recurrent_kernel, dropout_mask, d_histories
    ):
        """The gradients of z, the recurrent kernel, the given h and c, and any mask.

        Args:
            z: `[time, batch, 4 * units]`, pre-activations with the recurrent part.
            actions: `[time, batch]`, or None without an agent.
            histories: of h and of c, from `_forward`.
            recurrent_kernel: `[units, 4 * units]`.
            dropout_mask: `[time, batch, units]` or None.
            d_histories: gradients of the histories.
        """
        steps = tf.range(self.time)[:, None]
        newest = self._block_rows(tf.where(steps == 0, 0, steps + self.n_actions))
        chosen = self._chosen_rows(steps, actions) if self.agent else None
        # What the steps continued from, h and c, each [time, batch, units].
        start_h, start_c = (
            self._mix(part, chosen, self._take(part, newest)) for part in histories
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
            d_z_t, d_start_c = gates.of_step(t, d_h, d_c)
            d_start = tf.matmul(d_z_t, transposed_kernel), d_start_c
            for rows, weight in sources:
                d_histories = tuple(
                    _add_to_rows(
                        part, rows[t], d if weight == 1.0 else weight * d, self.xla
                    )
                    for part, d in zip(d_histories, d_start, strict=True)
                )
            return t - 1, d_histories, d_z.write(t, d_z_t)

        _, d_histories, d_z = tf.while_loop(
            lambda t, *_: t >= 0,
            step_back,
            (
                self.time - 1,
                tuple(_new_history(d, self.n_blocks, self.xla) for d in d_histories),
                tf.TensorArray(z.dtype, self.time, element_shape=z.shape[1:]),
            ),
        )
        d_z = d_z.stack()
        d_kernel = tf.matmul(
            tf.reshape(start_h, (-1, self.units)),
            tf.reshape(d_z, (-1, 4 * self.units)),
            transpose_a=True,
        )
        d_given = (part[: 1 + self.n_actions] for part in d_histories)
        gradients = [d_z, d_kernel, *d_given]
        if dropout_mask is not None:
            shape = (self.time, self.batch, self.units)
            d_states = (tf.reshape(d[1 + self.n_actions :], shape) for d in d_histories)
            gradients.append(gates.of_dropout_mask(*d_states))
        return gradients

    def final_state(self, histories, lengths):
        """`[h, c, memory_h, memory_c]` after `lengths` steps of each row, `[batch]`."""
        row = tf.range(self.batch)
        last = tf.where(lengths == 0, 0, lengths + self.n_actions)
        newest = last * self.batch + row
        blocks = lengths[:, None] + 1 + tf.range(self.n_actions)  # [batch, n_actions]
        memory = blocks * self.batch + row[:, None]
        return [
            self._take(part, rows) for rows in (newest, memory) for part in histories
        ]

    def _observe(self, t, newest_h, memory_sum):
        """What the agent sees of the past before step t, `[batch, units]`."""
        if not self.agent.observes_mean:
            return newest_h
        mean_h = tf.cast(memory_sum / self.n_actions, newest_h.dtype)
        return tf.where(t == 0, newest_h, mean_h) if self.first_step_forced else mean_h

    def _mix(self, history, chosen, newest):
        """What a step continues from; `chosen` are rows of the history."""
        if self.lamda == 0.0:
            return newest
        state = self._take(history, chosen)
        if self.lamda == 1.0:
            return state
        return self.lamda * state + (1.0 - self.lamda) * newest

    def _chosen_rows(self, t, action):
        """The rows of a history that actions at step t mean."""
        rows = self._block_rows(t + 1 + tf.cast(action, tf.int32))
        if self.first_step_forced:
            return tf.where(t == 0, self._block_rows(t), rows)
        return rows

    def _block_rows(self, n):
        """Block n as rows: `[batch]`, or `[time, batch]` for n `[time, 1]`."""
        return n * self.batch + tf.range(self.batch)

    def _block(self, history, n):
        return tf.reshape(history[n], (self.batch, self.units))

    def _take(self, history, rows):
        return tf.gather(tf.reshape(history, (-1, self.units)), rows)


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


def _time_first(x, order):
    """`[batch, time, n]` as `[time, batch, n]`, the steps of a row in `order`."""
    if x is None:
        return None
    return _swap_batch_time(x if order is None else tf.gather(x, order, batch_dims=1))


def _swap_batch_time(x):
    return tf.transpose(x, (1, 0, *range(2, x.shape.rank)))
