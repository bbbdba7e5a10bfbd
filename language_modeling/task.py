"""The language-model task under TensorFlow."""

import tensorflow as tf

from dsc import losses, noise
from dsc.training.task import Task
from language_modeling.base_task import LanguageModelTask
from language_modeling.evaluation import Evaluator
from language_modeling.model import (
    ACTIONS,
    DROPOUT,
    RECURRENT_DROPOUT,
    ZONEOUT,
    Noise,
    loss,
)


class LanguageModeling(LanguageModelTask, Task):
    """`LanguageModelTask` under TensorFlow; same arguments."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.dense_norm = self.recipe.dense_norm
        self.evaluator = Evaluator(self.model, self.recipe.eval_actions, self.seed)

    def batch(self, epoch, i):
        words, targets, _ = self.windows["train"][i]
        return words, targets

    def initial_state(self):
        return self.model.get_initial_state(self.batch_size)

    def loss(self, step, batch, state):
        tokens, targets = batch
        noise = self.distribution.local_rows(self._noise(step))
        outputs = self.model(tokens, state, noise, targets)
        total, metrics = loss(
            outputs,
            targets,
            self.recipe.after(tf.cast(step, "float32") / self.n_batches),
            self.model.dsc.carry_memory,
            self.distribution.on_global_batch(losses.advantages),
        )
        return total, outputs.state, metrics

    def _noise(self, step):
        shape, units = (self.batch_size, self.n_steps), self.model.rnn_size
        mask = (self.batch_size, 1 if self.variational else self.n_steps, units)

        def draw(n, function, shape, rate, stream):
            if not rate:
                return None
            return [
                function(shape, rate, self.seed, step, stream + i) for i in range(n)
            ]

        n, n_layers = self.model.n_dropout_masks, len(self.model.recurrent_layers)
        drop, hold = noise.dropout_mask, noise.zoneout_mask
        actions = (*shape, self.model.dsc.n_actions)
        return Noise(
            noise.gumbel(actions, self.seed, step, ACTIONS),
            draw(n, drop, mask, self.dropout, DROPOUT),
            draw(n_layers, drop, mask, self.recurrent_dropout, RECURRENT_DROPOUT),
            draw(n_layers, hold, (*shape, 2 * units), self.model.zoneout, ZONEOUT),
        )

    def read(self, split):
        return self.evaluator.run(self.windows[split])
