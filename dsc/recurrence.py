"""The fast TensorFlow time loop, with its own gradient.

It computes what `DSCLSTMCell.step` computes over time (`cell.py` is the definition,
the tests hold the two together), but

- keeps every state once, in one history, and turns a choice into a row index: no
  stack of K states is ever made, so time and memory do not grow with K;
- uses the agent in the loop only to choose, and forms its logits, which are all that
  is learned of it, for all steps at once;
- walks back once and leaves little to do on the way: the gates' derivatives are formed
  for all steps before it, the recurrent weights' gradient in one product after it.

The states are kept in two histories, of h and of c; see `dsc.history`.
"""

import tensorflow as tf

from dsc.cell import lstm_gates
from dsc.history import add_to_rows, new_history, put_block, sizes


def dsc_lstm(cell, x, noise, dropout_mask, mask, state, xla=False):
    """Runs a `DSCLSTMCell` over time.

    Args:
        cell: a built `DSCLSTMCell`.
        x: `[batch, time, features]`.
        noise: `[batch, time, n_actions]` added to the agent's logits, or None.
        dropout_mask: `[batch, time, units]`, factors on the candidates, or None.
        mask: `[batch, time]` boolean, False where a step is to change nothing, or
            None.
        state: list of h, c, each `[batch, units]`, optionally followed by the memory
            of h and of c, each `[batch, n_actions, units]`, oldest first. Without
            them the memory is zeros and a row's first step continues from h, c.
        xla: whether XLA is to compile the loop. It has no operations that write in
            place, but writes in place where it can; elsewhere each write is a copy.

    Returns:
        `(h [batch, time, units], logits [batch, time, n_actions],
        actions [batch, time], final state [h, c, memory_h, memory_c])`. At masked
        steps h repeats the last one, as in Keras; logits and actions have no meaning.
    """
    static = x.shape[:2]
    order = None
    if mask is not None:
        # Each row's real steps first, in order: the loop then knows nothing of masks.
        order = tf.argsort(tf.cast(mask, tf.int32), direction="DESCENDING", stable=True)
    x, noise, dropout_mask = (_time_first(p, order) for p in (x, noise, dropout_mask))
    (time, batch), features = sizes(x), x.shape[-1]
    flat_x = tf.reshape(x, (-1, features))  # [time * batch, features]
    z = tf.matmul(flat_x, tf.convert_to_tensor(cell.kernel)) + cell.bias
    z = tf.reshape(z, (time, batch, 4 * cell.units))

    *histories, observed_h, actions = _scan(
        cell, flat_x, z, noise, dropout_mask, state, xla
    )

    made = histories[0][1 + cell.n_actions :]
    h = tf.reshape(made, (time, batch, cell.units))
    if cell.n_actions > 1:
        logits = cell.policy(flat_x, tf.reshape(observed_h, (-1, cell.units)))
        logits = tf.reshape(logits, (time, batch, cell.n_actions))
    else:
        logits = tf.zeros((time, batch, 1), z.dtype)
    # What is known of batch and time before the run gets lost in the loop.
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
    return h, logits, actions, _final_state(cell, histories, lengths)


def _time_first(x, order):
    """`[batch, time, n]` as `[time, batch, n]`, its steps in a row's order if given."""
    if x is None:
        return None
    return _swap_batch_time(x if order is None else tf.gather(x, order, batch_dims=1))


def _swap_batch_time(x):
    return tf.transpose(x, (1, 0, *range(2, x.shape.rank)))


def _final_state(cell, histories, lengths):
    """The states after each row's last real step, lengths `[batch]` int32."""
    batch = tf.shape(lengths)[0]
    row = tf.range(batch)
    newest = tf.where(lengths == 0, 0, lengths + cell.n_actions) * batch + row
    slots = lengths[:, None] + 1 + tf.range(cell.n_actions)  # [batch, n_actions]
    memory = slots * batch + row[:, None]
    flat = [tf.reshape(history, (-1, cell.units)) for history in histories]
    return [tf.gather(part, rows) for rows in (newest, memory) for part in flat]


def _scan(cell, flat_x, z, noise, dropout_mask, state, xla):
    """The loop itself, time first.

    Returns:
        `(history of h, history of c, observed_h [time, batch, units], actions
        [time, batch])`.
    """
    time, batch = sizes(z)
    n_actions, units = cell.n_actions, cell.units
    fresh = len(state) == 2
    chooses, has_agent = n_actions > 1, cell.has_agent
    observes_mean = has_agent and cell.observation == "mean"
    lamda = cell.lamda if chooses else 0.0

    def block_rows(n):
        """Block n as rows `[units]`: `[batch]`, or `[time, batch]` for `[time, 1]`."""
        return n * batch + tf.range(batch)

    def block(history, n):
        return tf.reshape(history[n], (batch, units))

    def chosen_rows(t, action):
        # Only at a fresh start there is no choice at step 0.
        rows = block_rows(t + 1 + tf.cast(action, tf.int32))
        return tf.where(t == 0, block_rows(t), rows) if fresh else rows

    def take(history, rows):
        return tf.gather(tf.reshape(history, (-1, units)), rows)

    def mix(history, chosen, newest):
        """What a step continues from; chosen: rows of the history, newest: a state."""
        if lamda == 0.0:
            return newest
        state = take(history, chosen)
        return state if lamda == 1.0 else lamda * state + (1.0 - lamda) * newest

    def gates(parts, start_c, factors, norm):
        return lstm_gates(parts, start_c, cell.forget_bias, factors, norm or None)

    if has_agent:
        # In the loop the agent only chooses; it learns from `cell.policy`.
        kernel, bias, kernel_2, bias_2 = (
            tf.stop_gradient(tf.convert_to_tensor(w))
            for w in (*cell.agent_hidden.weights, *cell.agent_logits.weights)
        )
        features = flat_x.shape[-1]
        observed_x = tf.matmul(tf.stop_gradient(flat_x), kernel[:features]) + bias
        observed_x = tf.reshape(observed_x, (time, batch, cell.agent_units))

    def observe(t, newest_h, memory_sum):
        """What the agent sees of the past before step t, `[batch, units]`."""
        if not observes_mean:
            return newest_h
        mean_h = tf.cast(memory_sum / n_actions, newest_h.dtype)
        return tf.where(t == 0, newest_h, mean_h) if fresh else mean_h

    def choose(t, observed_h):
        """The actions at step t, `[batch]`."""
        with tf.name_scope("agent"):
            if has_agent:
                hidden = tf.matmul(observed_h, kernel[features:]) + observed_x[t]
                logits = tf.matmul(tf.tanh(hidden), kernel_2) + bias_2
            else:
                logits = cell.fixed_logits(observed_h)
            noisy = logits if noise is None else logits + noise[t]
            return tf.argmax(noisy, axis=-1)

    @tf.custom_gradient
    def run(z, recurrent_kernel, given_h, given_c, *norm):
        # given: the blocks 0 .. K, `[1 + n_actions, batch * units]`.
        # Else a persistent tape asks for the gradient of each operation in here too.
        z, recurrent_kernel, given_h, given_c, *norm = map(
            tf.stop_gradient, (z, recurrent_kernel, given_h, given_c, *norm)
        )
        n_blocks = 1 + n_actions + time
        # Half precision would lose the running sum in its own rounding.
        sum_dtype = tf.float64 if z.dtype == tf.float64 else tf.float32
        memory_sum = tf.reduce_sum(tf.cast(given_h, sum_dtype), axis=0)
        memory_sum = tf.reshape(memory_sum, (batch, units))  # and the given state

        def step(t, newest, histories, memory_sum, saved):
            chosen = None
            if observes_mean:
                # A running sum: the mean of K states at the cost of two. What has left
                # the memory is taken off here, not before, so that a step first reads
                # the history and then writes to it, in place under XLA too.
                memory_sum -= tf.cast(block(histories[0], t), sum_dtype)
            if chooses:
                observed_h = observe(t, newest[0], memory_sum)
                action = choose(t, observed_h)
                chosen = chosen_rows(t, action)
                saved = {
                    **saved,
                    "observed_h": saved["observed_h"].write(t, observed_h),
                    "actions": saved["actions"].write(t, action),
                }
            start_h, start_c = (
                mix(history, chosen, part)
                for history, part in zip(histories, newest, strict=True)
            )
            z_t = tf.matmul(start_h, recurrent_kernel) + z[t]
            factors = None if dropout_mask is None else dropout_mask[t]
            # Slices, because split wakes its threads even for so little.
            parts = [z_t[:, n * units : (n + 1) * units] for n in range(4)]
            newest = gates(parts, start_c, factors, norm)
            if observes_mean:
                memory_sum += tf.cast(newest[0], sum_dtype)
            # In place: only this loop has the histories, and no step reads what it
            # writes.
            histories = tuple(
                put_block(history, t + 1 + n_actions, part, xla)
                for history, part in zip(histories, newest, strict=True)
            )
            saved = {**saved, "z": saved["z"].write(t, z_t)}
            return t + 1, newest, histories, memory_sum, saved

        saved = {"z": tf.TensorArray(z.dtype, time, element_shape=z.shape[1:])}
        if chooses:
            saved["observed_h"] = tf.TensorArray(z.dtype, time)
            saved["actions"] = tf.TensorArray(tf.int64, time)
        _, _, histories, _, saved = tf.while_loop(
            lambda t, *_: t < time,
            step,
            (
                tf.constant(0),
                (block(given_h, 0), block(given_c, 0)),
                (
                    new_history(given_h, n_blocks, xla),
                    new_history(given_c, n_blocks, xla),
                ),
                memory_sum,
                saved,
            ),
        )
        saved = {name: array.stack() for name, array in saved.items()}

        def gradient(*d_outputs):
            steps = tf.range(time)[:, None]
            newest = block_rows(tf.where(steps == 0, 0, steps + n_actions))
            chosen = chosen_rows(steps, saved["actions"]) if chooses else None
            # All that the steps continued from, each [time, batch, units].
            starts = [mix(p, chosen, take(p, newest)) for p in histories]
            pull_back = _pull_back(gates, saved["z"], starts[1], dropout_mask, norm)
            # Once, where transpose_b would reorder the weights at every step.
            transposed_kernel = tf.transpose(recurrent_kernel)
            sources = [
                (rows, weight)
                for rows, weight in ((chosen, lamda), (newest, 1.0 - lamda))
                if weight > 0.0
            ]

            def step_back(t, d_histories, d_z, d_norm):
                d_state = [block(part, t + 1 + n_actions) for part in d_histories]
                d_z_t, d_start_c, *d_norm_t = pull_back(t, *d_state)
                d_start = tf.matmul(d_z_t, transposed_kernel), d_start_c
                for rows, weight in sources:
                    d_histories = tuple(
                        add_to_rows(
                            part, rows[t], d if weight == 1.0 else weight * d, xla
                        )
                        for part, d in zip(d_histories, d_start, strict=True)
                    )
                d_norm = tuple(a + b for a, b in zip(d_norm, d_norm_t, strict=True))
                return t - 1, d_histories, d_z.write(t, d_z_t), d_norm

            _, d_histories, d_z, d_norm = tf.while_loop(
                lambda t, *_: t >= 0,
                step_back,
                (
                    time - 1,
                    tuple(new_history(d, n_blocks, xla) for d in d_outputs[:2]),
                    tf.TensorArray(z.dtype, time, element_shape=z.shape[1:]),
                    tuple(tf.zeros_like(w) for w in norm),
                ),
            )
            d_z = d_z.stack()
            d_kernel = tf.matmul(
                tf.reshape(starts[0], (-1, units)),
                tf.reshape(d_z, (-1, 4 * units)),
                transpose_a=True,
            )
            d_given = (part[: 1 + n_actions] for part in d_histories)
            return d_z, d_kernel, *d_given, *d_norm

        if not chooses:
            saved["observed_h"] = tf.zeros((time, batch, units), z.dtype)
            saved["actions"] = tf.zeros((time, batch), tf.int64)
        return (*histories, saved["observed_h"], saved["actions"]), gradient

    if fresh:
        memory = [tf.zeros((n_actions, batch, units), z.dtype)] * 2
    else:
        memory = map(_swap_batch_time, state[2:])
    given = [
        tf.reshape(tf.concat([part[None], old], axis=0), (-1, batch * units))
        for part, old in zip(state[:2], memory, strict=True)
    ]
    return run(
        z,
        tf.convert_to_tensor(cell.recurrent_kernel),
        *given,
        *(tf.convert_to_tensor(w) for w in cell.norm or ()),
    )


def _pull_back(gates, z, starts_c, dropout_mask, norm):
    """The derivatives of all steps' gates, for the walk back.

    Args:
        gates: `lstm_gates` with the cell's settings.
        z: `[time, batch, 4 * units]`, pre-activations.
        starts_c: `[time, batch, units]`, the cell states that the steps continued from.
        dropout_mask: `[time, batch, units]` or None.
        norm: list of the layer normalisation's weights, or empty.

    Returns:
        Function of `(t, d_h, d_c)`, `[batch, units]` each: `(d_z [batch, 4 * units],
        d_start_c [batch, units], *d_norm)` of step t.
    """

    def step_by_step(t, d_h, d_c):
        z_t, start_c = z[t], starts_c[t]
        factors = None if dropout_mask is None else dropout_mask[t]
        with tf.GradientTape() as tape:
            tape.watch((z_t, start_c, *norm))
            outputs = gates(tf.split(z_t, 4, axis=-1), start_c, factors, norm)
        return tape.gradient(outputs, (z_t, start_c, *norm), (d_h, d_c))

    if norm:
        return step_by_step

    # Without normalisation every unit stands for itself, and the derivatives are
    # factors: formed for all steps at once, from the same definition of the gates.
    i, j, f, o = tf.split(z, 4, axis=-1)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch((i, j, f, o, starts_c))
        h, c = gates((i, j, f, o), starts_c, dropout_mask, norm)
    *dc_dgates, dc_dstart = tape.gradient(c, (i, j, f, starts_c))
    dh_dc, dh_do = tape.gradient(h, (c, o))
    own = tf.concat([*dc_dgates, dh_do], axis=-1)

    def by_factors(t, d_h, d_c):
        d_c += d_h * dh_dc[t]
        d_z = tf.concat([d_c, d_c, d_c, d_h], axis=-1) * own[t]
        return d_z, d_c * dc_dstart[t]

    return by_factors
