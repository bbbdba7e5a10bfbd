"""What can be done with a trained model beside evaluating it: the modes of a script.

Each takes a `TrainedModel` and the parsed flags. Text goes to the standard output,
messages about it to the standard error.
"""

import itertools
import sys

from language_modeling import data
from language_modeling import flags as language_flags
from language_modeling.corpora import DataError, text
from language_modeling.inference.generation import Sampler
from language_modeling.inference.scoring import Scorer, sentences

LINE_WIDTH = 88  # columns


def score(trained, values):
    """Prints a line for each word of a text, as TSV, and at last the perplexity."""
    scorer = make_scorer(trained, values)
    print("word", "read_as", "log_prob", "skip", sep="\t")
    for scored in scorer.score(text.words(values.input or "-", values.EOS)):
        log_prob = "" if scored.log_prob is None else f"{scored.log_prob:.6f}"
        skip = "" if scored.skip is None else scored.skip
        print(scored.word, scored.read_as or "", log_prob, skip, sep="\t")
    sys.stdout.flush()
    log_unknown(values, scorer.n_unknown)
    if not scorer.n_words:
        raise DataError(
            "--input: there is no word after the first that the model knows, so "
            "nothing to score; give more text."
        )
    log(f"perplexity = {scorer.perplexity:.6f}")


def visualize(trained, values):
    """Prints sentences, and below each word the skip that the agent chose for it."""
    path = values.input or data.split_of_run(values, trained.run, "valid", log)
    scorer = make_scorer(trained, values)
    log(
        "Below each word: how many words back lies the state from which it was read (1 "
        "is an ordinary LSTM step, - a place where nothing was remembered yet)."
    )
    found = sentences(scorer.score(text.words(path, values.EOS)), values.EOS)
    for sentence in itertools.islice(found, values.sentences):
        _print_columns([(row.word, str(row.skip or "-")) for row in sentence])
    log_unknown(values, scorer.n_unknown)


def generate(trained, values):
    """Prints a text that the model writes after the prompt."""
    end = trained.encode(values.EOS)
    words = values.prompt.split()
    read_as = [trained.encode(word, language_flags.unknown(values)) for word in words]
    known = [word for word in read_as if word is not None]
    log_unknown(values, sum(word not in trained.vocabulary for word in words))
    actions = language_flags.recipe(values).eval_actions
    sampler = Sampler(trained, values.num_unroll_steps, actions, values.seed)
    # A text begins where another has ended, if the model knows ends.
    prompt = known if end is None else [end, *known]
    if not prompt:
        raise DataError(
            "--prompt: the model does not know the end of a line, after which a text "
            "could begin; give words that it knows."
        )
    sampled = sampler.sample(prompt, values.temperature, values.top_k)
    beginning = True
    for word in itertools.chain(known, itertools.islice(sampled, values.n_words)):
        if word == end:
            print(flush=True)
        else:
            print("" if beginning else " ", trained.vocabulary[word], sep="", end="")
        beginning = word == end
    if not beginning:
        print()


MODES = {"score": score, "visualize": visualize, "generate": generate}


def make_scorer(trained, values):
    """A `Scorer` that reads a text as the flags say."""
    return Scorer(
        trained,
        values.num_unroll_steps,
        language_flags.unknown(values),
        language_flags.recipe(values).eval_actions,
        values.seed,
    )


def log(line):
    print(line, file=sys.stderr)


def log_unknown(values, n):
    if n:
        done = {"drop": "dropped", "unk": "read as <unk>"}[
            language_flags.unknown(values)
        ]
        log(f"Words that the model does not know, {done}: {n}.")


def _print_columns(rows):
    """Prints pairs of texts below one another, in lines of at most LINE_WIDTH."""
    top = bottom = ""
    for upper, lower in rows:
        width = max(len(upper), len(lower)) + 1
        if top and len(top) + width > LINE_WIDTH:
            print(top.rstrip(), bottom.rstrip(), "", sep="\n")
            top = bottom = ""
        top += upper.ljust(width)
        bottom += lower.ljust(width)
    print(top.rstrip(), bottom.rstrip(), "", sep="\n", flush=True)
