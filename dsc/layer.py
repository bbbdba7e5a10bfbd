"""The layer over time: `DSCLSTMCell` for every step of a sequence."""

from typing import Any, NamedTuple

import keras
from keras import ops

from dsc.cell import DSCLSTMCell

IMPLEMENTATIONS = ("auto", "fast", "xla", "plain")
OWN_LOOPS = {"tensorflow": ("fast", "xla"), "jax": ("fast",)}  # of Keras's backends


class Skips(NamedTuple):
    """The agent's logits and actions: what a policy loss needs.

    Unless `carry_memory` is set, the action of the first step is never used. Leave it
    out of the loss (`logits[:, 1:]`, `actions[:, 1:]`), and masked steps as well (the
    `mask` of `dsc.losses.reinforce`).

    Attributes:
        logits: `[batch, time, n_actions]`, unnormalised log-probabilities.
        actions: `[batch, time]`, int32: n_actions - 1 is the newest state, 0 the
            oldest. `n_actions - actions` is the length of the skip: 1 is an ordinary
            LSTM step.
    """

    logits: Any
    actions: Any


@keras.saving.register_keras_serializable(package="dsc")
class DSCLSTM(keras.layers.Layer):
    """LSTM with dynamic skip connections (Gui et al., AAAI 2019).

    At each step an agent picks which of the last `n_actions` states the LSTM continues
    from; see `dsc.DSCLSTMCell` for the step. The layer is used like
    `keras.layers.LSTM`.

    No gradient passes through the agent's choice. The agent learns only from a policy
    loss on the `Skips` that `return_skips=True` adds to the outputs (see `dsc.losses`):
    **without that loss it keeps its initial weights.**

    Args:
        units, n_actions, lamda, forget_bias, agent_units, observation, choice,
            layer_norm, kernel_initializer, recurrent_initializer, bias_initializer: see
            `dsc.DSCLSTMCell`.
        recurrent_dropout: between 0 and 1, share of the candidates to drop in training.
            Unlike in `keras.layers.LSTM`, the hidden state itself is never dropped
            (Semeniuta et al., 2016).
        carry_memory: whether the state of the layer includes the memory of the last
            `n_actions` states, so that a window of a long sequence can look back into
            the one before. The release's state does not.
        return_sequences: whether to return the output of every step or of the last.
        return_state: whether to also return the final state: h and c, and with
            `carry_memory` the memories of h and of c.
        return_skips: whether to also return `Skips`, as the last output.
        go_backwards: whether to process the sequence from its end.
        implementation: `"plain"` is `keras.layers.RNN` over the cell, on any backend.
            `"fast"` is a loop for TensorFlow or JAX with the same results, and `"xla"`
            the TensorFlow loop for functions that XLA compiles (`jit_compile=True`),
            which pays for small layers. `"auto"` uses the fast loop where there is one.
            Attention, layer normalisation, and forward-mode differentiation under JAX
            need the plain loop.
        seed: seed of the noise that the layer draws itself; see `noise` below.

    Call arguments:
        inputs: `[batch, time, features]`.
        noise: `[batch, time, n_actions]`, added to the agent's logits before the
            argmax, in the order in which steps are processed. Gumbel noise samples from
            the policy, zeros give the greedy choice, and one large entry forces an
            action. None: the layer draws Gumbel noise in training and is greedy
            otherwise.
        mask: `[batch, time]` boolean. A masked step changes nothing: its output repeats
            the one before, it is not stored, and its `Skips` are zeros.
        initial_state: list of h and c, each `[batch, units]`; with `carry_memory` also
            the memories of h and of c, each `[batch, n_actions, units]`, oldest first.
            The first step continues from h and c without a choice, unless a memory is
            carried. None: zeros.
        dropout_mask: `[batch, time, units]`, factors for the recurrent dropout (0 or
            1 / keep probability). None: the layer draws them in training.
        training: whether to sample actions and to apply dropout.

    Returns:
        As `keras.layers.LSTM`: `[batch, time, units]` or `[batch, units]`, followed by
        the final state with `return_state` and by `Skips` with `return_skips`.

    Raises:
        ValueError: an argument is out of its range, or `initial_state` has another
            number of parts than the layer carries.

    Example:

    >>> layer = DSCLSTM(32, n_actions=5, return_sequences=True, return_skips=True)
    >>> outputs, skips = layer(keras.random.normal((2, 7, 16)))
    >>> outputs.shape, skips.logits.shape, skips.actions.shape
    ((2, 7, 32), (2, 7, 5), (2, 7))
    """

    def __init__(
        self,
        units,
        n_actions,
        lamda=1.0,
        forget_bias=1.0,
        agent_units=200,
        observation="mean",
        choice="agent",
        layer_norm=False,
        kernel_initializer="glorot_uniform",
        recurrent_initializer=None,
        bias_initializer="zeros",
        recurrent_dropout=0.0,
        carry_memory=False,
        return_sequences=False,
        return_state=False,
        return_skips=False,
        go_backwards=False,
        implementation="auto",
        seed=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if not 0.0 <= recurrent_dropout < 1.0:
            raise ValueError(
                f"recurrent_dropout must be in [0, 1), not {recurrent_dropout!r}."
            )
        if implementation not in IMPLEMENTATIONS:
            raise ValueError(
                f"implementation must be one of {IMPLEMENTATIONS}, "
                f"not {implementation!r}."
            )
        backend = keras.backend.backend()
        own_loops = OWN_LOOPS.get(backend, ())
        there = ("auto", "plain", *own_loops)
        if implementation not in there:
            raise ValueError(
                f"implementation={implementation!r} does not exist on the {backend} "
                f"backend; choose one of {there}."
            )
        self.cell = DSCLSTMCell(
            units,
            n_actions,
            lamda=lamda,
            forget_bias=forget_bias,
            agent_units=agent_units,
            observation=observation,
            choice=choice,
            layer_norm=layer_norm,
            kernel_initializer=kernel_initializer,
            recurrent_initializer=recurrent_initializer,
            bias_initializer=bias_initializer,
            dtype=self.dtype_policy,
            name="cell",
        )
        self.recurrent_dropout = float(recurrent_dropout)
        self.carry_memory = bool(carry_memory)
        self.return_sequences = bool(return_sequences)
        self.return_state = bool(return_state)
        self.return_skips = bool(return_skips)
        self.go_backwards = bool(go_backwards)
        self.implementation = implementation
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.input_spec = keras.layers.InputSpec(ndim=3)
        self.supports_masking = True
        self.stateful = False  # `keras.layers.Bidirectional` asks
        only_plain = choice == "attention" or layer_norm
        if implementation in own_loops and only_plain:
            raise ValueError(
                f"implementation={implementation!r} has no attention and no layer "
                "normalisation; use 'plain' or 'auto'."
            )
        self._loop = implementation
        if implementation == "auto":
            self._loop = "fast" if own_loops and not only_plain else "plain"
        # TensorFlow's fast loop writes in place, as XLA cannot; Keras then does
        # without XLA.
        self.supports_jit = (backend, self._loop) != ("tensorflow", "fast")

    @property
    def units(self):
        return self.cell.units

    @property
    def n_actions(self):
        return self.cell.n_actions

    def build(self, inputs_shape):
        self.cell.build((inputs_shape[0], inputs_shape[-1]))

    def get_initial_state(self, batch_size):
        """Zeros in the form that `initial_state` has."""
        state = [ops.zeros((batch_size, self.units), self.compute_dtype)] * 2
        if self.carry_memory:
            shape = (batch_size, self.n_actions, self.units)
            state += [ops.zeros(shape, self.compute_dtype)] * 2
        return state

    def call(
        self,
        inputs,
        noise=None,
        mask=None,
        initial_state=None,
        dropout_mask=None,
        training=False,
    ):
        if mask is None:
            # Keras hands the mask on only when `inputs` is the only tensor.
            mask = getattr(inputs, "_keras_mask", None)
        batch, time = ops.shape(inputs)[:2]
        state = self._checked_state(initial_state, batch)
        if noise is None and training and self.n_actions > 1:
            noise = self._gumbel((batch, time, self.n_actions))
        if dropout_mask is None and training and self.recurrent_dropout:
            dropout_mask = self._dropout_mask((batch, time, self.units))
        if noise is not None:
            noise = ops.cast(noise, self.compute_dtype)
        if dropout_mask is not None:
            dropout_mask = ops.cast(dropout_mask, self.compute_dtype)
        if mask is not None:
            mask = ops.cast(mask, "bool")
        if self.go_backwards:
            inputs = ops.flip(inputs, axis=1)
            mask = None if mask is None else ops.flip(mask, axis=1)

        h, logits, actions, final_state = self._run(
            inputs, noise, dropout_mask, mask, state
        )

        if mask is not None:
            logits = ops.where(mask[..., None], logits, ops.zeros_like(logits))
            actions = ops.where(mask, actions, ops.zeros_like(actions))
        # A masked step repeats the last output, so the last step has it in any case.
        outputs = [h if self.return_sequences else h[:, -1]]
        if self.return_state:
            outputs += final_state if self.carry_memory else final_state[:2]
        if self.return_skips:
            outputs.append(Skips(logits, actions))
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def _checked_state(self, state, batch):
        if state is None:
            return self.get_initial_state(batch)
        expected = 4 if self.carry_memory else 2
        if not isinstance(state, (list, tuple)) or len(state) != expected:
            parts = "h, c, memory_h and memory_c" if self.carry_memory else "h and c"
            raise ValueError(f"initial_state must be a list of {parts}.")
        return [ops.cast(part, self.compute_dtype) for part in state]

    def _gumbel(self, shape):
        uniform = keras.random.uniform(shape, 1e-20, 1.0, seed=self.seed_generator)
        return -ops.log(-ops.log(uniform))

    def _dropout_mask(self, shape):
        keep = 1.0 - self.recurrent_dropout
        uniform = keras.random.uniform(shape, seed=self.seed_generator)
        return ops.cast(uniform < keep, self.compute_dtype) / keep

    def _run(self, *tensors):
        if self._loop == "plain":
            return _plain_loop(self.cell, *tensors)
        # The only imports of a backend in the layer.
        if keras.backend.backend() == "jax":
            from dsc.loops.jax import dsc_lstm

            return dsc_lstm(self.cell, *tensors)
        from dsc.loops.tensorflow import dsc_lstm

        return dsc_lstm(self.cell, *tensors, xla=self._loop == "xla")

    def compute_output_shape(self, inputs_shape, *args, **kwargs):
        batch, time, _ = inputs_shape
        hidden = (batch, self.units)
        shapes = [(batch, time, self.units) if self.return_sequences else hidden]
        if self.return_state:
            memory = (batch, self.n_actions, self.units)
            shapes += [hidden] * 2 + [memory] * 2 * self.carry_memory
        if self.return_skips:
            shapes.append(Skips((batch, time, self.n_actions), (batch, time)))
        return shapes[0] if len(shapes) == 1 else tuple(shapes)

    def compute_output_spec(self, *args, **kwargs):
        # By a trial call: from shapes alone Keras would take the actions for floats.
        return keras.Operation.compute_output_spec(self, *args, **kwargs)

    def compute_mask(self, inputs, mask=None):
        output_mask = mask if self.return_sequences else None
        n_states = (4 if self.carry_memory else 2) if self.return_state else 0
        n_skips = 2 if self.return_skips else 0
        if n_states + n_skips == 0:
            return output_mask
        return [output_mask] + [None] * (n_states + n_skips)

    def get_config(self):
        cell = self.cell.get_config()
        for key in ("name", "trainable", "dtype"):
            cell.pop(key, None)
        return {
            **super().get_config(),
            **cell,
            "recurrent_dropout": self.recurrent_dropout,
            "carry_memory": self.carry_memory,
            "return_sequences": self.return_sequences,
            "return_state": self.return_state,
            "return_skips": self.return_skips,
            "go_backwards": self.go_backwards,
            "implementation": self.implementation,
            "seed": self.seed,
        }


def _plain_loop(cell, inputs, noise, dropout_mask, mask, state):
    """`keras.layers.RNN` over the cell: the reference that runs on any backend."""
    batch = ops.shape(inputs)[0]
    flat = (batch, cell.n_actions * cell.units)
    if len(state) == 2:
        memory = [ops.zeros(flat, inputs.dtype)] * 2
        started = ops.zeros((batch, 1), inputs.dtype)
    else:
        memory = [ops.reshape(part, flat) for part in state[2:]]
        started = ops.ones((batch, 1), inputs.dtype)
    packed_cell = _PackedCell(cell, inputs.shape[-1], noise is not None)
    loop = keras.layers.RNN(
        packed_cell,
        return_sequences=True,
        return_state=True,
        dtype=cell.dtype_policy,
    )
    packed = [part for part in (inputs, noise, dropout_mask) if part is not None]
    no_output = ops.zeros((batch, packed_cell.output_size), inputs.dtype)
    outputs, _, h, c, *memory, _ = loop(
        ops.concatenate(packed, axis=-1),
        initial_state=[no_output, *state[:2], *memory, started],
        mask=mask,
    )
    logits = outputs[..., cell.units :]
    noisy = logits if noise is None else logits + noise
    slots = (batch, cell.n_actions, cell.units)
    memory = [ops.reshape(part, slots) for part in memory[:2]]
    return (
        outputs[..., : cell.units],
        logits,
        ops.cast(ops.argmax(noisy, axis=-1), "int32"),
        [h, c, *memory],
    )


class _PackedCell:
    """The cell as `keras.layers.RNN` wants it: one tensor in, one tensor out.

    Its first state is the last output, which is what Keras repeats at a masked step.
    """

    def __init__(self, cell, features, has_noise):
        self.cell = cell
        self.output_size = cell.units + cell.n_actions
        self.state_size = [self.output_size, *cell.state_size]
        self.compute_dtype = cell.compute_dtype
        self._noise_starts = features
        self._mask_starts = features + (cell.n_actions if has_noise else 0)

    def call(self, packed, states):
        x = packed[:, : self._noise_starts]
        noise = packed[:, self._noise_starts : self._mask_starts]
        dropout_mask = packed[:, self._mask_starts :]
        h, logits, states = self.cell.step(
            x,
            states[1:],
            noise if noise.shape[-1] else None,
            dropout_mask if dropout_mask.shape[-1] else None,
        )
        output = ops.concatenate([h, logits], axis=-1)
        return output, [output, *states]

    __call__ = call
