"""Trains and evaluates the language model with dynamic skip connections.

    python language_modeling/rl_train.py --n_actions 5

The flags and defaults are those of the authors' release, with new flags added.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this clone's code

from dsc.cli import program, startup
from language_modeling.flags import FLAGS

if __name__ == "__main__":
    program.parse(FLAGS, __doc__)  # before the imports below, which take seconds
with startup.backend("tensorflow"):
    import keras

from dsc.distributed.strategy import make_distribution
from dsc.training.step import limit_gpu_memory
from language_modeling import training
from language_modeling.inference import modes
from language_modeling.inference.trained_model import TrainedModel
from language_modeling.task import LanguageModeling


def run():
    """Trains and evaluates, or uses a trained model as --mode says."""
    limit_gpu_memory(FLAGS.gpu_portion)
    distribution = make_distribution(FLAGS)
    keras.utils.set_random_seed(FLAGS.seed)
    if FLAGS.mode != "evaluate":
        modes.MODES[FLAGS.mode](TrainedModel.open(FLAGS), FLAGS)
    else:
        training.run(LanguageModeling, FLAGS, distribution)


if __name__ == "__main__":
    program.main(FLAGS, run)
