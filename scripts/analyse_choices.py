"""Measures what the choices of a trained language model are worth.

    python scripts/analyse_choices.py RUN
    python scripts/analyse_choices.py RUN LSTM_RUN --max_windows 20

prints, and writes to choices.md, the perplexity of a split with the agent's choices and
with others, what single choices are worth, how much of that the agent's observation
explains, and the variance of the policy gradient's estimates. choices.png shows the
perplexities and how far the gradient of a word's loss reaches back (the paper's figure
4), also in the models of further runs. A model of characters has bits per character in
place of the perplexity.
"""

import copy
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this clone's code

from dsc.cli import program, startup
from dsc.cli.flags import Group
from language_modeling.corpora.corpus import SPLITS
from language_modeling.flags import FLAGS, recipe

if __name__ == "__main__":
    group = Group("analysis", FLAGS)
    group.enum("split", "valid", SPLITS, "the text to read")
    group.integer("max_windows", None, "read only so many windows, 3 or more", 3)
    group.integer("draws", 5, "sampled passes", 1)
    group.path("out", "choices", "path of the table and the picture, without suffix")
    ARGV = program.parse(FLAGS, __doc__, takes_arguments=True)
with startup.backend("tensorflow"):
    from language_modeling.inference.trained_model import TrainedModel

import numpy as np
from choices import gradients, one_step, picture, reading
from plots import style
from sweeping.table import as_markdown

from dsc import evaluation
from dsc.cli.errors import RunError
from dsc.runs import atomic_io
from language_modeling import data
from language_modeling.corpora import whole_windows
from language_modeling.metrics import LEVELS


def open_run(path):
    """`(model, windows, level)` of a run.

    The windows are a list, as in `corpora.Windows`; the level is of `metrics.LEVELS`.
    """
    values = copy.deepcopy(FLAGS)
    values.load_model = path
    trained = TrainedModel.open(values)
    _, corpus, _ = data.load(values, trained.run)
    ids, shape = corpus.ids[values.split], (values.batch_size, values.num_unroll_steps)
    windows = whole_windows(ids, *shape, values.split)
    n = len(windows) if FLAGS.max_windows is None else FLAGS.max_windows
    windows = [windows[i] for i in range(min(n, len(windows)))]
    if len(windows) < 3:
        raise RunError(
            f"--split {values.split}: the text has {len(windows)} windows, and the "
            "analysis needs 3; lower --batch_size or --num_unroll_steps."
        )
    trained_by = recipe(values)
    if trained_by.reward != "log_prob" or trained_by.reward_to_go:
        trained.model.value = None  # it predicts other rewards than those looked at
    return trained.model, windows, LEVELS[values.level]


def analyse(path, others):
    """`(tables, rows of scores, gradient norms, level)` of a run and further ones."""
    model, windows, level = open_run(path)
    if not model.dsc.cell.has_policy:
        raise RunError(
            f"{path}: the model has no agent that chooses; give a run of --model dsc "
            "first, and others after it."
        )
    opened = {other: open_run(other) for other in others}
    model.dsc.return_alternatives = True
    reader = reading.Reader(model, windows)
    rng = np.random.default_rng(FLAGS.seed)
    found = reading.perplexities(reader, FLAGS.draws, rng)
    rows = [(name, level.of_perplexity(p)) for name, p in found]
    values, variances, explained = one_step.analyse(reader)
    shape = (*reader.shape[1:], model.dsc.n_actions)
    newest = evaluation.noise("newest", shape, None)
    norms = {
        "greedy": gradients.norms(model, windows),
        "always the newest": gradients.norms(model, windows, newest),
    }
    for other, (model, windows, _) in opened.items():
        norms[other] = gradients.norms(model, windows, seed=FLAGS.seed)
    greedy, unit = rows[0][1], level.unit.removesuffix("s")
    tables = [
        table(
            ("choices", level.score, "over greedy, %"),
            [(name, f"{s:.2f}", f"{100 * (s / greedy - 1):+.2f}") for name, s in rows],
        ),
        table(("one step, others as they are", f"nats a {unit}"), values, "+.4f"),
        table(("squared policy gradient", "over the exact one"), variances, ".1f"),
        table(("advantage explained by (linear, held out)", "R^2"), explained, ".3f"),
        table(
            ("gradient norm by distance", *map(str, DISTANCES)),
            [
                (name, *(f"{each[d]:.2g}" for d in DISTANCES if d < len(each)))
                for name, each in norms.items()
            ],
        ),
    ]
    return "\n".join(tables), rows, norms, level


DISTANCES = (0, 1, 2, 5, 10, 20, 30)


def table(head, rows, form=None):
    """A table in Markdown; rows are tuples of texts, or a dict of numbers."""
    if form is not None:
        rows = [(name, format(value, form)) for name, value in rows.items()]
    return as_markdown([head, *rows])


def main(argv):
    if len(argv) < 2:
        sys.exit("Give the folder of a run: python scripts/analyse_choices.py RUN")
    pyplot = style.require("analyse_choices.py")
    style.check(FLAGS.out)
    text, *drawn = analyse(argv[1], argv[2:])
    print(text)
    figure = picture.draw(pyplot, *drawn)
    with style.writing(FLAGS.out, ".md", ".png") as (page, drawing):
        atomic_io.write(page, text.encode(errors="replace"))
        style.save(figure, drawing)


if __name__ == "__main__":
    program.main(FLAGS, lambda: main(ARGV))
