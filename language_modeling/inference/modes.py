"""The modes of `rl_train.py` that use a trained model.

Each takes a `TrainedModel` and the parsed flags. Results are printed to the standard
output, messages to the standard error.
"""

import itertools
import sys

from dsc.cli.errors import RunError
from language_modeling import data
from language_modeling import flags as language_flags
from language_modeling.corpora import text
from language_modeling.inference.generation import Sampler
from language_modeling.inference.scoring import Scorer, sentences
from language_modeling.metrics import LEVELS

LINE_WIDTH = 88  # columns


def score(trained, values):
    """Prints one line per word of a text, as TSV, and its score as a message."""
    scorer = make_scorer(trained, values)
    print("word", "read_as", "log_prob", "skip", sep="\t")
    for scored in scorer.score(_words(values.input or "-", values)):
        log_prob = "" if scored.log_prob is None else f"{scored.log_prob:.6f}"
        skip = "" if scored.skip is None else scored.skip
        print(scored.word, scored.read_as or "", log_prob, skip, sep="\t")
    sys.stdout.flush()
    log_unknown(values, scorer.n_unknown)
    if not scorer.n_words:
        raise RunError(
            "--input: there is nothing to score, since the model knows fewer than two "
            "of the words; give more text."
        )
    level = LEVELS[values.level]
    log(f"{level.score} = {level.of_perplexity(scorer.perplexity):.6f}")


def visualize(trained, values):
    """Prints sentences, and below each word the agent's skip."""
    path = values.input or data.load(values, trained.run, log)[0]["valid"]
    scorer = make_scorer(trained, values)
    log(
        "Below each word: how many words back the state lies that the LSTM continued "
        "from (1 is an ordinary LSTM step; -: the memory was empty)."
    )
    found = sentences(scorer.score(_words(path, values)), values.EOS)
    for sentence in itertools.islice(found, values.sentences):
        _print_columns([(row.word, str(row.skip or "-")) for row in sentence])
    log_unknown(values, scorer.n_unknown)


def generate(trained, values):
    """Prints the prompt and a text sampled from the model."""
    end = trained.encode(values.EOS)
    words, joint, shown = values.prompt.split(), " ", str
    if values.level == "char":
        words, joint, shown = text.spell(values.prompt), "", text.unspell
        if values.prompt[-1:].isspace():
            words.append(text.SPELLED[" "])
    read_as = [trained.encode(word, language_flags.unknown(values)) for word in words]
    known = [word for word in read_as if word is not None]
    log_unknown(values, sum(word not in trained.vocabulary for word in words))
    actions = language_flags.recipe(values).eval_actions
    sampler = Sampler(trained, values.num_unroll_steps, actions, values.seed)
    # A text starts after the end of a line, if the model knows it.
    prompt = known if end is None else [end, *known]
    if not prompt:
        raise RunError(
            "--prompt: the model does not know the end of a line to start after; give "
            "words that it knows."
        )
    sampled = sampler.sample(prompt, values.temperature, values.top_k)
    at_start = True
    for word in itertools.chain(known, itertools.islice(sampled, values.n_words)):
        if word == end:
            print(flush=True)
        else:
            word_text = shown(trained.vocabulary[word])
            print("" if at_start else joint, word_text, sep="", end="")
        at_start = word == end
    if not at_start:
        print()


MODES = {"score": score, "visualize": visualize, "generate": generate}


def _words(path, values):
    return text.words(path, values.EOS, values.level)


def make_scorer(trained, values):
    """The `Scorer` of the flags."""
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
        treatment = data.TREATMENT[language_flags.unknown(values)]
        unit = LEVELS[values.level].unit.capitalize()
        log(f"{unit} that the model does not know, {treatment}: {n}.")


def _print_columns(rows):
    """Prints pairs of texts, one below the other, in lines of at most LINE_WIDTH."""
    top = bottom = ""
    for upper, lower in rows:
        width = max(len(upper), len(lower)) + 1
        if top and len(top) + width > LINE_WIDTH:
            print(top.rstrip(), bottom.rstrip(), "", sep="\n")
            top = bottom = ""
        top += upper.ljust(width)
        bottom += lower.ljust(width)
    print(top.rstrip(), bottom.rstrip(), "", sep="\n", flush=True)
