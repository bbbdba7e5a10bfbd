"""The fast TensorFlow time loop, with its own gradient: the only clever file.

It computes what `DSCLSTMCell.step` computes over time (`cell.py` is the definition,
the tests hold the two together), but

- keeps every state once, in one history, and turns a choice into a row index: no
  stack of K states is ever made, so time and memory do not grow with K;
- uses the agent in the loop only to choose, and forms its logits, which are all that
  is learned of it, for all steps at once;
- walks back once and forms the recurrent weights' gradient in one product over all
  steps, where the derivative of an ordinary loop adds up a small product each step.

The history holds blocks of `batch` rows `[2 * units]`, h beside c:

    block 0                  the state that step 0 was given
    blocks 1 .. K            the memory before step 0, oldest first
    blocks K+1 .. K+time     the states that the steps made

so the memory of step t is the blocks t+1 .. t+K, and action a means block t+1+a.
"""

import tensorflow as tf

from dsc.cell import lstm_gates


def dsc_lstm(cell, x, noise, dropout_mask, mask, state):
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
    time, batch, features = tf.shape(x)[0], tf.shape(x)[1], x.shape[-1]
    flat_x = tf.reshape(x, (-1, features))  # [time * batch, features]
    z = tf.matmul(flat_x, tf.convert_to_tensor(cell.kernel)) + cell.bias
    z = tf.reshape(z, (time, batch, 4 * cell.units))

    history, observed_h, actions = _scan(cell, flat_x, z, noise, dropout_mask, state)

    blocks = tf.reshape(history, (-1, batch, 2 * cell.units))
    h = blocks[1 + cell.n_actions :, :, : cell.units]  # [time, batch, units]
    if cell.n_actions > 1:
        logits = cell.policy(flat_x, tf.reshape(observed_h, (-1, cell.units)))
        logits = tf.reshape(logits, (time, batch, cell.n_actions))
    else:
        logits = tf.zeros((time, batch, 1), z.dtype)
    h, logits, actions = map(_swap_batch_time, (h, logits, actions))
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
    actions = tf.cast(actions, tf.int32)
    # What is known of batch and time before the run gets lost in the loop.
    h, logits, actions = (
        tf.ensure_shape(p, static.concatenate(p.shape[2:]))
        for p in (h, logits, actions)
    )
    return h, logits, actions, _final_state(cell, history, lengths)


def _time_first(x, order):
    """`[batch, time, n]` as `[time, batch, n]`, its steps in a row's order if given."""
    if x is None:
        return None
    return _swap_batch_time(x if order is None else tf.gather(x, order, batch_dims=1))


def _swap_batch_time(x):
    return tf.transpose(x, (1, 0, *range(2, x.shape.rank)))


def _buffer(first, n_rows):
    """A new buffer of `n_rows` rows that begins with `first`, to write to in place.

    `Empty` is stateful, so TensorFlow never merges two of them, as it does with equal
    tensors; the rows after `first` are not initialised.
    """
    empty = tf.raw_ops.Empty(shape=(n_rows, first.shape[1]), dtype=first.dtype)
    return tf.raw_ops.InplaceUpdate(x=empty, i=tf.range(tf.shape(first)[0]), v=first)


def _final_state(cell, history, lengths):
    """The states after each row's last real step, lengths `[batch]` int32."""
    n_actions, units = cell.n_actions, cell.units
    batch = tf.shape(lengths)[0]
    rows = tf.range(batch)
    newest = tf.where(lengths == 0, 0, lengths + n_actions) * batch + rows
    newest = tf.gather(history, newest)
    memory = (lengths[:, None] + 1 + tf.range(n_actions)) * batch + rows[:, None]
    memory = tf.gather(history, memory)  # [batch, n_actions, 2 * units]
    return [
        newest[:, :units],
        newest[:, units:],
        memory[..., :units],
        memory[..., units:],
    ]


def _scan(cell, flat_x, z, noise, dropout_mask, state):
    """The loop itself, time first: `(history, observed_h, actions)`."""
    time, batch = tf.shape(z)[0], tf.shape(z)[1]
    n_actions, units = cell.n_actions, cell.units
    fresh = len(state) == 2
    has_agent = n_actions > 1
    lamda = cell.lamda if has_agent else 0.0
    rows = tf.range(batch)

    def block_rows(block):
        return block * batch + rows

    def newest_rows(t):
        return block_rows(tf.where(t == 0, 0, t + n_actions))

    def chosen_rows(t, action):
        # Only at a fresh start there is no choice at step 0.
        chosen = block_rows(t + 1 + tf.cast(action, tf.int32))
        return tf.where(tf.logical_and(fresh, t == 0), newest_rows(t), chosen)

    def sources(chosen, newest):
        """What a step continues from: rows of the history and their weights."""
        pairs = ((chosen, lamda), (newest, 1.0 - lamda))
        return [(rows, weight) for rows, weight in pairs if weight > 0.0]

    def mix(history, chosen, newest):
        return tf.add_n(
            [
                tf.gather(history, rows) * tf.constant(weight, history.dtype)
                for rows, weight in sources(chosen, newest)
            ]
        )

    def gates(z_t, start_c, t, norm):
        factors = None if dropout_mask is None else dropout_mask[t]
        return lstm_gates(z_t, start_c, cell.forget_bias, factors, norm or None)

    if has_agent:
        # In the loop the agent only chooses; it learns from `cell.policy`.
        kernel, bias, kernel_2, bias_2 = (
            tf.stop_gradient(tf.convert_to_tensor(w))
            for w in (*cell.agent_hidden.weights, *cell.agent_logits.weights)
        )
        features = flat_x.shape[-1]
        observed_x = tf.matmul(tf.stop_gradient(flat_x), kernel[:features]) + bias
        observed_x = tf.reshape(observed_x, (time, batch, cell.agent_units))

    def observe(t, history, memory_sum):
        """What the agent sees of the past before step t, `[batch, units]`."""
        newest_h = tf.gather(history, newest_rows(t))[:, :units]
        if cell.observation == "last":
            return newest_h
        mean_h = tf.cast(memory_sum / n_actions, newest_h.dtype)
        return tf.where(tf.logical_and(fresh, t == 0), newest_h, mean_h)

    def choose(t, observed_h):
        """The agent's actions at step t, `[batch]`."""
        hidden = tf.tanh(observed_x[t] + tf.matmul(observed_h, kernel[features:]))
        logits = tf.matmul(hidden, kernel_2) + bias_2
        return tf.argmax(logits if noise is None else logits + noise[t], axis=-1)

    @tf.custom_gradient
    def run(z, recurrent_kernel, given, *norm):
        # given: [(1 + n_actions) * batch, 2 * units], the blocks 0 .. K.
        # Else a persistent tape asks for the gradient of each operation in here too.
        z, recurrent_kernel, given, *norm = map(
            tf.stop_gradient, (z, recurrent_kernel, given, *norm)
        )
        history = _buffer(given, (1 + n_actions + time) * batch)
        memory_h = tf.reshape(given[batch:, :units], (n_actions, batch, units))
        # Half precision would lose the running sum in its own rounding.
        sum_dtype = tf.float64 if z.dtype == tf.float64 else tf.float32
        memory_sum = tf.reduce_sum(tf.cast(memory_h, sum_dtype), axis=0)

        def step(t, history, memory_sum, saved):
            chosen = newest = newest_rows(t)
            if has_agent:
                observed_h = observe(t, history, memory_sum)
                action = choose(t, observed_h)
                chosen = chosen_rows(t, action)
                saved = {
                    **saved,
                    "observed_h": saved["observed_h"].write(t, observed_h),
                    "actions": saved["actions"].write(t, action),
                    "chosen": saved["chosen"].write(t, chosen),
                }
            start = mix(history, chosen, newest)
            z_t = z[t] + tf.matmul(start[:, :units], recurrent_kernel)
            h, c = gates(z_t, start[:, units:], t, norm)
            if has_agent and cell.observation == "mean":
                # A running sum: the mean of K states at the cost of two.
                oldest_h = tf.gather(history, block_rows(t + 1))[:, :units]
                memory_sum += tf.cast(h, sum_dtype) - tf.cast(oldest_h, sum_dtype)
            # In place, where tensor_scatter_nd_update copies the whole history. Only
            # this loop has the buffer, and no step reads rows that it writes.
            history = tf.raw_ops.InplaceUpdate(
                x=history,
                i=block_rows(t + 1 + n_actions),
                v=tf.concat([h, c], axis=-1),
            )
            saved = {**saved, "z": saved["z"].write(t, z_t)}
            return t + 1, history, memory_sum, saved

        saved = {"z": tf.TensorArray(z.dtype, time, element_shape=z.shape[1:])}
        if has_agent:
            for name, dtype in (
                ("observed_h", z.dtype),
                ("actions", tf.int64),
                ("chosen", tf.int32),
            ):
                saved[name] = tf.TensorArray(dtype, time)
        _, history, _, saved = tf.while_loop(
            lambda t, *_: t < time, step, (tf.constant(0), history, memory_sum, saved)
        )
        saved = {name: array.stack() for name, array in saved.items()}
        all_newest = newest_rows(tf.range(time)[:, None])  # [time, batch]
        all_chosen = saved.get("chosen", all_newest)

        def gradient(d_history, *_):
            starts = mix(history, all_chosen, all_newest)  # [time, batch, 2 * units]

            def step_back(t, d_history, d_z, d_norm):
                d_state = tf.gather(d_history, block_rows(t + 1 + n_actions))
                z_t, start_c = saved["z"][t], starts[t, :, units:]
                with tf.GradientTape() as tape:
                    tape.watch((z_t, start_c, *norm))
                    h, c = gates(z_t, start_c, t, norm)
                d_z_t, d_start_c, *d_norm_t = tape.gradient(
                    (h, c), (z_t, start_c, *norm), tf.split(d_state, 2, axis=-1)
                )
                d_start_h = tf.matmul(d_z_t, recurrent_kernel, transpose_b=True)
                d_start = tf.concat([d_start_h, d_start_c], axis=-1)
                for rows, weight in sources(all_chosen[t], all_newest[t]):
                    d_history = tf.raw_ops.InplaceAdd(
                        x=d_history, i=rows, v=d_start * tf.constant(weight, z.dtype)
                    )
                d_norm = tuple(a + b for a, b in zip(d_norm, d_norm_t, strict=True))
                return t - 1, d_history, d_z.write(t, d_z_t), d_norm

            _, d_history, d_z, d_norm = tf.while_loop(
                lambda t, *_: t >= 0,
                step_back,
                (
                    time - 1,
                    _buffer(d_history, tf.shape(d_history)[0]),
                    tf.TensorArray(z.dtype, time, element_shape=z.shape[1:]),
                    tuple(tf.zeros_like(w) for w in norm),
                ),
            )
            d_z = d_z.stack()
            d_kernel = tf.matmul(
                tf.reshape(starts[..., :units], (-1, units)),
                tf.reshape(d_z, (-1, 4 * units)),
                transpose_a=True,
            )
            return d_z, d_kernel, d_history[: (1 + n_actions) * batch], *d_norm

        if not has_agent:
            saved["observed_h"] = tf.zeros((time, batch, units), z.dtype)
            saved["actions"] = tf.zeros((time, batch), tf.int64)
        return (history, saved["observed_h"], saved["actions"]), gradient

    given = tf.concat(state[:2], axis=-1)
    if fresh:
        memory = tf.zeros((n_actions * batch, 2 * units), z.dtype)
    else:
        memory = tf.concat(state[2:], axis=-1)
        memory = tf.reshape(_swap_batch_time(memory), (-1, 2 * units))
    return run(
        z,
        tf.convert_to_tensor(cell.recurrent_kernel),
        tf.concat([given, memory], axis=0),
        *(tf.convert_to_tensor(w) for w in cell.norm or ()),
    )
