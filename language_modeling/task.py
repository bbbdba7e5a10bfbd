"""The language-model task under TensorFlow."""

import tensorflow as tf

from dsc import losses, noise
from dsc.training.task import Task
from language_modeling.base_task import LanguageModelTask
from language_modeling.evaluation import Evaluator
from language_modeling.model import ACTIONS, DROPOUT, Noise, loss


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
        shape = (self.batch_size, self.n_steps)
        masks = None
        if self.dropout:
            masks = [
                noise.dropout_mask(
                    (*shape, self.model.rnn_size),
                    self.dropout,
                    self.seed,
                    step,
                    DROPOUT + i,
                )
                for i in range(self.model.n_dropout_masks)
            ]
        actions = (*shape, self.model.dsc.n_actions)
        return Noise(noise.gumbel(actions, self.seed, step, ACTIONS), masks)

    def read(self, split):
        return self.evaluator.run(self.windows[split])
