"""Draws where a language model looked back to, word by word.

    python scripts/plot_skips.py RUN --text "the cat that the dogs see sleeps"
    python scripts/plot_skips.py RUN --split valid --sentence 12 --sentences 100

writes skips.png and skips.svg, the sentence with an arc from each word to the past
state from which it was read, and skips.html, a page that needs nothing else: pointing
at a word shows all states that the agent could have chosen, and what the model expected
in the word's place. The page has --sentences of the split, the picture their first.
"""

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["KERAS_BACKEND"] = "tensorflow"

import plotting
import skips
import skips_page
import skips_picture
from absl import app, flags

from dsc import program
from language_modeling import data, reader, text
from language_modeling import flags as language_flags
from language_modeling.trained import Trained

FLAGS = flags.FLAGS


def sentences(trained):
    """The `skips.Sentence`s that the flags ask for, a list.

    Raises:
        reader.DataError: there is no such sentence, or the model makes no choices.
    """
    if trained.model.dsc.cell.choice == "attention":
        raise reader.DataError(
            "The model attends to all states (--model attention): it chooses none to "
            "draw an arc to; give a run of another model."
        )
    end = trained.encode(FLAGS.EOS, "error")
    if FLAGS.text is not None:
        ids = encoded(trained, FLAGS.text.split())
        found = list(skips.of_text(trained, ids, end, n_context=1))
        if not found:
            raise reader.DataError(
                "--text: it has no word that the model knows; give other text, or "
                "--unknown unk."
            )
        return found
    path = data.find(tell)[0][FLAGS.split]
    ids = encoded(trained, text.words(path, FLAGS.EOS))
    n_context = FLAGS.num_unroll_steps
    found = list(
        skips.of_text(trained, ids, end, n_context, FLAGS.sentence, FLAGS.sentences)
    )
    if not found:
        raise reader.DataError(
            f"--sentence {FLAGS.sentence}: {path} has fewer; give a lower number."
        )
    return found


def encoded(trained, words):
    """Yields ids; unknown words are said, and treated as --unknown says."""
    for word in words:
        read_as = trained.encode(word, language_flags.unknown())
        if read_as is None:
            tell(f"The model does not know {word!r}: dropped (--unknown unk keeps it).")
        else:
            yield read_as


def tell(line):
    print(line, file=sys.stderr)


def plot(path):
    """Draws sentences as the model of the run in this folder reads them."""
    pyplot = plotting.require("plot_skips.py")
    found = sentences(Trained.open(path))
    of = FLAGS.split if FLAGS.text is None else "--text"
    first = FLAGS.sentence if FLAGS.text is None else None
    figure = skips_picture.draw(pyplot, found[0])
    with plotting.writing(FLAGS.out, ".png", ".svg", ".html") as (*pictures, page):
        plotting.save(figure, *pictures)
        # A path may have bytes that no text has.
        html = skips_page.html(found, f"{Path(path).name}, {of}", first)
        page.write_text(html, encoding="utf-8", errors="replace")


def main(argv):
    if len(argv) != 2:
        sys.exit("Give the folder of one run: python scripts/plot_skips.py RUN")
    program.main(lambda: plot(argv[1]), reader.DataError)(argv[:1])


if __name__ == "__main__":
    flags.DEFINE_string("text", None, "a sentence to draw, in place of one of a split")
    flags.DEFINE_enum("split", "valid", reader.SPLITS, "text to take sentences from")
    flags.DEFINE_integer("sentence", 0, "number of the first, from 0", 0)
    flags.DEFINE_string("out", "skips", "path of the pictures, without suffix")
    app.run(main)
