"""The layer over time: `DSCLSTMCell` for every step of a sequence."""

import contextlib
import itertools
import threading
import warnings
from typing import Any, NamedTuple

import keras
from keras import ops

from dsc.cell import DSCLSTMCell, chosen_actions
from dsc.loops.fast import dsc_lstm

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


class RecordedSkips(NamedTuple):
    """The skips of one call of a layer, in the order of time; see `record_skips`.

    Attributes:
        logits, actions: see `Skips`.
        used: bool `[batch, time]`, False where an action was not used: at masked steps
            and at the first step of a row, unless a memory is carried.
    """

    logits: Any
    actions: Any
    used: Any


_recorder = threading.local()


@contextlib.contextmanager
def record_skips():
    """Records the `RecordedSkips` of all layers with a policy that are called inside.

    They are returned, and forgotten, by `recorded_skips`.
    """
    before = getattr(_recorder, "calls", None)
    _recorder.calls = []
    try:
        yield
    finally:
        _recorder.calls = before


def recorded_skips():
    """Returns what was recorded since the last call, a list; [] outside."""
    calls = getattr(_recorder, "calls", None)
    if calls is None:
        return []
    _recorder.calls = []
    return calls


@keras.saving.register_keras_serializable(package="dsc")
class DSCLSTM(keras.layers.Layer):
    """LSTM with dynamic skip connections (Gui et al., AAAI 2019).

    At each step an agent picks which of the last `n_actions` states the LSTM continues
    from; see `dsc.DSCLSTMCell` for the step. The layer takes and returns what
    `keras.layers.LSTM` does.

    No gradient passes through the agent's choice: the agent learns only from a policy
    loss. `dsc.Reinforced`, in place of `keras.Model`, adds it in `fit`; in a training
    loop of your own, make it from the `Skips` that `return_skips=True` returns (see
    `dsc.losses`).

    Args:
        units: size of the hidden state.
        n_actions: number of past states to choose from. 1 is an ordinary LSTM.
        lamda, agent_units, observation, choice, layer_norm, zoneout, shares: see
            `dsc.DSCLSTMCell`.
        forget_bias: number added to the pre-activation of the forget gate. None: 1, or
            0 without a bias, as in `keras.layers.LSTM`.
        use_bias, kernel_initializer, recurrent_initializer, bias_initializer,
            kernel_regularizer, recurrent_regularizer, bias_regularizer,
            activity_regularizer, kernel_constraint, recurrent_constraint,
            bias_constraint, dropout, return_sequences, return_state, go_backwards,
            stateful, unroll: as in `keras.layers.LSTM`. `activity_regularizer` does not
            apply to `Skips`; `unroll` uses the plain loop.
        unit_forget_bias: False sets `forget_bias` to 0, True to 1 if there is a bias.
        recurrent_dropout: between 0 and 1, share of the candidates to drop in training.
            Unlike in `keras.layers.LSTM`, the hidden state itself is never dropped
            (Semeniuta et al., 2016).
        zero_output_for_mask: whether the output of a masked step is zeros, and not that
            of the step before.
        carry_memory: whether the state of the layer includes the memory of the last
            `n_actions` states, so that a window of a long sequence can look back into
            the one before. The release's state does not.
        return_skips: whether to also return `Skips`, as the last output. Wrappers such
            as `keras.layers.Bidirectional` do not take it.
        return_alternatives: whether to also return, after everything else, what each
            step would output if it alone continued from each of the states: `[batch,
            time, n_actions, units]`, or `[batch, n_actions, units]` of the last step
            without `return_sequences`. They have no gradient, are zeros at masked steps
            and need no second pass over the sequence; see `dsc.losses.exact`.
        implementation: `"plain"` is `keras.layers.RNN` over the cell, on any backend.
            `"fast"` is a loop for TensorFlow or JAX with the same results, and `"xla"`
            the TensorFlow loop without operations that write in place, which Keras
            compiles with XLA. `"auto"` uses the fast loop where there is one.
            Attention, layer normalisation, and forward-mode differentiation under JAX
            need the plain loop. The TensorFlow loops have no second derivatives.
            TensorFlow Lite and ONNX do not have the operations of `"fast"`: to convert
            a model, use `unroll=True`, `"plain"` or `"xla"`.
        seed: seed of the noise that the layer draws itself; see `noise` below.

    Call arguments:
        sequences: `[batch, time, features]`.
        initial_state: list of h and c, each `[batch, units]`; with `carry_memory` also
            the memories of h and of c, each `[batch, n_actions, units]`, oldest first.
            The first step continues from h and c without a choice, unless a memory is
            carried. None: zeros, or with `stateful` the last state.
        mask: `[batch, time]` boolean. A masked step changes nothing: its output repeats
            the one before, it is not stored, and its `Skips` are zeros.
        training: whether to sample actions and to apply dropout.
        noise: `[batch, time, n_actions]`, added to the agent's logits before the
            argmax, in the order in which steps are processed. Gumbel noise samples from
            the policy, zeros give the greedy choice, and one large entry forces an
            action. None: the layer draws Gumbel noise in training and is greedy
            otherwise.
        dropout_mask: `[batch, time, units]`, factors for the recurrent dropout (0 or
            1 / keep probability). None: the layer draws them in training.
        zoneout_mask: `[batch, time, 2 * units]`, 1 where a unit of h, then of c, keeps
            its value, else 0. None: the layer draws it in training, and otherwise takes
            the expectation.

    Returns:
        As `keras.layers.LSTM`: `[batch, time, units]` or `[batch, units]`, followed by
        the final state with `return_state`, by `Skips` with `return_skips`, and by the
        alternatives with `return_alternatives`.

    Raises:
        ValueError: an argument is out of its range or has another shape than it should.

    Example:

    >>> layer = DSCLSTM(32, n_actions=5, return_sequences=True, return_skips=True)
    >>> outputs, skips = layer(keras.random.normal((2, 7, 16)))
    >>> outputs.shape, skips.logits.shape, skips.actions.shape
    ((2, 7, 32), (2, 7, 5), (2, 7))
    """

    def __init__(
        self,
        units: int,
        n_actions: int = 5,
        lamda: float = 1.0,
        forget_bias: float | None = None,
        agent_units: int = 200,
        observation: str = "mean",
        choice: str = "agent",
        layer_norm: bool = False,
        *,
        activation="tanh",
        recurrent_activation="sigmoid",
        use_bias: bool = True,
        unit_forget_bias: bool | None = None,
        kernel_initializer="glorot_uniform",
        recurrent_initializer=None,
        bias_initializer="zeros",
        kernel_regularizer=None,
        recurrent_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        recurrent_constraint=None,
        bias_constraint=None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        zoneout: float = 0.0,
        shares=None,
        carry_memory: bool = False,
        return_sequences: bool = False,
        return_state: bool = False,
        return_skips: bool = False,
        return_alternatives: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        zero_output_for_mask: bool = False,
        use_cudnn="auto",
        implementation: str = "auto",
        seed: int | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.autocast = False  # `call` casts; Keras would round the noise as well
        for name, given, only in (
            ("activation", activation, "tanh"),
            ("recurrent_activation", recurrent_activation, "sigmoid"),
        ):
            if keras.activations.get(given) is not keras.activations.get(only):
                raise ValueError(f"{name} must be {only!r}, not {given!r}.")
        rates = {"dropout": dropout, "recurrent_dropout": recurrent_dropout}
        for name, rate in rates.items():
            if not 0.0 <= rate < 1.0:
                raise ValueError(f"{name} must be in [0, 1), not {rate!r}.")
        if unit_forget_bias is not None:
            forget_bias = None if unit_forget_bias else 0.0
        if forget_bias is None:
            forget_bias = 1.0 if use_bias else 0.0
        self.cell = DSCLSTMCell(
            units,
            n_actions,
            lamda=lamda,
            forget_bias=forget_bias,
            agent_units=agent_units,
            observation=observation,
            choice=choice,
            layer_norm=layer_norm,
            zoneout=zoneout,
            shares=shares,
            use_bias=use_bias,
            kernel_initializer=kernel_initializer,
            recurrent_initializer=recurrent_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            recurrent_regularizer=recurrent_regularizer,
            bias_regularizer=bias_regularizer,
            kernel_constraint=kernel_constraint,
            recurrent_constraint=recurrent_constraint,
            bias_constraint=bias_constraint,
            dtype=self.dtype_policy,
            name="cell",
        )
        self.output_regularizer = keras.regularizers.get(activity_regularizer)
        self.dropout = float(dropout)
        self.recurrent_dropout = float(recurrent_dropout)
        self.carry_memory = bool(carry_memory)
        self.return_sequences = bool(return_sequences)
        self.return_state = bool(return_state)
        self.return_skips = bool(return_skips)
        self.return_alternatives = bool(return_alternatives)
        if self.return_alternatives and choice == "attention":
            raise ValueError("return_alternatives: attention chooses no state.")
        self.go_backwards = bool(go_backwards)
        self.stateful = bool(stateful)
        self.unroll = bool(unroll)
        self.zero_output_for_mask = bool(zero_output_for_mask)
        self.implementation = implementation
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.input_spec = keras.layers.InputSpec(ndim=3)
        self.supports_masking = True
        self.states = None
        self._has_warned = False
        self._loop = self._chosen_loop(implementation)
        # The fast TensorFlow loop writes in place, which XLA cannot compile; where XLA
        # compiles nevertheless, it is the XLA loop.
        backend = keras.backend.backend()
        self.supports_jit = (backend, self._loop) != ("tensorflow", "fast")

    def _chosen_loop(self, implementation):
        if implementation not in IMPLEMENTATIONS:
            raise ValueError(
                f"implementation must be one of {IMPLEMENTATIONS}, "
                f"not {implementation!r}."
            )
        backend = keras.backend.backend()
        own_loops = OWN_LOOPS.get(backend, ())
        if implementation not in ("auto", "plain", *own_loops):
            raise ValueError(
                f"implementation={implementation!r} does not exist on the {backend} "
                f"backend; choose one of {('auto', 'plain', *own_loops)}."
            )
        only_plain = self.cell.choice == "attention" or self.cell.layer_norm
        if implementation in own_loops and (only_plain or self.unroll):
            raise ValueError(
                f"implementation={implementation!r} has no attention, no layer "
                "normalisation and no unroll; use 'plain' or 'auto'."
            )
        if implementation != "auto":
            return implementation
        return "fast" if own_loops and not only_plain and not self.unroll else "plain"

    @classmethod
    def from_lstm(cls, lstm, n_actions: int = 1, **options) -> "DSCLSTM":
        """Makes a layer with the weights of a built `keras.layers.LSTM`.

        With one action it computes what the LSTM does. The agent of more actions has
        its initial weights.

        Args:
            lstm: `keras.layers.LSTM`.
            n_actions: see `DSCLSTM`.
            **options: other arguments of `DSCLSTM`.

        Raises:
            ValueError: the LSTM has no weights yet, another activation, or a recurrent
                dropout, which drops something else here.
        """
        if not lstm.built:
            raise ValueError("The LSTM has no weights yet; call it or build it first.")
        if lstm.recurrent_dropout and "recurrent_dropout" not in options:
            raise ValueError(
                "The LSTM's recurrent_dropout drops the hidden state, that of DSCLSTM "
                "the candidates; give recurrent_dropout= the share to drop."
            )
        config = lstm.get_config()
        for name in ("name", "units", "implementation", "use_cudnn"):
            config.pop(name, None)
        config["unit_forget_bias"] = False  # it is in the LSTM's bias
        layer = cls(lstm.units, n_actions, **{**config, **options})
        kernel, recurrent_kernel, *bias = lstm.cell.get_weights()
        features, units = kernel.shape[0], layer.units
        batch = lstm.states[0].shape[0] if lstm.stateful else None
        layer.build((batch, None, features))
        order = [0, 2, 1, 3]  # Keras: i, f, candidate, o

        def reordered(array):
            parts = array.reshape(-1, 4, units)[:, order]
            return parts.reshape(array.shape)

        layer.cell.kernel.assign(reordered(kernel))
        layer.cell.recurrent_kernel.assign(reordered(recurrent_kernel))
        if bias:
            bias = bias[0].reshape(4, units)[order].copy()
            bias[2] -= layer.cell.forget_bias
            layer.cell.bias.assign(bias)
        return layer

    @property
    def units(self) -> int:
        return self.cell.units

    @property
    def n_actions(self) -> int:
        return self.cell.n_actions

    def build(self, sequences_shape, initial_state_shape=None):
        self.cell.build((sequences_shape[0], sequences_shape[-1]))
        if self.stateful and self.states is None:
            if sequences_shape[0] is None:
                raise ValueError(
                    "stateful=True needs a batch size that is known when the layer is "
                    "built: give the input a batch_size."
                )
            # Not tracked, as in Keras: they are no weights.
            self.__dict__["states"] = [
                keras.Variable(part, trainable=False, name="rnn_state")
                for part in self.get_initial_state(sequences_shape[0])
            ]

    def get_initial_state(self, batch_size):
        """Zeros in the form of `initial_state`."""
        shapes = [(batch_size, self.units)] * 2
        if self.carry_memory:
            shapes += [(batch_size, self.n_actions, self.units)] * 2
        return [ops.zeros(shape, self.compute_dtype) for shape in shapes]

    def reset_state(self):
        """Sets the state of a stateful layer to zeros."""
        for variable in self.states or ():
            variable.assign(ops.zeros(variable.shape, variable.dtype))

    reset_states = reset_state

    def call(
        self,
        sequences,
        initial_state=None,
        mask=None,
        training=False,
        *,
        noise=None,
        dropout_mask=None,
        zoneout_mask=None,
        sequences_mask=None,  # filled in by Keras if another tensor is passed
    ):
        mask = sequences_mask if mask is None else mask
        sequences = ops.cast(sequences, self.compute_dtype)
        batch, time = ops.shape(sequences)[:2]
        state = self._checked_state(initial_state, batch)
        if noise is None and training and self.n_actions > 1:
            noise = self._gumbel((batch, time, self.n_actions))
        if dropout_mask is None and training and self.recurrent_dropout:
            shape = (batch, time, self.units)
            dropout_mask = self._dropout_mask(shape, self.recurrent_dropout)
        if zoneout_mask is None and self.cell.zoneout:
            shape, rate = (batch, time, 2 * self.units), self.cell.zoneout
            if training:
                zoneout_mask = self._dropout_mask(shape, rate) == 0.0
            else:
                zoneout_mask = ops.full(shape, rate, self.compute_dtype)
        if training and self.dropout:
            shape = (batch, 1, sequences.shape[-1])  # the same at every step
            sequences = sequences * self._dropout_mask(shape, self.dropout)
        dtype, units, sizes = self.compute_dtype, self.units, sequences.shape[:2]
        wide = keras.backend.result_type(dtype, "float32")
        noise = _checked("noise", noise, wide, *sizes, self.n_actions)
        dropout_mask = _checked("dropout_mask", dropout_mask, dtype, *sizes, units)
        zoneout_mask = _checked("zoneout_mask", zoneout_mask, dtype, *sizes, 2 * units)
        mask = _checked("mask", mask, "bool", *sizes)
        if self.go_backwards:
            sequences = ops.flip(sequences, axis=1)
            mask = None if mask is None else ops.flip(mask, axis=1)

        h, logits, actions, final_state, alternatives = self._run(
            sequences, noise, dropout_mask, zoneout_mask, mask, state
        )

        if mask is not None:
            logits = ops.where(mask[..., None], logits, 0.0)
            actions = ops.where(mask, actions, 0)
            if self.zero_output_for_mask:
                h = ops.where(mask[..., None], h, 0.0)
            if self.return_alternatives:
                steps = mask if self.return_sequences else ops.any(mask, axis=1)
                alternatives = ops.where(steps[..., None, None], alternatives, 0.0)
        if self.stateful:
            self._keep_state(final_state)
        if self.cell.has_policy:
            self._record(logits, actions, mask, training)
        # A masked step repeats the last output, so the last step has it in any case.
        outputs = [h if self.return_sequences else h[:, -1]]
        if self.return_state:
            outputs += final_state if self.carry_memory else final_state[:2]
        if self.output_regularizer is not None:
            for output in outputs:
                # The mean over the batch, as in every layer of Keras.
                loss = self.output_regularizer(output)
                self.add_loss(loss / ops.cast(batch, loss.dtype))
        if self.return_skips:
            outputs.append(Skips(logits, actions))
        if self.return_alternatives:
            outputs.append(alternatives)
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def _checked_state(self, state, batch):
        if state is None:
            if self.stateful:
                return [ops.convert_to_tensor(part) for part in self.states]
            return self.get_initial_state(batch)
        expected = 4 if self.carry_memory else 2
        if not isinstance(state, (list, tuple)) or len(state) != expected:
            parts = "h, c, memory_h and memory_c" if self.carry_memory else "h and c"
            raise ValueError(f"initial_state must be a list of {parts}.")
        return [ops.cast(part, self.compute_dtype) for part in state]

    def _gumbel(self, shape):
        # In float32: half precision has ties, which the argmax breaks one way.
        uniform = keras.random.uniform(
            shape, 1e-20, 1.0, dtype="float32", seed=self.seed_generator
        )
        return -ops.log(-ops.log(uniform))

    def _dropout_mask(self, shape, rate):
        uniform = keras.random.uniform(shape, seed=self.seed_generator)
        return ops.cast(uniform >= rate, self.compute_dtype) / (1.0 - rate)

    def _keep_state(self, state):
        for variable, part in zip(self.states, state, strict=False):
            if keras.backend.backend() == "jax" and type(part).__name__.endswith(
                "Tracer"
            ):
                raise ValueError(
                    "stateful=True works only outside of compiled functions on JAX; "
                    "pass initial_state instead."
                )
            variable.assign(part)

    def _record(self, logits, actions, mask, training):
        """Keeps the skips for a policy loss, or warns that there is none."""
        calls = getattr(_recorder, "calls", None)
        if calls is not None:
            used = ops.ones_like(actions, "bool") if mask is None else mask
            if not self.carry_memory:
                n_steps = ops.cumsum(ops.cast(used, "int32"), axis=1)
                used = ops.logical_and(used, n_steps > 1)
            parts = logits, actions, used
            if self.go_backwards:
                parts = (ops.flip(part, axis=1) for part in parts)
            calls.append(RecordedSkips(*parts))
        elif training and not self.return_skips and not self._has_warned:
            self._has_warned = True
            warnings.warn(
                f"The agent of {self.name} does not learn: no policy loss reaches it. "
                "Use dsc.Reinforced in place of keras.Model, or return_skips=True "
                "and dsc.losses in your own training loop.",
                stacklevel=2,
            )

    def _run(self, *tensors):
        wanted = "all" if self.return_sequences else "last"
        wanted = wanted if self.return_alternatives else None
        if self._loop == "plain":
            return _plain_loop(self.cell, *tensors, wanted, unroll=self.unroll)
        # The only imports of a backend in the layer.
        if keras.backend.backend() == "jax":
            from dsc.loops.jax import run
        elif self._loop == "xla":
            from dsc.loops.tensorflow import run_for_xla as run
        else:
            from dsc.loops.tensorflow import run
        return dsc_lstm(run, self.cell, *tensors, wanted)

    def compute_output_shape(self, sequences_shape, *args, **kwargs):
        batch, time, _ = sequences_shape
        hidden = (batch, self.units)
        shapes = [(batch, time, self.units) if self.return_sequences else hidden]
        if self.return_state:
            memory = (batch, self.n_actions, self.units)
            shapes += [hidden] * 2 + [memory] * 2 * self.carry_memory
        if self.return_skips:
            shapes.append(Skips((batch, time, self.n_actions), (batch, time)))
        if self.return_alternatives:
            steps = (batch, time) if self.return_sequences else (batch,)
            shapes.append((*steps, self.n_actions, self.units))
        return shapes[0] if len(shapes) == 1 else tuple(shapes)

    def compute_output_spec(self, sequences, *args, **kwargs):
        shapes = self.compute_output_shape(sequences.shape)
        shapes = [shapes] if not isinstance(shapes[0], tuple) else shapes

        def spec(shape):
            if not isinstance(shape, Skips):
                return keras.KerasTensor(shape, self.compute_dtype)
            actions = keras.KerasTensor(shape.actions, "int32")
            return Skips(spec(shape.logits), actions)

        specs = list(map(spec, shapes))
        return specs[0] if len(specs) == 1 else tuple(specs)

    def compute_mask(self, inputs, mask=None):
        output_mask = mask if self.return_sequences else None
        n_states = (4 if self.carry_memory else 2) if self.return_state else 0
        n_skips = 2 if self.return_skips else 0
        n_others = n_states + n_skips + self.return_alternatives
        return [output_mask] + [None] * n_others if n_others else output_mask

    def get_config(self):
        cell = self.cell.get_config()
        for key in ("name", "trainable", "dtype"):
            cell.pop(key, None)
        return {
            **super().get_config(),
            **cell,
            "activity_regularizer": keras.regularizers.serialize(
                self.output_regularizer
            ),
            "dropout": self.dropout,
            "recurrent_dropout": self.recurrent_dropout,
            "carry_memory": self.carry_memory,
            "return_sequences": self.return_sequences,
            "return_state": self.return_state,
            "return_skips": self.return_skips,
            "return_alternatives": self.return_alternatives,
            "go_backwards": self.go_backwards,
            "stateful": self.stateful,
            "unroll": self.unroll,
            "zero_output_for_mask": self.zero_output_for_mask,
            "implementation": self.implementation,
            "seed": self.seed,
        }


def _checked(name, tensor, dtype, *expected):
    """A tensor or None in a dtype; raises if it has not the expected shape."""
    if tensor is None:
        return None
    tensor = ops.convert_to_tensor(tensor)
    fits = len(tensor.shape) == len(expected) and all(
        a == b or a is None or b is None
        for a, b in zip(tensor.shape, expected, strict=True)
    )
    if not fits:
        raise ValueError(
            f"{name} must have the shape {expected}, not {tuple(tensor.shape)}."
        )
    return ops.cast(tensor, dtype)


def _plain_loop(
    cell, inputs, noise, dropout_mask, zoneout_mask, mask, state, wanted, unroll=False
):
    """`keras.layers.RNN` over the cell: the reference that runs on any backend."""
    batch = ops.shape(inputs)[0]
    flat = (batch, cell.n_actions * cell.units)
    if len(state) == 2:
        memory = [ops.zeros(flat, inputs.dtype)] * 2
        started = ops.zeros((batch, 1), inputs.dtype)
    else:
        memory = [ops.reshape(part, flat) for part in state[2:]]
        started = ops.ones((batch, 1), inputs.dtype)
    # In the dtype of the noise, which may be wider than that of the cell.
    dtype = keras.backend.standardize_dtype((inputs if noise is None else noise).dtype)
    parts = inputs, noise, dropout_mask, zoneout_mask
    sizes = [0 if part is None else part.shape[-1] for part in parts]
    packed_cell = _PackedCell(cell, sizes, bool(wanted), dtype)
    loop = keras.layers.RNN(
        packed_cell,
        return_sequences=True,
        return_state=True,
        unroll=unroll,
        dtype=dtype,
    )
    packed = [part for part in parts if part is not None]
    no_output = ops.zeros((batch, packed_cell.output_size), dtype)
    results = loop(
        ops.concatenate([ops.cast(part, dtype) for part in packed], axis=-1),
        initial_state=[no_output, *state[:2], *memory, started],
        mask=mask,
    )
    outputs, _, h, c, *memory, _ = (ops.cast(part, inputs.dtype) for part in results)
    logits = outputs[..., cell.units : cell.units + cell.n_actions]
    slots = (batch, cell.n_actions, cell.units)
    memory = [ops.reshape(part, slots) for part in memory]
    alternatives = None
    if wanted:
        alternatives = outputs[..., cell.units + cell.n_actions :]
        shape = (*ops.shape(inputs)[:2], cell.n_actions, cell.units)
        alternatives = ops.reshape(alternatives, shape)
        alternatives = alternatives[:, -1] if wanted == "last" else alternatives
    return (
        outputs[..., : cell.units],
        logits,
        ops.cast(chosen_actions(logits, noise), "int32"),
        [h, c, *memory],
        alternatives,
    )


class _PackedCell:
    """The cell as `keras.layers.RNN` wants it: one tensor in, one tensor out.

    Its first state is the last output, which is what Keras repeats at a masked step.
    """

    def __init__(self, cell, sizes, has_alternatives, dtype):
        self.cell = cell
        self.output_size = cell.units + cell.n_actions
        self.output_size += has_alternatives * cell.n_actions * cell.units
        self.has_alternatives = has_alternatives
        self.state_size = [self.output_size, *cell.state_size]
        self.compute_dtype = dtype  # of the states
        ends = itertools.accumulate(sizes)
        self._slices = [
            slice(end - size, end) for size, end in zip(sizes, ends, strict=True)
        ]

    def call(self, packed, states):
        dtype = self.cell.compute_dtype
        x, noise, *masks = (packed[:, part] for part in self._slices)
        x, *masks = (ops.cast(part, dtype) for part in (x, *masks))
        noise, *masks = (p if p.shape[-1] else None for p in (noise, *masks))
        states = [ops.cast(part, dtype) for part in states[1:]]
        h, logits, new_states = self.cell.step(x, states, noise, *masks)
        outputs = [h, logits]
        if self.has_alternatives:
            alternatives = self.cell.alternatives(x, states, *masks)
            outputs.append(ops.reshape(alternatives, (ops.shape(h)[0], -1)))
        output = ops.concatenate(outputs, axis=-1)
        output, *states = (
            ops.cast(part, self.compute_dtype) for part in (output, *new_states)
        )
        return output, [output, *states]

    __call__ = call
