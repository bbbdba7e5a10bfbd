"""What one choice is worth, and how noisy the estimates of its gradient are.

The reward of an action is the log-probability of the next word if this step alone had
continued from the action's state, as in `dsc.losses.exact`. NumPy.
"""

import numpy as np

PENALTIES = 10.0 ** np.arange(-4, 5)  # of the ridge regression, that are tried


def rewards_by_action(read):
    """`[batch, time, n_actions]`, from a `choices.reading.Read` in detail."""
    rewards = np.concatenate([read.log_probs[..., None], read.alternatives], axis=-1)
    n_actions = rewards.shape[-1]
    order = (np.arange(n_actions) - read.actions[..., None]) % n_actions
    return np.take_along_axis(rewards, order, axis=-1).astype(np.float64)


def softmax(logits):
    odds = np.exp(logits - logits.max(axis=-1, keepdims=True)).astype(np.float64)
    return odds / odds.sum(axis=-1, keepdims=True)


def values(rewards, policy, actions):
    """Sums over choices of what they are worth, in nats a word: dict by name.

    Args:
        rewards, policy: `[choices, n_actions]`.
        actions: `[choices]`, the actions that were taken.
    """
    taken = np.take_along_axis(rewards, actions[:, None], axis=-1)[:, 0]
    expected = np.sum(policy * rewards, axis=-1)
    return {
        "the choice, over the newest state": np.sum(taken - rewards[:, -1]),
        "the choice, over the mean of the policy": np.sum(taken - expected),
        "the best state, over the choice": np.sum(rewards.max(axis=-1) - taken),
    }


def squared_gradients(rewards, policy, actions, predicted=None):
    """Sums over choices of the mean squared norm of the gradient of a choice's logits.

    The estimate from an action a is (onehot(a) - policy) * (r_a - baseline); the mean
    is over all actions, by the policy. The exact gradient needs no action.

    Args:
        rewards, policy: `[batch, time, n_actions]`.
        actions: `[batch, time]`, which give the baseline of the batch.
        predicted: `[batch, time]`, by `dsc.value.Value`, or None.

    Returns:
        Dict by the name of the estimate.
    """
    taken = np.take_along_axis(rewards, actions[..., None], axis=-1)
    others = (taken.sum(axis=0) - taken) / max(len(taken) - 1, 1)
    value = np.sum(policy * rewards, axis=-1, keepdims=True)
    baselines = {
        "REINFORCE, no baseline": 0.0,
        "REINFORCE, mean of the batch's other rows": others,
        "REINFORCE, true value of the state": value,
    }
    if predicted is not None:
        baselines["REINFORCE, mean and learned value"] = others + predicted[..., None]
    # |onehot(a) - policy|^2 for each action a.
    lengths = 1.0 - 2.0 * policy + np.sum(policy**2, axis=-1, keepdims=True)
    found = {
        name: np.sum(policy * lengths * (rewards - baseline) ** 2)
        for name, baseline in baselines.items()
    }
    return found | {"exact": np.sum((policy * (rewards - value)) ** 2)}


class Probe:
    """Ridge regression of advantages on what an agent sees, in three parts of a text.

    The first part is fitted, the second chooses the penalty, the third is held out. Of
    each only the second moments are kept.
    """

    def __init__(self):
        self._moments = {}

    def add(self, part, features, targets):
        """Adds observations `[n, features]` and `[n, n_actions]` to part 0, 1 or 2."""
        ones = np.ones((len(features), 1), np.float32)
        x, y = np.concatenate([features, ones], axis=1), targets.astype(np.float32)
        moments = x.T @ x, x.T @ y, np.sum(targets**2), targets.sum(axis=0), len(x)
        before = self._moments.get(part, [0.0] * len(moments))
        self._moments[part] = [a + b for a, b in zip(before, moments, strict=True)]

    def explained(self):
        """The share of the held-out variance that is explained; may be negative."""
        gram, moment, *_ = self._moments[0]
        scale = np.trace(gram) / len(gram) * np.eye(len(gram))
        fits = [np.linalg.solve(gram + p * scale, moment) for p in PENALTIES]
        best = max(fits, key=lambda weights: self._share(1, weights))
        return self._share(2, best)

    def _share(self, part, weights):
        gram, moment, squares, sums, n = self._moments[part]
        errors = np.sum(weights * (gram @ weights)) - 2 * np.sum(weights * moment)
        return 1.0 - (errors + squares) / (squares - np.sum(sums**2) / n)


def memories(hidden, carried):
    """The stored hidden states before each step, `[batch, time, n_actions, units]`.

    Args:
        hidden: `[batch, time, units]`, outputs of the steps.
        carried: `[batch, n_actions, units]`, the memory before the first step.
    """
    n_actions, time = carried.shape[1], hidden.shape[1]
    stored = np.concatenate([carried, hidden], axis=1)
    return np.stack([stored[:, k : k + time] for k in range(n_actions)], axis=2)


def analyse(reader):
    """Reads a text greedily and looks at every choice.

    Args:
        reader: `choices.reading.Reader`, whose model returns alternatives.

    Returns:
        `(values, variances, explained)`: dicts by name; nats a word, the mean squared
        gradient over that of the exact one, and shares of the advantage's variance.
    """
    dsc = reader.model.dsc
    first = 0 if dsc.carry_memory else 1  # the first step of a window chooses nothing
    carried = np.zeros((reader.shape[1], dsc.n_actions, dsc.units), np.float32)
    empty, totals, gradients, n = carried, {}, {}, 0
    probes = {
        "[x ; mean h]": (Probe(), lambda x, h: (x, h.mean(axis=1))),
        "[x ; last h]": (Probe(), lambda x, h: (x, h[:, -1])),
        "[x ; all h]": (Probe(), lambda x, h: (x, h.reshape(len(h), -1))),
    }
    for i, read in enumerate(reader.read(in_detail=True)):
        rewards, policy = rewards_by_action(read), softmax(read.logits)
        memory = memories(read.hidden, carried if dsc.carry_memory else empty)
        carried = np.concatenate([carried, read.hidden], axis=1)[:, -dsc.n_actions :]
        rewards, policy, actions, memory, x = (
            part[:, first:] for part in (rewards, policy, read.actions, memory, read.x)
        )
        predicted = None if read.predicted is None else read.predicted[:, first:]
        _add(gradients, squared_gradients(rewards, policy, actions, predicted))
        scored = reader.scored[i][:, first:]
        rewards, policy, actions, memory, x = (
            part[scored] for part in (rewards, policy, actions, memory, x)
        )
        _add(totals, values(rewards, policy, actions))
        advantage = rewards - np.sum(policy * rewards, axis=-1, keepdims=True)
        for probe, see in probes.values():
            features = np.concatenate(see(x, memory), axis=1)
            probe.add(3 * i // reader.shape[0], features, advantage)
        n += len(rewards)
    return (
        {name: total / n for name, total in totals.items()},
        {name: total / gradients["exact"] for name, total in gradients.items()},
        {name: float(probe.explained()) for name, (probe, _) in probes.items()},
    )


def _add(totals, found):
    for name, value in found.items():
        totals[name] = totals.get(name, 0.0) + value
