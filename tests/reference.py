"""The paper's arithmetic as plain loops in float64: what the tests compare with.

Written from the paper, "Dynamic Skip with REINFORCE", and the authors' release, a row
and a step at a time, never from the code under test. NumPy alone, for any backend.
"""

from typing import Any, NamedTuple

import numpy as np


class Weights(NamedTuple):
    """The numbers in a cell, in float64.

    Attributes:
        kernel, recurrent_kernel, bias: the LSTM's, gates in the order i, j, f, o.
        agent: kernel and bias of the agent's two layers, or nothing.
        norm: gain and offset of the layer normalisation, each `[5, units]`, or nothing.
    """

    kernel: Any
    recurrent_kernel: Any
    bias: Any
    agent: tuple = ()
    norm: tuple = ()

    @classmethod
    def of(cls, cell):
        """Reads them from a built `dsc.DSCLSTMCell`."""

        def read(*variables):
            return tuple(np.asarray(v).astype("float64") for v in variables)

        agent = norm = ()
        if cell.has_agent:
            agent = read(*cell.agent_hidden.weights, *cell.agent_logits.weights)
        if cell.layer_norm:
            norm = read(cell.gain, cell.offset)
        return cls(*read(cell.kernel, cell.recurrent_kernel, cell.bias), agent, norm)


class Run(NamedTuple):
    """What a DSC-LSTM computes; final states last."""

    outputs: Any  # [batch, time, units]
    logits: Any  # [batch, time, n_actions]
    actions: Any  # [batch, time]
    h: Any  # [batch, units]
    c: Any
    memory_h: Any  # [batch, n_actions, units]
    memory_c: Any


def randomise(cell, rng):
    """Gives every weight of a cell a random number, so that none is 0 or 1 by default.

    Returns:
        `Weights`.
    """
    for variable in cell.weights:
        variable.assign(0.5 * rng.normal(size=variable.shape))
    return Weights.of(cell)


def dsc_lstm(
    weights,
    x,
    h,
    c,
    n_actions,
    memory=None,
    noise=None,
    dropout_mask=None,
    zoneout_mask=None,
    **options,
):
    """Runs every row by itself; see `dsc.DSCLSTM` for the arguments.

    Args:
        memory: `(memory_h, memory_c)`, each `[batch, n_actions, units]`, or None: the
            memory is empty and the first step continues from h and c.
        options: `lamda`, `forget_bias`, `observation`, `choice`, `layer_norm`,
            `zoneout` and `shares`.
    """
    rows = []
    for b in range(len(x)):
        given = {
            "memory": None if memory is None else [part[b] for part in memory],
            "noise": None if noise is None else noise[b],
            "dropout_mask": None if dropout_mask is None else dropout_mask[b],
            "zoneout_mask": None if zoneout_mask is None else zoneout_mask[b],
        }
        rows.append(_row(weights, x[b], h[b], c[b], n_actions, **given, **options))
    return Run(*(np.stack(part) for part in zip(*rows, strict=True)))


def _row(
    weights,
    x,
    h,
    c,
    n_actions,
    memory,
    noise,
    dropout_mask,
    zoneout_mask,
    lamda=1.0,
    forget_bias=1.0,
    observation="mean",
    choice="agent",
    layer_norm=False,
    zoneout=0.0,
    shares=None,
):
    assert layer_norm == bool(weights.norm)
    units = len(h)
    first_step_chooses = memory is not None
    if memory is None:
        memory = [np.zeros((n_actions, units))] * 2
    stored = list(zip(*memory, strict=True))  # (h, c) of each state, oldest first
    outputs, logits, actions = np.zeros((3, 0)).tolist()
    for t in range(len(x)):
        free = t > 0 or first_step_chooses
        scores = np.zeros(1)
        if choice == "fixed_skip":
            scores = np.array([1e4] + [0.0] * (n_actions - 1))
        elif choice == "random_skip":
            scores = np.log(shares or np.ones(n_actions))
        elif n_actions > 1:
            seen = [h]
            if observation == "states":  # each with its age, scored by itself
                seen = []
                for k, (stored_h, _) in enumerate(stored):
                    angles = [(n_actions - k) / 2**i for i in range(8)]
                    seen += [np.concatenate([stored_h, np.sin(angles), np.cos(angles)])]
            elif free and observation == "mean":
                seen = [sum(stored_h for stored_h, _ in stored) / n_actions]
            scores = np.concatenate([policy(weights, x[t], part) for part in seen])
        noisy = scores if noise is None else scores + noise[t]
        action = int(np.argmax(noisy))
        start_h, start_c = h, c
        if free and n_actions > 1:
            chosen_h, chosen_c = stored[action]
            if choice == "attention":
                weights_of = np.exp(scores) / np.exp(scores).sum()
                pairs = list(zip(weights_of, stored, strict=True))
                chosen_h = sum(w * stored_h for w, (stored_h, _) in pairs)
                chosen_c = sum(w * stored_c for w, (_, stored_c) in pairs)
            start_h = lamda * chosen_h + (1 - lamda) * h
            start_c = lamda * chosen_c + (1 - lamda) * c
        factors = 1.0 if dropout_mask is None else dropout_mask[t]
        h, c = lstm_step(weights, x[t], start_h, start_c, forget_bias, factors)
        if zoneout:
            kept = (
                np.full(2 * units, zoneout) if zoneout_mask is None else zoneout_mask[t]
            )
            h = kept[:units] * start_h + (1 - kept[:units]) * h
            c = kept[units:] * start_c + (1 - kept[units:]) * c
        stored = [*stored[1:], (h, c)]
        outputs.append(h)
        logits.append(scores)
        actions.append(action)
    return (
        np.reshape(outputs, (len(x), units)),
        np.reshape(logits, (len(x), n_actions)),
        np.reshape(actions, (len(x),)),
        h,
        c,
        np.stack([stored_h for stored_h, _ in stored]),
        np.stack([stored_c for _, stored_c in stored]),
    )


def policy(weights, x, seen_h):
    """The agent's logits, `[n_actions]` or of one state, for one step of one row."""
    kernel_1, bias_1, kernel_2, bias_2 = weights.agent
    hidden = np.tanh(np.concatenate([x, seen_h]) @ kernel_1 + bias_1)
    return hidden @ kernel_2 + bias_2


def lstm_step(weights, x, h, c, forget_bias=1.0, factors=1.0):
    """One LSTM step of one row: the next (h, c)."""
    bias = np.ravel(weights.bias)
    z = x @ weights.kernel + h @ weights.recurrent_kernel + bias
    i, j, f, o = np.split(z, 4)
    if weights.norm:
        gain, offset = weights.norm
        i, j, f, o = (
            normalise(gate, gain[n], offset[n]) for n, gate in enumerate((i, j, f, o))
        )
    c = c * sigmoid(f + forget_bias) + sigmoid(i) * np.tanh(j) * factors
    exposed = normalise(c, gain[4], offset[4]) if weights.norm else c
    return np.tanh(exposed) * sigmoid(o), c


def lstm(weights, x, h, c, forget_bias=1.0):
    """An ordinary LSTM: outputs `[batch, time, units]`."""
    rows = []
    for x_row, h_row, c_row in zip(x, h, c, strict=True):
        outputs = []
        for x_t in x_row:
            h_row, c_row = lstm_step(weights, x_t, h_row, c_row, forget_bias)
            outputs.append(h_row)
        rows.append(outputs)
    return np.array(rows)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def normalise(x, gain, offset):
    """Layer normalisation, with the epsilon of the LSTM that the release builds on."""
    return (x - np.mean(x)) / np.sqrt(np.var(x) + 1e-3) * gain + offset


def softmax(x):
    odds = np.exp(x - np.max(x))
    return odds / np.sum(odds)


def numerical_gradient(function, array, step=1e-5):
    """Central differences of a scalar function of an array."""
    gradient = np.zeros_like(array)
    for index in np.ndindex(array.shape):
        ahead, behind = array.copy(), array.copy()
        ahead[index] += step
        behind[index] -= step
        gradient[index] = (function(ahead) - function(behind)) / (2 * step)
    return gradient
