"""Trains the language model under JAX, without TensorFlow.

    python scripts/train_jax.py --n_actions 5

The flags are those of `language_modeling/rl_train.py`, which also evaluates the models
trained here (--load_model).
"""

import contextlib
import logging
import os
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this clone's code

from dsc.cli import program, startup
from language_modeling.flags import FLAGS

if __name__ == "__main__":
    program.parse(FLAGS, __doc__)  # before the imports below, which take seconds
with startup.backend("jax"):
    try:
        import jax
    except ImportError as error:
        sys.exit(
            f"JAX is missing ({error}); install it with `pip install -e '.[jax]'`."
        )
    import keras  # noqa: F401  (here, where its messages are filtered)

from dsc.cli.errors import RunError
from dsc.distributed.base import Distribution
from language_modeling import flags as language_flags
from language_modeling import training
from language_modeling.jax_task import JaxLanguageModeling

logging.getLogger("jax").setLevel(logging.WARNING)  # no messages about missing devices


def run():
    """Trains, and evaluates the best weights."""
    check_flags(FLAGS)
    limit_gpu_memory(FLAGS.gpu_portion)
    random.seed(FLAGS.seed)  # initial weights; Keras's function imports TensorFlow
    print(f"JAX computes on {accelerator() or 'the processor'}.")
    with translate_memory_errors():
        training.run(JaxLanguageModeling, FLAGS, Distribution(), accelerator())


def check_flags(values):
    """Raises a `RunError` for flags that only the script of TensorFlow supports."""
    if values.load_model or values.mode != "evaluate" or not values.max_epochs:
        raise RunError(
            "--load_model, --mode and --max_epochs 0 only evaluate: leave the flag "
            "out, or use language_modeling/rl_train.py, which evaluates any model."
        )
    if values.strategy != "none":
        raise RunError(
            f"--strategy {values.strategy} needs TensorFlow: leave the flag out, or "
            "use language_modeling/rl_train.py."
        )
    if not language_flags.recipe(values).dense_norm:
        raise RunError(
            f"--recipe {values.recipe} counts each lookup of a word for itself when "
            "it clips gradients, which JAX cannot do: leave the flag out, or use "
            "language_modeling/rl_train.py."
        )


def limit_gpu_memory(portion):
    """Lets JAX use at most a share of a GPU's memory; call it before JAX computes."""
    if portion < 1.0:  # read when JAX first looks for its devices
        os.environ["XLA_PYTHON_CLIENT_MEM_FRACTION"] = str(portion)


@contextlib.contextmanager
def translate_memory_errors():
    """Turns JAX's error for exhausted memory into a `MemoryError`."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        raise MemoryError if "RESOURCE_EXHAUSTED" in str(error) else error from None


def accelerator():
    """The name of the GPU or other accelerator, or None."""
    device = jax.devices()[0]
    return None if device.platform == "cpu" else device.device_kind


if __name__ == "__main__":
    program.main(FLAGS, run)
