"""One step of the LSTM with dynamic skip connections: the definition of the model.

Gui et al., "Long Short-Term Memory with Dynamic Skip Connections", AAAI 2019, section
"Dynamic Skip with REINFORCE". Uses only `keras.ops`, so it runs on any Keras backend.
"""

import random

import keras
import numpy as np
from keras import ops

from dsc.recipes import OBSERVATIONS, are_shares

CHOICES = ("agent", "fixed_skip", "random_skip", "attention")
FORCED_LOGIT = 1e4  # larger than any noise: forces an action
AGE_RATES = 0.5 ** np.arange(8)  # radians a step; see `DSCLSTMCell.ages`


def lstm_gates(gates, prev_c, forget_bias, dropout_mask=None, norm=None):
    """Computes the next LSTM state from the pre-activations of the gates.

    Args:
        gates: pre-activations of the input gate, candidate, forget gate and output
            gate (i, j, f, o), each `[..., units]`.
        prev_c: `[..., units]`, the cell state that the step continues from.
        forget_bias: number added to the pre-activation of the forget gate.
        dropout_mask: optional `[..., units]`, multiplies the candidate: recurrent
            dropout without memory loss (Semeniuta et al., 2016).
        norm: optional `(gain [5, units], offset [5, units])`: layer normalisation (Ba
            et al., 2016) of i, j, f, o and the new cell state.

    Returns:
        `(h, c)`, each `[..., units]`.
    """
    i, j, f, o = gates
    if norm is not None:
        gain, offset = norm
        i, j, f, o = (
            _normalise(gate, gain[n], offset[n]) for n, gate in enumerate((i, j, f, o))
        )
    candidate = ops.tanh(j)
    if dropout_mask is not None:
        candidate = candidate * dropout_mask
    c = prev_c * ops.sigmoid(f + forget_bias) + ops.sigmoid(i) * candidate
    # Normalises what leaves the cell, not the cell state that is carried on.
    exposed_c = c if norm is None else _normalise(c, gain[4], offset[4])
    h = ops.tanh(exposed_c) * ops.sigmoid(o)
    return h, c


def chosen_actions(logits, noise):
    """The argmax of logits + noise (or None), in operations that TensorFlow Lite has.

    Under TensorFlow, `ops.argmax` of floats reads their sign bit; TensorFlow Lite has
    no operation for that.
    """
    if noise is not None:
        logits = ops.cast(logits, noise.dtype) + noise
    is_greatest = logits == ops.max(logits, axis=-1, keepdims=True)
    return ops.argmax(ops.cast(is_greatest, "int32"), axis=-1)


def zone_out(new, old, held):
    """Zoneout (Krueger et al., 2017): units of a state keep their previous values.

    Args:
        new: `(h, c)`, each `[..., units]`, the state after a step.
        old: `(h, c)`, the state that the step continued from.
        held: pair of `[..., units]`, the shares of `old` in h and in c: 1 or 0 in
            training, the rate in evaluation.

    Returns:
        `(h, c)`, each `[..., units]`.
    """
    parts = zip(held, old, new, strict=True)
    return tuple(share * a + (1.0 - share) * b for share, a, b in parts)


def _normalise(x, gain, offset, epsilon=1e-3):
    mean, variance = ops.moments(x, axes=-1, keepdims=True)
    return (x - mean) * ops.rsqrt(variance + epsilon) * gain + offset


@keras.saving.register_keras_serializable(package="dsc")
class BlockOrthogonal(keras.initializers.Initializer):
    """Initializes each gate's block of a recurrent kernel as an orthogonal matrix.

    Args:
        seed: integer or `keras.random.SeedGenerator`.
    """

    def __init__(self, seed=None):
        if isinstance(seed, dict):
            seed = keras.saving.deserialize_keras_object(seed)
        self.seed = seed
        # Drawn at construction, as Keras's initializers do, from the generator that
        # `keras.utils.set_random_seed` seeds.
        self._draw_seed = random.randint(1, 10**9) if seed is None else seed

    def __call__(self, shape, dtype=None):
        rows, columns = shape
        # In float32, since no backend factorises matrices in half precision.
        dtype = keras.backend.standardize_dtype(dtype)
        wide = keras.backend.result_type(dtype, "float32")
        normal = keras.random.normal(
            (columns // rows, rows, rows), dtype=wide, seed=self._draw_seed
        )
        q, r = ops.qr(normal)
        # Multiplying by the signs of R's diagonal makes Q uniformly distributed.
        q = q * ops.sign(ops.diagonal(r, axis1=1, axis2=2))[:, None, :]
        return ops.cast(ops.reshape(ops.transpose(q, (1, 0, 2)), shape), dtype)

    def get_config(self):
        return {"seed": keras.saving.serialize_keras_object(self.seed)}


class _AgentDense(keras.layers.Dense):
    """A layer of the agent: stays in floating point when a model is quantized."""

    def quantize(self, mode=None, *args, **kwargs):
        pass


@keras.saving.register_keras_serializable(package="dsc")
class DSCLSTMCell(keras.layers.Layer):
    """One step of an LSTM that chooses which of its last states to continue from.

    The cell stores its last `n_actions` states. At each step an agent, a small network,
    observes the input and the past and picks one of these states; a standard LSTM step
    continues from it. Action `n_actions - 1` is the newest state, as in an ordinary
    LSTM, and action 0 the oldest. Slots that no state has reached yet hold zeros and
    can be chosen. The first step ignores the action and continues from the given state.

    The action is `argmax(logits + noise)`: Gumbel noise samples from the policy,
    without noise the choice is greedy. No gradient passes through the action; the agent
    learns from a policy loss on its `logits` (see `dsc.losses`).

    Used as a Keras cell (`keras.layers.RNN(DSCLSTMCell(32, 5))`) it is always greedy.
    `dsc.DSCLSTM` is the layer that samples and returns what the policy loss needs.

    Args:
        units: size of the hidden state.
        n_actions: number of past states to choose from. 1 is an ordinary LSTM without
            an agent.
        lamda: between 0 and 1, the weight of the chosen state; the newest state has
            the weight `1 - lamda`, as in the paper. 1 uses the chosen state alone.
        forget_bias: number added to the pre-activation of the forget gate.
        agent_units: size of the agent's hidden layer.
        observation: what the agent sees of the past beside the input: the `"mean"` of
            the stored hidden states (release), the `"last"` one (paper), or all
            `"states"`: it then scores each by itself, from its hidden state and its
            age. Its weights are the same for all of them.
        choice: how the state is chosen. `"agent"` is the paper's model. The others are
            baselines: `"fixed_skip"` always takes the oldest state and `"random_skip"`
            the one with the largest noise, both without an agent. With `"attention"`
            the step continues from the mean of the states, weighted by the softmax of
            the agent's logits, and gradients pass through it.
        layer_norm: whether to normalise the gates and the cell state that leaves the
            cell.
        zoneout: between 0 and 1, probability with which a unit of h or c keeps the
            value in the state that the step continues from (the chosen one, mixed by
            `lamda`). Without a mask a step takes the expectation.
        shares: of a random skip: the probability of each state, `n_actions` numbers,
            oldest first. None: all are equal.
        kernel_initializer, recurrent_initializer, bias_initializer: as in
            `keras.layers.LSTM`. By default the recurrent block of each gate is
            orthogonal. The bias of the forget gate starts at zero, unless `forget_bias`
            is 0.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(
        self,
        units: int,
        n_actions: int,
        lamda: float = 1.0,
        forget_bias: float = 1.0,
        agent_units: int = 200,
        observation: str = "mean",
        choice: str = "agent",
        layer_norm: bool = False,
        use_bias: bool = True,
        kernel_initializer="glorot_uniform",
        recurrent_initializer=None,
        bias_initializer="zeros",
        kernel_regularizer=None,
        recurrent_regularizer=None,
        bias_regularizer=None,
        kernel_constraint=None,
        recurrent_constraint=None,
        bias_constraint=None,
        zoneout: float = 0.0,
        shares=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        sizes = {"units": units, "n_actions": n_actions, "agent_units": agent_units}
        for name, value in sizes.items():
            if int(value) != value or value < 1:
                raise ValueError(f"{name} must be a whole number >= 1, not {value!r}.")
        if not 0.0 <= lamda <= 1.0:
            raise ValueError(f"lamda must lie between 0 and 1, not {lamda!r}.")
        if not 0.0 <= zoneout < 1.0:
            raise ValueError(f"zoneout must be in [0, 1), not {zoneout!r}.")
        if shares is not None and choice != "random_skip":
            raise ValueError(f"choice={choice!r} takes no shares, but 'random_skip'.")
        if shares is not None and not are_shares(shares, n_actions):
            raise ValueError(
                f"shares must be n_actions={n_actions} numbers >= 0 whose sum is 1, "
                f"not {shares!r}."
            )
        for name, value, known in (
            ("observation", observation, OBSERVATIONS),
            ("choice", choice, CHOICES),
        ):
            if value not in known:
                raise ValueError(f"{name} must be one of {known}, not {value!r}.")
        self.units = int(units)
        self.n_actions = int(n_actions)
        self.lamda = float(lamda)
        self.forget_bias = float(forget_bias)
        self.agent_units = int(agent_units)
        self.observation = observation
        self.choice = choice
        self.layer_norm = bool(layer_norm)
        self.zoneout = float(zoneout)
        self.shares = None if shares is None else [float(share) for share in shares]
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.recurrent_initializer = keras.initializers.get(
            recurrent_initializer or BlockOrthogonal()
        )
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.use_bias = bool(use_bias)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.recurrent_regularizer = keras.regularizers.get(recurrent_regularizer)
        self.bias_regularizer = keras.regularizers.get(bias_regularizer)
        self.kernel_constraint = keras.constraints.get(kernel_constraint)
        self.recurrent_constraint = keras.constraints.get(recurrent_constraint)
        self.bias_constraint = keras.constraints.get(bias_constraint)
        self.has_agent = self.n_actions > 1 and choice in ("agent", "attention")
        self.has_policy = self.has_agent and choice == "agent"
        self.observes_mean = self.has_agent and observation == "mean"
        self.observes_states = self.has_agent and observation == "states"
        if self.has_agent:
            self.agent_hidden = self._agent_layer(self.agent_units, "tanh", "hidden")
            n_logits = 1 if self.observes_states else self.n_actions
            self.agent_logits = self._agent_layer(n_logits, None, "logits")

    def _agent_layer(self, units, activation, name):
        # The release's numbers (language_modeling and number_prediction alike).
        return _AgentDense(
            units,
            activation,
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.3),
            bias_initializer=keras.initializers.Constant(0.1),
            dtype=self.dtype_policy,
            name=f"agent_{name}",
        )

    @property
    def state_size(self):
        """Sizes of h, c, the flattened memory of h and of c, and the started flag."""
        memory = self.n_actions * self.units
        return [self.units, self.units, memory, memory, 1]

    @property
    def output_size(self):
        return self.units

    def get_initial_state(self, batch_size):
        """Zeros: an empty memory, no step taken."""
        dtype = self.compute_dtype
        return [ops.zeros((batch_size, size), dtype) for size in self.state_size]

    def build(self, input_shape):
        features = input_shape[-1]
        if features is None:
            raise ValueError("The last axis of the inputs must have a known size.")
        self.kernel = self.add_weight(
            shape=(features, 4 * self.units),
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
            name="kernel",
        )
        self.recurrent_kernel = self.add_weight(
            shape=(self.units, 4 * self.units),
            initializer=self.recurrent_initializer,
            regularizer=self.recurrent_regularizer,
            constraint=self.recurrent_constraint,
            name="recurrent_kernel",
        )
        self.bias = None
        if self.use_bias:
            # Of another shape than an LSTM's, whose gates have another order: so
            # `set_weights` refuses them. See `DSCLSTM.from_lstm`.
            self.bias = self.add_weight(
                shape=(4, self.units),
                initializer=self._initial_bias,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
                name="bias",
            )
        if self.layer_norm:
            shape = (5, self.units)
            self.gain = self.add_weight(shape=shape, initializer="ones", name="gain")
            self.offset = self.add_weight(
                shape=shape, initializer="zeros", name="offset"
            )
        if self.has_agent:
            n_ages = self.ages.shape[-1] if self.observes_states else 0
            self.agent_hidden.build((None, features + self.units + n_ages))
            self.agent_logits.build((None, self.agent_units))

    @property
    def ages(self):
        """How many steps ago each state was stored, `[n_actions, 16]`.

        Sines and cosines, as the positions in Vaswani et al., 2017, of which a small
        network can pick one: a plain number was learned far more slowly.
        """
        angles = np.arange(self.n_actions, 0, -1)[:, None] * AGE_RATES
        ages = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
        return ops.convert_to_tensor(ages, self.compute_dtype)

    def _initial_bias(self, shape, dtype=None):
        bias = self.bias_initializer(shape, dtype=dtype)
        if self.forget_bias == 0.0:
            return bias
        # As in an LSTM with a unit forget bias, which begins with that alone.
        is_forget_gate = (np.arange(4) == 2)[:, None]
        return ops.where(is_forget_gate, ops.zeros_like(bias), bias)

    @property
    def lstm_weights(self):
        """Kernel, recurrent kernel and bias `[4 * units]`, in the compute dtype."""
        # Keras casts them itself, but not in every scope.
        bias = self.bias if self.use_bias else ops.zeros((4, self.units))
        weights = self.kernel, self.recurrent_kernel, ops.reshape(bias, (-1,))
        return [ops.cast(w, self.compute_dtype) for w in weights]

    @property
    def agent_weights(self):
        """Kernel and bias of the agent's two layers, in the compute dtype."""
        layers = self.agent_hidden, self.agent_logits
        # Not `layer.weights`: LoRA adds to the kernel.
        weights = [w for layer in layers for w in (layer.kernel, layer.bias)]
        return [ops.cast(w, self.compute_dtype) for w in weights]

    @property
    def norm(self):
        """The weights of the layer normalisation, for `lstm_gates`, or None."""
        if not self.layer_norm:
            return None
        return [ops.cast(w, self.compute_dtype) for w in (self.gain, self.offset)]

    def policy(self, x, observed_h):
        """Computes the agent's logits, for any number of steps at once.

        This is the only `stop_gradient` of the model: the policy loss trains the agent
        and nothing below it (release: `tf.stop_gradient` on the observation). Attention
        is trained by the task loss, so its gradient passes.

        Args:
            x: `[..., features]`, inputs.
            observed_h: `[..., units]`, what the agent sees of the past; with the
                observation `"states"` all of them, `[..., n_actions, units]`.

        Returns:
            `[..., n_actions]`, unnormalised log-probabilities.
        """
        if not self.has_agent:
            return self.fixed_logits(x)
        parts = [x, observed_h]
        if self.observes_states:
            states = ops.shape(observed_h)[:-1]  # [..., n_actions]
            parts = x[..., None, :], observed_h, self.ages
            parts = [ops.broadcast_to(p, (*states, p.shape[-1])) for p in parts]
        observation = ops.concatenate(parts, axis=-1)
        if self.choice == "agent":
            observation = ops.stop_gradient(observation)
        logits = self.agent_logits(self.agent_hidden(observation))
        return logits[..., 0] if self.observes_states else logits

    def fixed_logits(self, x):
        """The logits of a choice without an agent, `[..., n_actions]`; x as above."""
        logits = ops.zeros((self.n_actions,), x.dtype)
        if self.choice == "fixed_skip":
            oldest = ops.one_hot(0, self.n_actions, dtype=x.dtype)
            logits = logits + FORCED_LOGIT * oldest
        if self.shares is not None:
            # A logit of minus infinity would make the entropy NaN.
            log_shares = np.log(np.maximum(self.shares, 1e-30))
            logits = logits + ops.convert_to_tensor(log_shares, x.dtype)
        return ops.broadcast_to(logits, (*ops.shape(x)[:-1], self.n_actions))

    def step(self, x, states, noise=None, dropout_mask=None, zoneout_mask=None):
        """One time step.

        Args:
            x: `[batch, features]`.
            states: list of h, c `[batch, units]`, the flattened memories of h and c
                `[batch, n_actions * units]`, oldest first, and a flag `[batch, 1]`: 0
                before the first step of a row, 1 after it.
            noise: `[batch, n_actions]`, added to the logits before the argmax, or None
                for the greedy choice.
            dropout_mask: `[batch, units]`, see `lstm_gates`, or None.
            zoneout_mask: `[batch, 2 * units]`, 1 where a unit of h, then of c, keeps
                its value, else 0; or None for the rate, which gives the expectation.

        Returns:
            `(h [batch, units], logits [batch, n_actions], states)`.
        """
        prev_h, prev_c, memory_h, memory_c, started = states
        slots = (-1, self.n_actions, self.units)
        memory_h = ops.reshape(memory_h, slots)  # [batch, n_actions, units]
        memory_c = ops.reshape(memory_c, slots)
        if self.n_actions > 1:
            observed_h = ops.mean(memory_h, axis=1) if self.observes_mean else prev_h
            observed_h = ops.where(started > 0, observed_h, prev_h)
            if self.observes_states:
                observed_h = memory_h  # [batch, n_actions, units]
            logits = self.policy(x, observed_h)  # [batch, n_actions]
            if self.choice == "attention":
                weights = ops.softmax(logits)
            else:
                action = chosen_actions(logits, noise)
                weights = ops.one_hot(action, self.n_actions, dtype=memory_h.dtype)
            chosen_h = ops.sum(weights[:, :, None] * memory_h, axis=1)  # [batch, units]
            chosen_c = ops.sum(weights[:, :, None] * memory_c, axis=1)
            mixed_h = self.lamda * chosen_h + (1.0 - self.lamda) * prev_h
            mixed_c = self.lamda * chosen_c + (1.0 - self.lamda) * prev_c
            mixed_h = ops.where(started > 0, mixed_h, prev_h)
            mixed_c = ops.where(started > 0, mixed_c, prev_c)
        else:
            logits = ops.zeros_like(prev_h[:, :1])
            mixed_h, mixed_c = prev_h, prev_c
        kernel, recurrent_kernel, bias = self.lstm_weights
        z = ops.matmul(x, kernel) + ops.matmul(mixed_h, recurrent_kernel) + bias
        gates = ops.split(z, 4, axis=-1)
        h, c = lstm_gates(gates, mixed_c, self.forget_bias, dropout_mask, self.norm)
        if self.zoneout:
            held = (self.zoneout,) * 2
            if zoneout_mask is not None:
                held = ops.split(zoneout_mask, 2, axis=-1)
            h, c = zone_out((h, c), (mixed_h, mixed_c), held)
        flat = (-1, self.n_actions * self.units)
        memory_h = ops.concatenate([memory_h[:, 1:], h[:, None]], axis=1)
        memory_c = ops.concatenate([memory_c[:, 1:], c[:, None]], axis=1)
        states = [
            h,
            c,
            ops.reshape(memory_h, flat),
            ops.reshape(memory_c, flat),
            ops.ones_like(started),
        ]
        return h, logits, states

    def alternatives(self, x, states, *masks):
        """The h of a `step` from each of the states, `[batch, n_actions, units]`.

        For the arguments see `step`. No gradient passes.
        """
        forced = 2 * FORCED_LOGIT * np.eye(self.n_actions, dtype="float32")
        steps = [self.step(x, states, noise, *masks) for noise in forced]
        return ops.stop_gradient(ops.stack([h for h, *_ in steps], axis=1))

    def call(self, inputs, states):
        """One greedy step, as Keras calls a cell; see `step`."""
        h, _, states = self.step(inputs, states)
        return h, states

    def get_config(self):
        serialize = keras.initializers.serialize
        regularizer = keras.regularizers.serialize
        constraint = keras.constraints.serialize
        return {
            **super().get_config(),
            "units": self.units,
            "n_actions": self.n_actions,
            "lamda": self.lamda,
            "forget_bias": self.forget_bias,
            "agent_units": self.agent_units,
            "observation": self.observation,
            "choice": self.choice,
            "layer_norm": self.layer_norm,
            "zoneout": self.zoneout,
            "shares": self.shares,
            "kernel_initializer": serialize(self.kernel_initializer),
            "recurrent_initializer": serialize(self.recurrent_initializer),
            "bias_initializer": serialize(self.bias_initializer),
            "use_bias": self.use_bias,
            "kernel_regularizer": regularizer(self.kernel_regularizer),
            "recurrent_regularizer": regularizer(self.recurrent_regularizer),
            "bias_regularizer": regularizer(self.bias_regularizer),
            "kernel_constraint": constraint(self.kernel_constraint),
            "recurrent_constraint": constraint(self.recurrent_constraint),
            "bias_constraint": constraint(self.bias_constraint),
        }
