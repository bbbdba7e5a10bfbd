"""Command line, error messages and exit codes of all programs."""

import contextlib
import os
import signal
import sys

from absl import flags

from dsc.cli import signals
from dsc.cli.errors import RunError, one_line

HELP = {"-h", "--h", "-help", "--help", "--helpshort", "--helpfull"}


def parse(defined, doc, takes_arguments=False, known_only=False):
    """Parses the command line and installs the signal handlers.

    Call it before the slow imports.

    Args:
        defined: `absl.flags.FlagValues` of the program, see `dsc.cli.flags.Group`.
        doc: beginning of the output of --help.
        takes_arguments: whether arguments other than flags are allowed.
        known_only: whether to treat unknown flags as such arguments.

    Returns:
        The command line without the flags, a list that begins with the program.
    """
    signals.exit_on_signals()
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


def main(defined, run):
    """Runs a program; a `RunError` ends it with one sentence on stderr.

    The exit code is 1, or 128 + the number of the signal that ended the program (that
    of SIGPIPE if the standard output cannot be written).

    Args:
        defined: `absl.flags.FlagValues` of the program, parsed.
        run: function without arguments.
    """
    output = sys.stdout = Output(sys.stdout)
    try:
        run()
        sys.stdout.flush()
        signals.ignore_signals()
    except RunError as error:
        sys.exit(str(error))
    except signals.Interrupted as interrupted:
        given = {name for name in defined if defined[name].value}
        goes_on = given & {"train_dir", "sweep_dir", "runs_dir"}
        goes_on = goes_on and not given & {"load_model", "dry_run"}
        said = f"Interrupted by {interrupted.signal}"
        if output.failure:
            if isinstance(output.failure, BrokenPipeError) and not goes_on:
                sys.exit()  # the reader has stopped, as `head` does
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
    except OSError as error:  # for a path that is checked nowhere else
        where = f"{error.filename}: " if error.filename else ""
        sys.exit(f"{where}{one_line(error)}; put that right and repeat the command.")


class Output:
    """The standard output; a failed write interrupts the program as SIGPIPE would.

    Attributes:
        failure: the `OSError` of the failed write, or None.
    """

    def __init__(self, stream):
        # The shell may have closed it.
        self._stream = stream or open(os.devnull, "w")  # noqa: SIM115
        # Paths with undecodable bytes must be printable.
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
            # Further writes are dropped.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
            signals.interrupt(signal.SIGPIPE)


def _out_of_memory():
    """The exceptions for it, TensorFlow's only if the program has imported it."""
    tf = sys.modules.get("tensorflow")
    return (MemoryError, tf.errors.ResourceExhaustedError) if tf else MemoryError
