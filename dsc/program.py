"""How all programs begin and end: flags, --help, and one sentence for each error."""

import contextlib
import os
import signal
import sys

from absl import flags

from dsc import interruption
from dsc.errors import RunError, one_line

HELP = {"-h", "--h", "-help", "--help", "--helpshort", "--helpfull"}


def parse(defined, doc, takes_arguments=False, known_only=False):
    """Reads the command line; answers --help and refuses what is not known.

    To be called before the imports that take seconds. From here on signals are heard.

    Args:
        defined: `absl.flags.FlagValues` of the program, filled by `dsc.flags.Group`s.
        doc: what --help says first.
        takes_arguments: whether there may be arguments that are no flags.
        known_only: whether flags that are not defined are such arguments too.

    Returns:
        The command line without the flags: a list of the program and these arguments.
    """
    interruption.exit_on_signals()
    if HELP & {*sys.argv[1:]}:
        groups = map(defined.module_help, defined.flags_by_module_dict())
        main({}, lambda: print(doc.strip(), *groups, sep="\n"))
        sys.exit()
    try:
        argv = defined(sys.argv, known_only)
    except flags.Error as error:
        sys.exit(f"{one_line(error)}; --help lists the flags.")
    if argv[1:] and not takes_arguments:
        sys.exit(f"{argv[1]!r} is not a flag; --help lists those there are.")
    return argv


def main(defined, run, *problems):
    """Runs a program to the end of its process.

    That ends with 0 if all went well, and else with one sentence on stderr and 1, or
    128 + the number of a signal (SIGPIPE for an output that cannot be written).

    Args:
        defined: `absl.flags.FlagValues` of the program, parsed.
        run: function without arguments, does the work.
        problems: classes of exceptions, beside `RunError`, whose message is all that
            the user has to be told.
    """
    output = sys.stdout = Output(sys.stdout)
    try:
        run()
        sys.stdout.flush()
        interruption.ignore_signals()
    except (RunError, *problems) as error:
        sys.exit(str(error))
    except interruption.Interrupted as interrupted:
        given = {name for name in defined if defined[name].value}
        goes_on = given & {"train_dir", "sweep_dir", "runs_dir"}
        goes_on = goes_on and not given & {"load_model", "dry_run"}
        said = f"Interrupted by {interrupted.signal}"
        if output.failure:
            if isinstance(output.failure, BrokenPipeError) and not goes_on:
                sys.exit()  # the reader has enough
            said = f"The output cannot be written ({output.failure.strerror})"
        if goes_on:
            but = ", without --restart," if "restart" in given else ""
            said += f": repeat the same command{but} to go on"
        with contextlib.suppress(OSError):  # of a terminal that was closed
            print(f"{said}.", file=sys.stderr)
        sys.exit(interrupted.code)
    except _out_of_memory():
        sys.exit(
            "There is not enough memory; lower --batch_size, --rnn_size or "
            "--agent_units, or use a machine with more."
        )
    except OSError as error:  # of a path that is seen to nowhere else
        where = f"{error.filename}: " if error.filename else ""
        sys.exit(f"{where}{one_line(error)}; put that right and repeat the command.")


class Output:
    """The standard output. A failure of it interrupts the program as SIGPIPE would.

    So it is told apart from what files raise, and comes when nothing is lost by it.

    Attributes:
        failure: the last `OSError`, or None.
    """

    def __init__(self, stream):
        # The shell may have closed it.
        self._stream = stream or open(os.devnull, "w")  # noqa: SIM115
        # A path may have bytes that no text has; they must be printable.
        self._stream.reconfigure(errors="backslashreplace")
        self.failure = None

    def __getattr__(self, name):
        return getattr(self._stream, name)

    def write(self, text):
        self._do(self._stream.write, text)

    def flush(self):
        self._do(self._stream.flush)

    def _do(self, action, *args):
        try:
            action(*args)
        except OSError as error:
            self.failure = error
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())  # for all else
            interruption.interrupt(signal.SIGPIPE)


def _out_of_memory():
    """What says so: TensorFlow's exception too, where a program has imported it."""
    tf = sys.modules.get("tensorflow")
    return (MemoryError, tf.errors.ResourceExhaustedError) if tf else MemoryError
