"""The tables of the study: their runs, and their columns.

The value of a column is computed from the record of a run; see `study.results`.
"""

import math
import re
import shlex
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from sweeping.execution import Run

from number_prediction import produce_data

LANGUAGE_MODEL = "language_modeling/rl_train.py"
LANGUAGE_MODEL_JAX = "scripts/train_jax.py"
NUMBER_PREDICTION = "number_prediction/rl_train.py"
SEEDS = ("1", "2", "3")
ONE, TWO = SEEDS[:1], SEEDS[:2]


class Row(NamedTuple):
    """Runs that differ in their seed alone.

    Attributes:
        name: of the row; no other row of the table has it.
        flags: dict from flag to value, as text, beside the table's.
        seeds: as texts.
        data: name of the one file that its runs read; None if they read all.
    """

    name: str
    flags: dict
    seeds: tuple = SEEDS
    data: str | None = None


class Column(NamedTuple):
    """One column of a table.

    Attributes:
        head: quantity and unit.
        value: function of a record; returns a number, or None if there is none.
        form: format specification of the number.
        list_seeds: whether a row lists its runs, in the order of their seeds, instead
            of their mean.
    """

    head: str
    value: Callable
    form: str = ".2f"
    list_seeds: bool = False


class Data(NamedTuple):
    """A file or folder that runs read.

    Attributes:
        path: from the project's root.
        command: what makes it, from there.
        smoke: flags of the command that make little of it; None if there is no such.
    """

    path: str
    command: str
    smoke: str | None = None


class Table(NamedTuple):
    """A table of the study.

    Attributes:
        title: what it compares.
        caption: sentences that explain it.
        script: the training script, from the project's root.
        flags: dict from flag to value, as text, of all its runs.
        rows: tuple of `Row`.
        columns: tuple of `Column`; the first is drawn.
        data: tuple of `Data` that the runs read; see `data_of`.
        smoke: dict of flags with which a run takes seconds.
        plot_training: names of the rows whose training is drawn.
        how_run: a sentence about how its runs were started; None stands for
            `study.results.HOW_RUN`.
    """

    title: str
    caption: str
    script: str
    flags: dict
    rows: tuple
    columns: tuple
    data: tuple
    smoke: dict
    plot_training: tuple = ()
    how_run: str | None = None

    def runs(self, row, folder="."):
        """The runs of a row, as `sweeping.execution.Run`, with folders in `folder`."""
        place = Path(folder).absolute() / re.sub(r"[^\w.+]+", "-", row.name)
        settings = {**self.flags, **row.flags}
        return [Run(settings, seed, place / f"seed={seed}") for seed in row.seeds]

    def data_of(self, rows):
        """The `Data` that some rows read, a list."""
        names = {row.data for row in rows}
        return [d for d in self.data if names & {None, Path(d.path).name}]

    def smoke_version(self, folder):
        """A small version of this table: a short run of each of the first two rows.

        Args:
            folder: absolute path, for the data.
        """
        small = self.smoke
        data = [d for d in self.data if d.smoke]
        if data:
            small = {**small, "data_dir": str(folder)}
        return self._replace(
            caption="A trial of a few steps; the numbers mean nothing.",
            rows=tuple(
                row._replace(flags=row.flags | small, seeds=row.seeds[:1])
                for row in self.rows[:2]
            ),
            data=tuple(
                Data(
                    str(folder / Path(path).name),
                    f"{command} {smoke} --data_dir={shlex.quote(str(folder))}",
                )
                for path, command, smoke in data
            ),
        )


def score(name, factor=1):
    """The function of a record that returns a score; null is infinite."""

    def value(record):
        scores = record["result"]["scores"]
        if name not in scores:
            return None
        return math.inf if scores[name] is None else factor * scores[name]

    return value


def epochs_to(accuracy):
    """The function that returns the first epoch with this validation accuracy."""

    def value(record):
        name = "valid accuracy (greedy)"
        reached = [e["epoch"] for e in record["epochs"] if e[name] >= accuracy]
        return min(reached, default=None)

    return value


def epochs(record):
    """The number of epochs that were trained."""
    return record["result"]["epochs"]


def minutes(record):
    """Of training and evaluation; older runs that were interrupted have None."""
    seconds = record["result"]["seconds"]
    return None if seconds is None else seconds / 60


def entropy(record):
    """The policy's in the last epoch of training; None of a model without choices."""
    last = [
        r for r in record["reports"] if r["epoch"] == record["reports"][-1]["epoch"]
    ]
    if len(last[0]["actions"]) == 1:
        return None
    return statistics.fmean(report["entropy"] for report in last)


TIME = Column("minutes", minutes, ".0f")

# Number prediction

LENGTHS = {"10": "12", "20": "12", "100": "8"}  # digits before the index, epochs
MORE_NUMBERS = ("25", "50")
FEW = "--n_train=400 --n_valid=200 --n_test=300"
ACCURACIES = (
    Column("right answers, %", score("test accuracy (greedy)", 100), ".3f"),
    Column("right, sampled, %", score("test accuracy (sampled)", 100)),
    Column("epochs to 99.9%", epochs_to(0.999), "d", list_seeds=True),
    Column("epochs", epochs, "d", list_seeds=True),
    TIME,
)
NUMBERS_SMOKE = {
    "rnn_size": "7",
    "batch_size": "20",
    "max_steps": "2",
    "print_every": "1",
    "jit_compile": "false",
}


def _lengths(length, max_epochs):
    flags = {"sequence_length": length, "max_epochs": max_epochs}
    kinds = {
        "DSC-LSTM": {},
        "credit last": {"credit": "last"},
        "lamda 0.5": {"lamda": "0.5"},
        "LSTM": {"model": "lstm"},
        "random skip": {"model": "random_skip"},
        "attention": {"model": "attention"},
        "released recipe": {"recipe": "released", "released_data": "false"},
    }
    data = produce_data.file_name(int(length))
    return [
        Row(f"{length}+1, {kind}", flags | own, data=data)
        for kind, own in kinds.items()
    ]


number_prediction = Table(
    "Number prediction: which of the last ten digits was it?",
    "Right answers are counted on 100,000 test sequences, with greedy and with sampled "
    "actions. They are the same for a model without an agent; a random skip always "
    "samples. The weights are those with the best validation accuracy (greedy actions; "
    "sampled actions under the released recipe). Training stops after two epochs in a "
    'row without a validation error. "Epochs to 99.9%" counts the epochs until greedy '
    "validation accuracy reached 99.9%. With `--credit last` the reward credits only "
    "the agent's last action, the one taken when the index is read.",
    NUMBER_PREDICTION,
    {},
    (
        *(row for length in LENGTHS.items() for row in _lengths(*length)),
        Row(
            "10+1, released recipe and data",
            {"sequence_length": "10", "max_epochs": "4", "recipe": "released"},
            ONE,
            produce_data.file_name(10, released_data=True),
        ),
    ),
    ACCURACIES,
    (
        *(
            Data(
                f"data/{produce_data.file_name(int(length))}",
                f"number_prediction/produce_data.py --sequence_length={length}",
                FEW,
            )
            for length in LENGTHS
        ),
        Data(
            f"data/{produce_data.file_name(10, released_data=True)}",
            "number_prediction/produce_data.py --recipe=released",
            FEW,
        ),
    ),
    NUMBERS_SMOKE,
    ("10+1, DSC-LSTM", "10+1, LSTM", "10+1, released recipe"),
)

more_numbers = Table(
    "Number prediction with numbers below R: R of them and the index, K = R",
    number_prediction.caption,
    NUMBER_PREDICTION,
    {"max_epochs": "24"},
    tuple(
        Row(
            f"R = {n}{name}",
            {"n_numbers": n, "sequence_length": n, "n_actions": n, **flags},
            seeds,
            produce_data.file_name(int(n), n_numbers=int(n)),
        )
        for name, flags, *seeds_of_each in (
            ("", {}, SEEDS, ONE),
            (", credit last", {"credit": "last"}, SEEDS, TWO),
        )
        for n, seeds in zip(MORE_NUMBERS, seeds_of_each, strict=True)
    ),
    ACCURACIES,
    tuple(
        Data(
            f"data/{produce_data.file_name(int(n), n_numbers=int(n))}",
            f"number_prediction/produce_data.py --n_numbers={n} --sequence_length={n}",
            FEW,
        )
        for n in MORE_NUMBERS
    ),
    NUMBERS_SMOKE,
    ("R = 25", "R = 25, credit last"),
)

# The Penn Treebank

HOW_MEASURED = (
    " Perplexity is that of the weights with the best validation perplexity. The agent "
    "acts greedily (the released recipe and random skips sample). Entropy is that of "
    "the policy in the last epoch of training, or of the attention weights; a uniform "
    "choice among five states has ln 5 = 1.61."
)
PERPLEXITIES = (
    Column("test perplexity", score("test perplexity")),
    Column("validation perplexity", score("valid perplexity")),
    Column("entropy, nats", entropy),
    TIME,
)
PTB = (Data("data/ptb", "scripts/get_ptb.py"),)
WORDS_SMOKE = {
    "data_dir": "data/agreement",
    "rnn_size": "7",
    "agent_units": "5",
    "max_steps": "2",
    "print_every": "1",
}

TEN_EPOCHS = {"max_epochs": "10", "learning_rate_decay": "0.5", "decay_when": "10"}

penn_treebank_200 = Table(
    "Penn Treebank, 200 units, three epochs and ten",
    "Three epochs at the initial learning rate compare how fast the models learn, not "
    "what they can reach. In the runs of ten epochs, the learning rate is halved after "
    "each epoch that does not lower the best validation perplexity by ten."
    + HOW_MEASURED,
    LANGUAGE_MODEL,
    {"rnn_size": "200", "dropout": "0.2", "max_epochs": "3", "print_every": "100"},
    (
        Row("LSTM", {"model": "lstm"}, seeds=TWO),
        Row("DSC-LSTM", {}, seeds=TWO),
        Row("random skip", {"model": "random_skip"}, seeds=TWO),
        Row("fixed skip", {"model": "fixed_skip"}, seeds=TWO),
        Row("released recipe", {"recipe": "released"}, seeds=TWO),
        Row("lamda 0.5", {"lamda": "0.5"}, seeds=TWO),
        Row("attention", {"model": "attention"}, seeds=ONE),
        Row("K = 2", {"n_actions": "2"}, seeds=ONE),
        Row("K = 10", {"n_actions": "10"}, seeds=ONE),
        Row("observation last", {"observation": "last"}, seeds=ONE),
        Row("reward prob", {"reward": "prob"}, seeds=ONE),
        Row("no baseline", {"baseline": "none"}, seeds=ONE),
        Row("baseline mean", {"baseline": "mean"}, seeds=ONE),
        Row("carry_memory", {"carry_memory": "true"}, seeds=ONE),
        Row("LSTM, dropout 0.4", {"model": "lstm", "dropout": "0.4"}, seeds=ONE),
        Row("LSTM, dropout 0", {"model": "lstm", "dropout": "0"}, seeds=TWO),
        Row("DSC-LSTM, dropout 0", {"dropout": "0"}, seeds=TWO),
        Row("lamda 0.5, dropout 0", {"lamda": "0.5", "dropout": "0"}, seeds=TWO),
        Row("random skip, dropout 0", {"model": "random_skip", "dropout": "0"}, TWO),
        *(
            Row(f"{model}{dropout}, 10 epochs", TEN_EPOCHS | flags | more, seeds=ONE)
            for dropout, more in {", dropout 0": {"dropout": "0"}, "": {}}.items()
            for model, flags in {
                "LSTM": {"model": "lstm"},
                "DSC-LSTM": {},
                "random skip": {"model": "random_skip"},
                "fixed skip": {"model": "fixed_skip"},
            }.items()
        ),
    ),
    PERPLEXITIES,
    PTB,
    WORDS_SMOKE,
    ("LSTM", "DSC-LSTM", "no baseline", "baseline mean", "released recipe"),
)

penn_treebank_650 = Table(
    "Penn Treebank, 650 units, the first epoch of 100",
    "These runs are partial: they compare one epoch, not what the models can reach. "
    "Where test is far above validation perplexity, the recurrent state diverged; see "
    "[the findings](README.md)." + HOW_MEASURED,
    LANGUAGE_MODEL,
    {"max_epochs": "1", "print_every": "100"},
    (
        Row("LSTM", {"model": "lstm"}, seeds=TWO),
        Row("DSC-LSTM", {}, seeds=TWO),
        Row("random skip", {"model": "random_skip"}, seeds=ONE),
        Row("fixed skip", {"model": "fixed_skip"}, seeds=ONE),
        Row("released recipe", {"recipe": "released"}, seeds=ONE),
    ),
    # Validation is drawn: the test perplexity of one row would hide all others.
    (PERPLEXITIES[1], PERPLEXITIES[0], *PERPLEXITIES[2:]),
    PTB,
    WORDS_SMOKE,
    ("LSTM", "DSC-LSTM", "released recipe"),
)

penn_treebank_650_jax = penn_treebank_650._replace(
    title="Penn Treebank, 650 units, for 12 epochs and to the end, on a GPU",
    caption="Runs of 12 epochs are partial, at the initial learning rate: they compare "
    'twelve epochs, not what the models can reach. Runs "to the end" stop after '
    "training with the lowest learning rate, before 100 epochs. On this GPU, JAX "
    "multiplies matrices in TensorFloat-32. The plots omit perplexities of more than a "
    "hundred times the lowest." + HOW_MEASURED,
    script=LANGUAGE_MODEL_JAX,
    flags={"max_epochs": "12", "print_every": "100"},
    rows=(
        Row("LSTM", {"model": "lstm"}, seeds=ONE),
        Row("DSC-LSTM", {}, seeds=ONE),
        Row("lamda 0.5", {"lamda": "0.5"}, seeds=ONE),
        Row("random skip", {"model": "random_skip"}, seeds=ONE),
        *(
            Row(f"{name}, to the end", {"max_epochs": "100", **flags}, seeds=ONE)
            for name, flags in {
                "LSTM": {"model": "lstm"},
                "LSTM, dropout 0.65": {"model": "lstm", "dropout": "0.65"},
                "DSC-LSTM": {},
                "lamda 0.5": {"lamda": "0.5"},
                "random skip": {"model": "random_skip"},
                "fixed skip": {"model": "fixed_skip"},
            }.items()
        ),
    ),
    plot_training=(
        "LSTM, to the end",
        "DSC-LSTM, to the end",
        "random skip, to the end",
    ),
    how_run="Two runs at a time (`--at_once 2`) shared the GPU. Each used "
    "`XLA_PYTHON_CLIENT_PREALLOCATE=false` and its own `--train_dir`.",
)

# The agreement corpus

agreement = Table(
    "The agreement corpus, 16 epochs: does a skip land on the word that decides?",
    "The lowest possible test perplexity on this text is 25.20."
    + HOW_MEASURED
    + ' "Skips that land" counts the words that depend on a word two to K words back: '
    'it is the share for which the agent skips to the state after that word. "By '
    'chance" is the share if the same skips were independent of the words. The counted '
    "words differ with K and with `--carry_memory`. See "
    "`language_modeling/agreement/lookback.py`.",
    LANGUAGE_MODEL,
    {
        "data_dir": "data/agreement",
        "rnn_size": "128",
        "rnn_layers": "1",
        "dropout": "0.1",
        "learning_rate": "0.5",
        "max_epochs": "16",
        "print_every": "100",
    },
    (
        Row("LSTM", {"model": "lstm"}),
        Row("DSC-LSTM", {}),
        Row("lamda 0.5", {"lamda": "0.5"}),
        Row("K = 10", {"n_actions": "10"}),
        Row("observation last", {"observation": "last"}),
        Row("carry_memory", {"carry_memory": "true"}),
        *(
            Row(f"no layer below, {name}", {"rnn_layers": "0", **flags})
            for name, flags in {
                "LSTM": {"model": "lstm"},
                "DSC-LSTM": {},
                "lamda 0.5": {"lamda": "0.5"},
            }.items()
        ),
        Row("random skip", {"model": "random_skip"}),
        Row("fixed skip", {"model": "fixed_skip"}),
        Row("attention", {"model": "attention"}),
        Row("released recipe", {"recipe": "released"}),
    ),
    (
        *PERPLEXITIES[:2],
        Column("skips that land", score("skips that land")),
        Column("by chance", score("skips that land by chance")),
        *PERPLEXITIES[2:],
    ),
    (),
    WORDS_SMOKE,
    ("LSTM", "DSC-LSTM", "released recipe"),
)

agreement_long = agreement._replace(
    title="The agreement corpus, up to 40 epochs, with more and less dropout",
    flags=agreement.flags | {"max_epochs": "40"},
    rows=(
        Row("LSTM, dropout 0.3", {"model": "lstm", "dropout": "0.3"}),
        Row("DSC-LSTM, dropout 0.3", {"dropout": "0.3"}),
        Row("lamda 0.5, dropout 0.3", {"lamda": "0.5", "dropout": "0.3"}),
        Row("random skip, dropout 0.3", {"model": "random_skip", "dropout": "0.3"}),
        Row("LSTM, dropout 0.1", {"model": "lstm", "dropout": "0.1"}, seeds=ONE),
        Row("DSC-LSTM, dropout 0.1", {"dropout": "0.1"}, seeds=ONE),
    ),
    plot_training=(
        "LSTM, dropout 0.3",
        "DSC-LSTM, dropout 0.3",
        "lamda 0.5, dropout 0.3",
    ),
)

TABLES = {
    "number_prediction": number_prediction,
    "more_numbers": more_numbers,
    "agreement": agreement,
    "agreement_long": agreement_long,
    "penn_treebank_200": penn_treebank_200,
    "penn_treebank_650": penn_treebank_650,
    "penn_treebank_650_jax": penn_treebank_650_jax,
}
