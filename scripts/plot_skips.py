"""Plots the past state from which a language model read each word.

    python scripts/plot_skips.py RUN --text "the cat that the dogs see sleeps"
    python scripts/plot_skips.py RUN --split valid --sentence 12 --sentences 100

writes skips.png and skips.svg, a sentence with an arc from each word to the word whose
state the LSTM continued from, and skips.html, a page that needs no other file: point at
a word to see all states that the agent could have chosen and the words that the model
expected. The page has --sentences of the split, the picture the first of them.
"""

import itertools
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this clone's code

from dsc.cli import program, startup
from dsc.cli.errors import RunError
from dsc.cli.flags import Group
from language_modeling.corpora.corpus import SPLITS
from language_modeling.flags import FLAGS

if __name__ == "__main__":
    group = Group("picture", FLAGS)
    group.string("text", None, "a sentence to plot, instead of those of a split")
    group.enum("split", "valid", SPLITS, "the split to take sentences from")
    group.integer("sentence", 0, "number of the first sentence, from 0", 0)
    group.path("out", "skips", "path of the pictures, without suffix")
    ARGV = program.parse(FLAGS, __doc__, takes_arguments=True)
with startup.backend("tensorflow"):
    from language_modeling.inference.trained_model import TrainedModel

from plots import skips, skips_page, skips_picture, style

from language_modeling import data
from language_modeling.corpora import text
from language_modeling.inference import modes


def sentences(trained):
    """The `skips.Sentence`s that the flags select, a list."""
    if trained.model.dsc.cell.choice == "attention":
        raise RunError(
            "A model with --model attention attends to all states and has no arcs to "
            "draw; give a run of another model."
        )
    if FLAGS.text is not None:
        source, blocks = "--text", [os.fsencode(FLAGS.text)]
    else:
        paths, _, _ = data.load(FLAGS, trained.run, modes.log)
        source = paths[FLAGS.split]
        blocks = text.read_blocks(source)
    split = text.splitter(source, FLAGS.level)
    words = itertools.chain.from_iterable(split(blocks, source, FLAGS.EOS))
    scorer = modes.make_scorer(trained, FLAGS)
    selection = trained.n_actions, FLAGS.sentence, FLAGS.sentences
    found = list(skips.of_text(scorer.score(words), FLAGS.EOS, *selection))
    modes.log_unknown(FLAGS, scorer.n_unknown)
    if not found:
        raise RunError(
            f"{source}: there is no sentence {FLAGS.sentence} with a word that the "
            "model knows; give a lower --sentence, or other text."
        )
    return found


def main(argv):
    if len(argv) != 2:
        sys.exit("Give the folder of one run: python scripts/plot_skips.py RUN")
    pyplot = style.require("plot_skips.py")
    FLAGS.load_model = argv[1]
    found = sentences(TrainedModel.open(FLAGS))
    source = FLAGS.split if FLAGS.text is None else "--text"
    first = FLAGS.sentence if FLAGS.text is None else None
    figure = skips_picture.draw(pyplot, found[0])
    with style.writing(FLAGS.out, ".png", ".svg", ".html") as (*pictures, page):
        style.save(figure, *pictures)
        html = skips_page.html(found, f"{Path(argv[1]).name}, {source}", first)
        # A path may contain invalid Unicode.
        page.write_text(html, encoding="utf-8", errors="replace")


if __name__ == "__main__":
    program.main(FLAGS, lambda: main(ARGV))
