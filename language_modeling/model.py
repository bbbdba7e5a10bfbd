"""The language model and its loss; only `keras.ops`.

Paper, "Language Modeling"; release: `language_modeling/rl_train.py`.
"""

from typing import Any, NamedTuple

import keras
from keras import ops

from dsc import DSCLSTM, Skips, evaluation, losses
from dsc.recipes import LEARNED
from dsc.value import Value

# Random streams of one step, the masks' followed by one for each further mask;
# evaluation adds EVALUATION_SEED to the run's seed.
ACTIONS, DROPOUT, RECURRENT_DROPOUT, ZONEOUT = 0, 1, 1000, 2000
EVALUATION_SEED = 1


class Noise(NamedTuple):
    """All randomness of a forward pass; see `dsc.noise`.

    Attributes:
        actions: Gumbel noise `[batch, time, n_actions]`, or None for greedy actions.
        dropout: masks `[batch, time, rnn_size]`, one for the embedding and one for each
            recurrent layer, or None. Time may be 1: the same at every step.
        recurrent_dropout: such masks of the candidates, one for each recurrent layer,
            or None.
        zoneout: masks `[batch, time, 2 * rnn_size]`, one for each recurrent layer, or
            None for the expectation; see `dsc.DSCLSTM`.
    """

    actions: Any = None
    dropout: Any = None
    recurrent_dropout: Any = None
    zoneout: Any = None


class Outputs(NamedTuple):
    """Outputs of the model.

    Attributes:
        logits: `[batch, time, vocab_size]`, of the next word.
        hidden: `[batch, time, rnn_size]`, the outputs of the DSC-LSTM.
        skips: `dsc.Skips`.
        state: the recurrent state after the last step.
        alternatives: `[batch, time, n_actions - 1]`, the targets' log-probabilities if
            each step alone had continued from another state than it did: from those of
            the actions + 1, + 2, ... modulo n_actions. None unless they are asked for.
        values: `[batch, time]`, of a `dsc.value.Value`; None without one.
    """

    logits: Any
    hidden: Any
    skips: Any
    state: Any
    alternatives: Any = None
    values: Any = None


class LanguageModel(keras.Model):
    """Embedding, `rnn_layers` ordinary LSTMs, a DSC-LSTM, word logits.

    Dropout follows the embedding and each recurrent layer. The recurrent state is
    passed in and returned; the model's variables are its weights only.

    Args:
        vocab_size: number of words.
        rnn_size: units of the embedding and of each layer.
        rnn_layers: number of ordinary LSTMs, with a forget bias of 1; may be 0.
        n_actions, implementation, **dsc_arguments: see `dsc.DSCLSTM`.
        zoneout: of each recurrent layer, see `dsc.DSCLSTM`.
        tie_weights: whether the output layer has the embedding's matrix (Press and
            Wolf, 2017), and a bias of its own.
        param_init: weights start uniform in [-param_init, param_init], except the
            LSTMs' biases (0), the DSC-LSTM's recurrent kernel (orthogonal) and agent.
        estimator: with `"exact"`, the alternatives of a policy are returned; see
            `dsc.recipes.Recipe`.
        baseline: with `"value"`, an agent that REINFORCE trains has a
            `dsc.value.Value`.
        seed: of the initial weights.
        dtype: Keras dtype policy of each layer; with `"mixed_bfloat16"` weights and
            losses stay float32.
    """

    def __init__(
        self,
        vocab_size,
        rnn_size=650,
        rnn_layers=2,
        n_actions=5,
        *,
        zoneout=0.0,
        tie_weights=False,
        param_init=0.05,
        implementation="auto",
        estimator="reinforce",
        baseline=None,
        seed=None,
        dtype=None,
        **dsc_arguments,
    ):
        # The layers cast; autocast would round the noise of the actions.
        super().__init__(dtype=dtype, autocast=False)
        self.vocab_size = vocab_size
        self.rnn_size = rnn_size
        self.zoneout = zoneout
        if seed is not None:
            keras.utils.set_random_seed(seed)

        def uniform():
            return keras.initializers.RandomUniform(-param_init, param_init)

        self.embedding = keras.layers.Embedding(
            vocab_size,
            rnn_size,
            embeddings_initializer=uniform(),
            dtype=self.dtype_policy,
            name="embedding",
        )
        self.lstms = [
            DSCLSTM(
                rnn_size,
                n_actions=1,
                kernel_initializer=uniform(),
                recurrent_initializer=uniform(),
                zoneout=zoneout,
                return_sequences=True,
                return_state=True,
                implementation=implementation,
                dtype=self.dtype_policy,
                name=f"lstm{i}",
            )
            for i in range(rnn_layers)
        ]
        self.dsc = DSCLSTM(
            rnn_size,
            n_actions,
            kernel_initializer=uniform(),
            zoneout=zoneout,
            return_sequences=True,
            return_state=True,
            return_skips=True,
            implementation=implementation,
            dtype=self.dtype_policy,
            name="dsc",
            **dsc_arguments,
        )
        has_policy = self.dsc.cell.has_policy
        self.dsc.return_alternatives = estimator == "exact" and has_policy
        learns_value = baseline == LEARNED and has_policy and estimator != "exact"
        self.value = Value(name="value") if learns_value else None
        output = {"dtype": self.dtype_policy, "name": "softmax"}
        if tie_weights:
            self.softmax = TiedDense(self.embedding, uniform(), **output)
        else:
            self.softmax = keras.layers.Dense(
                vocab_size,
                kernel_initializer=uniform(),
                bias_initializer=uniform(),
                **output,
            )

    def build(self, input_shape=None):
        self.embedding.build((None, None))
        sequence = (None, None, self.rnn_size)
        for layer in self.recurrent_layers:
            layer.build(sequence)
        self.softmax.build((None, self.rnn_size))
        if self.value:
            self.value.build(sequence)
        self.built = True

    @property
    def recurrent_layers(self):
        return (*self.lstms, self.dsc)

    @property
    def n_dropout_masks(self):
        """The number of masks in `Noise.dropout`."""
        return len(self.recurrent_layers) + 1

    def get_initial_state(self, batch_size):
        """A list with the zero state of each recurrent layer."""
        return [layer.get_initial_state(batch_size) for layer in self.recurrent_layers]

    def call(self, tokens, state=None, noise=None, targets=None):
        """Runs over a window.

        Args:
            tokens: `[batch, time]`, word ids.
            state: from `get_initial_state` or the previous window; None is zeros.
            noise: `Noise`, or None: greedy actions, no dropout.
            targets: `[batch, time]`, the next words' ids, which the alternatives of the
                exact estimator are for; or None.

        Returns:
            `Outputs`.
        """
        noise = noise or Noise()
        state = state or self.get_initial_state(ops.shape(tokens)[0])
        layers, final_state = self.recurrent_layers, []
        nothing = [None] * len(layers)
        masks = noise.dropout or [None, *nothing]
        candidates, held = noise.recurrent_dropout or nothing, noise.zoneout or nothing
        x = _drop(self.embedding(tokens), masks[0])  # [batch, time, rnn_size]
        values = None
        for i, layer in enumerate(layers):
            if layer is self.dsc and self.value:
                values = self.value(x)
            hidden, *layer_state = layer(
                x,
                initial_state=state[i],
                noise=noise.actions if layer is self.dsc else None,
                dropout_mask=_over_time(candidates[i], x),
                zoneout_mask=held[i],
            )
            x = _drop(hidden, masks[i + 1])
            final_state.append(layer_state[: len(state[i])])
        skips, *alternatives = layer_state[len(state[-1]) :]
        # One matrix product for all steps.
        flat = ops.reshape(x, (-1, self.rnn_size))
        logits = ops.reshape(self.softmax(flat), (*ops.shape(tokens), self.vocab_size))
        log_probs = None
        if alternatives and targets is not None:
            log_probs = self._alternatives(
                alternatives[0], skips.actions, _over_time(masks[-1], hidden), targets
            )
        return Outputs(logits, hidden, skips, final_state, log_probs, values)

    def _alternatives(self, hidden, actions, mask, targets):
        """`Outputs.alternatives`, without a gradient.

        Args:
            hidden: `[batch, time, n_actions, rnn_size]`, outputs of the DSC-LSTM.
            actions, targets: `[batch, time]`.
            mask: of the dropout, `[batch, time, rnn_size]`, or None.
        """
        n_actions = self.dsc.n_actions
        hidden = ops.reshape(hidden, (-1, self.rnn_size))
        actions = ops.reshape(actions, (-1,))
        flat_targets = ops.reshape(ops.cast(targets, "int32"), (-1, 1))
        words = ops.arange(ops.shape(actions)[0], dtype="int32")  # [batch * time]
        mask = None if mask is None else ops.reshape(mask, (-1, self.rnn_size))

        def log_probs(k):
            """Those `[batch * time]` of the actions + k."""
            rows = words * n_actions + (actions + k) % n_actions
            h = _drop(ops.take(hidden, rows, axis=0), mask)
            logits = losses.at_least_float32(self.softmax(h))
            # Only these numbers are kept of the `[batch * time, vocab_size]` logits.
            own = ops.take_along_axis(logits, flat_targets, axis=-1)[:, 0]
            return ops.stop_gradient(own - ops.logsumexp(logits, axis=-1))

        found = ops.map(log_probs, ops.arange(1, n_actions, dtype="int32"))
        return ops.reshape(ops.transpose(found), (*ops.shape(targets), n_actions - 1))


class TiedDense(keras.layers.Layer):
    """A dense layer whose kernel is an embedding's matrix (Press and Wolf, 2017).

    Args:
        embedding: `keras.layers.Embedding`.
        bias_initializer: initial values of its own bias.
    """

    def __init__(self, embedding, bias_initializer, **kwargs):
        super().__init__(**kwargs)
        self.embedding = embedding
        self.bias_initializer = bias_initializer

    def build(self, input_shape):
        self.bias = self.add_weight(
            shape=(self.embedding.input_dim,),
            initializer=self.bias_initializer,
            name="bias",
        )

    def call(self, x):
        """Logits `[batch, input_dim]` of x `[batch, output_dim]`."""
        return ops.matmul(x, ops.transpose(self.embedding.embeddings)) + self.bias


def _drop(x, mask):
    return x if mask is None else x * ops.cast(mask, x.dtype)


def _over_time(mask, x):
    return None if mask is None else ops.broadcast_to(mask, ops.shape(x))


def read_window(call, words, state, n_actions, eval_actions, draw):
    """The `Outputs` of a model on a window in evaluation.

    Args:
        call: function of `(words, state, noise)`, such as a `LanguageModel`.
        words: `[batch, time]`, word ids.
        state: recurrent state of all passes, as is that in the result. The skips in it
            are those of the first pass.
        n_actions: number of actions.
        eval_actions, draw: see `dsc.evaluation.noise`.
    """
    n, (batch, time) = evaluation.n_passes(eval_actions), words.shape
    noise = evaluation.noise(eval_actions, (n * batch, time, n_actions), draw)
    outputs = call(ops.tile(words, (n, 1)), state, Noise(noise))
    return outputs._replace(
        logits=evaluation.mean_over_passes(outputs.logits, n),
        skips=Skips(*(part[:batch] for part in outputs.skips)),
    )


def word_losses(logits, targets):
    """Cross-entropy of each word.

    The custom gradient reuses the softmax of the loss: a step has millions of logits,
    and the backends' gradients would pass over them several times.

    Args:
        logits: `[batch, time, vocab_size]`.
        targets: `[batch, time]`, word ids.

    Returns:
        `[batch, time]`, in nats.
    """
    vocab_size = logits.shape[-1]
    flat_targets = ops.reshape(ops.cast(targets, "int32"), (-1,))

    @ops.custom_gradient
    def cross_entropy(logits):  # [words, vocab_size]
        probs = ops.softmax(logits)
        # The target's probability may underflow; that of the likeliest word cannot.
        target_logits = ops.take_along_axis(logits, flat_targets[:, None], axis=-1)
        margin = ops.max(logits, axis=-1) - target_logits[:, 0]
        nll = margin - ops.log(ops.max(probs, axis=-1))

        def gradient(*args, upstream=None):
            # TensorFlow and JAX pass it by position, other backends by name.
            d_nll = args[0] if upstream is None else upstream
            # probs - 1 at the target, probs elsewhere.
            words = ops.arange(ops.shape(probs)[0], dtype="int32")
            return ops.scatter_update(
                probs * d_nll[:, None],
                ops.stack([words, flat_targets], axis=-1),
                ops.expm1(-nll) * d_nll,
            )

        return nll, gradient

    flat_logits = ops.reshape(logits, (-1, vocab_size))
    nll = cross_entropy(losses.at_least_float32(flat_logits))
    return ops.reshape(nll, ops.shape(targets))


def loss(outputs, targets, recipe, carry_memory=False, advantages=losses.advantages):
    """The training loss of a window.

    loss = time * mean word loss + policy loss, as in the release, which divides the
    policy loss by the number of steps and multiplies the sum by it. The entropy bonus
    and the loss of a learned baseline are added.

    Args:
        outputs: `Outputs` on a window.
        targets: `[batch, time]`, the next words' ids.
        recipe: `dsc.recipes.Recipe`.
        carry_memory: whether the agent's action counts at the window's first step.
        advantages: `losses.advantages`, or its equivalent for rows of a larger batch.

    Returns:
        `(scalar loss, dict of metrics)`: `nll`, `reward`, `rl_loss` and `entropy` are
        scalars, `actions` `[n_actions]` has the share of each action.
    """
    nll = word_losses(outputs.logits, targets)  # [batch, time]
    # Without a carried memory the first step ignores the action.
    first = 0 if recipe.first_action_in_loss or carry_memory else 1
    logits, actions = (part[:, first:] for part in outputs.skips)
    log_probs = -nll[:, first:]
    if outputs.alternatives is not None:
        log_probs = log_probs[..., None]
        log_probs = ops.concatenate([log_probs, outputs.alternatives[:, first:]], -1)
    rewards = ops.exp(log_probs) if recipe.reward == "prob" else log_probs
    rewards = ops.stop_gradient(rewards)
    if outputs.alternatives is None:
        returns = losses.reward_to_go(rewards) if recipe.reward_to_go else rewards
        advantage = advantages(returns, recipe.baseline)
        if outputs.values is not None:
            values = outputs.values[:, first:]
            advantage, value_loss = losses.value_advantages(advantage, values)
        rl_loss = losses.reinforce(logits, actions, advantage)
    else:
        order = actions[..., None] + ops.arange(logits.shape[-1], dtype="int32")
        order = order % logits.shape[-1]  # that of the rewards: the action comes first
        in_order = ops.take_along_axis(logits, order, axis=-1)
        rl_loss = losses.exact(in_order, rewards)
        rewards = rewards[..., 0]
    rl_loss = recipe.rl_weight * rl_loss
    entropy = ops.mean(losses.entropy(logits))
    mean_nll = ops.mean(nll)
    total = ops.cast(ops.shape(targets)[1], nll.dtype) * mean_nll
    total = total + rl_loss - recipe.entropy_weight * entropy
    if outputs.values is not None:
        total = total + value_loss
    metrics = {
        "nll": mean_nll,
        "reward": ops.mean(rewards),
        "rl_loss": rl_loss,
        "entropy": entropy,
        "actions": ops.mean(ops.one_hot(actions, logits.shape[-1]), axis=(0, 1)),
    }
    return total, metrics
