"""The language model and its loss, in `keras.ops` alone.

Paper, "Language Modeling"; release: `language_modeling/rl_train.py`.
"""

from typing import Any, NamedTuple

import keras
from keras import ops

from dsc import DSCLSTM, losses

# Streams of the random numbers of one step, and what evaluation adds to the run's seed.
ACTIONS, DROPOUT = 0, 1
EVALUATION_SEED = 1


class Noise(NamedTuple):
    """Everything random in one forward pass; see `dsc.noise`.

    Attributes:
        actions: `[batch, time, n_actions]`, Gumbel noise, or None for greedy actions.
        dropout: one mask `[batch, time, rnn_size]` for the embedding and one for each
            recurrent layer, or None.
    """

    actions: Any = None
    dropout: Any = None


class Outputs(NamedTuple):
    """What the model computes.

    Attributes:
        logits: `[batch, time, vocab_size]`, unnormalised log-probabilities of the
            next word.
        hidden: `[batch, time, rnn_size]`, the outputs of the DSC-LSTM.
        skips: `dsc.Skips`.
        state: the recurrent state after the last step.
    """

    logits: Any
    hidden: Any
    skips: Any
    state: Any


class LanguageModel(keras.Model):
    """Embedding, `rnn_layers` ordinary LSTMs, a DSC-LSTM, word logits.

    Dropout stands after the embedding and after every recurrent layer. The recurrent
    state is passed in and returned; the model's variables are its weights only.

    Args:
        vocab_size: number of words.
        rnn_size: units of the embedding and of every layer.
        rnn_layers: number of ordinary LSTMs below the DSC-LSTM; may be 0.
        n_actions, implementation, **dsc_arguments: see `dsc.DSCLSTM`. The ordinary
            LSTMs have a forget bias of 1.
        param_init: weights start uniform in [-param_init, param_init], but for the
            LSTMs' biases (0), the DSC-LSTM's recurrent blocks (orthogonal) and its
            agent.
        seed: of the initial weights.
        dtype: Keras dtype policy of every layer; with `"mixed_bfloat16"` weights and
            losses are float32 still.
    """

    def __init__(
        self,
        vocab_size,
        rnn_size=650,
        rnn_layers=2,
        n_actions=5,
        *,
        param_init=0.05,
        implementation="auto",
        seed=None,
        dtype=None,
        **dsc_arguments,
    ):
        super().__init__(dtype=dtype)
        self.vocab_size = vocab_size
        self.rnn_size = rnn_size
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
            return_sequences=True,
            return_state=True,
            return_skips=True,
            implementation=implementation,
            dtype=self.dtype_policy,
            name="dsc",
            **dsc_arguments,
        )
        self.softmax = keras.layers.Dense(
            vocab_size,
            kernel_initializer=uniform(),
            bias_initializer=uniform(),
            dtype=self.dtype_policy,
            name="softmax",
        )

    def build(self, input_shape=None):
        self.embedding.build((None, None))
        sequence = (None, None, self.rnn_size)
        for layer in (*self.lstms, self.dsc):
            layer.build(sequence)
        self.softmax.build((None, self.rnn_size))
        self.built = True

    @property
    def n_dropout_masks(self):
        """How many masks `Noise.dropout` holds."""
        return len(self.lstms) + 2

    def get_initial_state(self, batch_size):
        """Zeros: a list with the state of each recurrent layer."""
        layers = (*self.lstms, self.dsc)
        return [layer.get_initial_state(batch_size) for layer in layers]

    def call(self, tokens, state=None, noise=None):
        """Runs over a window.

        Args:
            tokens: `[batch, time]`, word ids.
            state: from `get_initial_state` or from the window before; None is zeros.
            noise: `Noise`, or None: greedy actions, no dropout.

        Returns:
            `Outputs`.
        """
        noise = noise or Noise()
        state = state or self.get_initial_state(ops.shape(tokens)[0])
        masks = noise.dropout or [None] * self.n_dropout_masks
        x = _drop(self.embedding(tokens), masks[0])  # [batch, time, rnn_size]
        final_state = []
        for lstm, layer_state, mask in zip(
            self.lstms, state[:-1], masks[1:-1], strict=True
        ):
            x, h, c = lstm(x, initial_state=layer_state)
            x = _drop(x, mask)
            final_state.append([h, c])
        hidden, *dsc_state, skips = self.dsc(
            x, noise=noise.actions, initial_state=state[-1]
        )
        final_state.append(dsc_state)
        logits = self.word_logits(_drop(hidden, masks[-1]))
        return Outputs(logits, hidden, skips, final_state)

    def word_logits(self, hidden):
        """`[batch, time, rnn_size]` to `[batch, time, vocab_size]`, in one product."""
        batch, time = ops.shape(hidden)[:2]
        logits = self.softmax(ops.reshape(hidden, (-1, self.rnn_size)))
        return ops.reshape(logits, (batch, time, self.vocab_size))


def _drop(x, mask):
    return x if mask is None else x * ops.cast(mask, x.dtype)


def word_losses(logits, targets):
    """Cross-entropy of each word.

    With a gradient of its own, made from the one pass over the vocabulary that the
    loss makes: a step has millions of logits, and the backends' passes are several.

    Args:
        logits: `[batch, time, vocab_size]`, unnormalised log-probabilities.
        targets: `[batch, time]`, word ids.

    Returns:
        `[batch, time]`, in nats.
    """
    vocab_size = logits.shape[-1]
    flat_targets = ops.reshape(ops.cast(targets, "int32"), (-1,))

    @ops.custom_gradient
    def cross_entropy(logits):  # [words, vocab_size]
        probs = ops.softmax(logits)
        # The right word's own probability may be too small for a float; that of the
        # likeliest is at least 1 / vocab_size.
        right = ops.take_along_axis(logits, flat_targets[:, None], axis=-1)[:, 0]
        behind = ops.max(logits, axis=-1) - right
        nll = behind - ops.log(ops.max(probs, axis=-1))

        def gradient(*args, upstream=None):
            # Keras: TensorFlow and JAX pass it by place, the others by name.
            d_nll = args[0] if upstream is None else upstream
            # probs - 1 at the right word, probs elsewhere.
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
    """The training loss of a window and what is worth reporting.

    loss = time * mean word loss + policy loss, as in the release, where the policy
    loss is divided by the number of steps and the sum multiplied by it.

    Args:
        outputs: `Outputs` on a window.
        targets: `[batch, time]`, the next words' ids.
        recipe: `dsc.recipes.Recipe`.
        carry_memory: whether the window's first step chose too.
        advantages: `losses.advantages`, or what it is for rows of a larger batch.

    Returns:
        `(scalar loss, dict of metrics)`: `nll`, `reward`, `rl_loss` and `entropy` are
        scalars, `actions` `[n_actions]` is the share of each.
    """
    nll = word_losses(outputs.logits, targets)  # [batch, time]
    # The first step of a window continues from the state it was given, whatever the
    # action: without a carried memory there is nothing to credit it with.
    first = 0 if recipe.first_action_in_loss or carry_memory else 1
    logits, actions = (part[:, first:] for part in outputs.skips)
    rewards = word_rewards(nll[:, first:], recipe)
    rl_loss = policy_loss(logits, actions, rewards, recipe, advantages)
    entropy = ops.mean(losses.entropy(logits))
    mean_nll = ops.mean(nll)
    total = ops.cast(ops.shape(targets)[1], nll.dtype) * mean_nll
    total = total + rl_loss - recipe.entropy_weight * entropy
    metrics = {
        "nll": mean_nll,
        "reward": ops.mean(rewards),
        "rl_loss": rl_loss,
        "entropy": entropy,
        "actions": ops.mean(ops.one_hot(actions, logits.shape[-1]), axis=(0, 1)),
    }
    return total, metrics


def word_rewards(nll, recipe):
    """What each choice earned at once, `[batch, time]`, from the word losses."""
    return ops.stop_gradient(ops.exp(-nll) if recipe.reward == "prob" else -nll)


def policy_loss(logits, actions, rewards, recipe, advantages=losses.advantages):
    """The agent's loss, weighted.

    Args:
        logits: `[batch, time, n_actions]`.
        actions: `[batch, time]`.
        rewards: `[batch, time]`, what the actions led to; see `word_rewards`.
        recipe: `dsc.recipes.Recipe`.
        advantages: see `loss`.

    Returns:
        Scalar.
    """
    returns = losses.reward_to_go(rewards) if recipe.reward_to_go else rewards
    advantage = advantages(returns, recipe.baseline)
    return recipe.rl_weight * losses.reinforce(logits, actions, advantage)
