"""How both training scripts end: with one sentence wherever a user can do something."""

import os
import sys

from absl import flags

from dsc.errors import RunError
from dsc.interruption import Interrupted, ignore_signals


def main(run, *problems):
    """A program for `absl.app.run`.

    Args:
        run: function without arguments, does the work.
        problems: classes of exceptions, beside `RunError`, whose message is all that
            the user has to be told.

    Returns:
        Function of the command line, which ends the process with 0 if all went well,
        with 128 + the number of a signal, or with 1 and one sentence on stderr.
    """

    def program(argv):
        if sys.stdout is None:  # closed by the shell
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115
        # A path may have bytes that no text has; they must be printable.
        sys.stdout.reconfigure(errors="backslashreplace")
        try:
            if argv[1:]:
                raise RunError(
                    f"{argv[1]!r} is not a flag; --help lists those there are."
                )
            run()
            sys.stdout.flush()
            ignore_signals()
        except (RunError, *problems) as error:
            sys.exit(str(error))
        except Interrupted as interrupted:
            restarted = "restart" in flags.FLAGS and flags.FLAGS.restart
            but = ", without --restart," if restarted else ""
            print(
                f"Interrupted by {interrupted.signal}: repeat the same command{but} to "
                "go on.",
                file=sys.stderr,
            )
            raise
        except _out_of_memory():
            sys.exit(
                "There is not enough memory; lower --batch_size, --rnn_size or "
                "--agent_units, or use a machine with more."
            )
        except OSError as error:  # all other files are seen to where they are used
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(
                f"The output cannot be written ({error.strerror}); repeat the same "
                "command, with its output elsewhere, to go on."
            )

    return program


def _out_of_memory():
    """What says so: TensorFlow's exception too, where a program has imported it."""
    tf = sys.modules.get("tensorflow")
    return (MemoryError, tf.errors.ResourceExhaustedError) if tf else MemoryError
