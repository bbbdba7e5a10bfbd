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

from dsc.recipes import ESTIMATORS, OBSERVATIONS
from dsc.runs.folder import MANY, TRAINED_WITH
from language_modeling.agreement.lookback import BY_CHANCE, LAND
from number_prediction import produce_data

LANGUAGE_MODEL = "language_modeling/rl_train.py"
LANGUAGE_MODEL_JAX = "scripts/train_jax.py"
NUMBER_PREDICTION = "number_prediction/rl_train.py"
SEEDS = ("1", "2", "3")
ONE, TWO = SEEDS[:1], SEEDS[:2]


class Row(NamedTuple):
    """Runs that differ only in their seed."""

    name: str
    flags: dict  # from flag to value, as text, in addition to the table's
    seeds: tuple = SEEDS


class Column(NamedTuple):
    """A column of a table."""

    head: str  # quantity and unit
    value: Callable  # of a record; returns a number, or None if there is none
    form: str = ".2f"  # format of the number
    list_seeds: bool = False  # list the values of all seeds, not their mean


class Data(NamedTuple):
    """A file or folder that runs read."""

    path: str  # from the project's root
    command: str  # makes it
    smoke: str | None = None  # flags with which the command makes little data


class Table(NamedTuple):
    """A table of the study."""

    title: str
    caption: str
    script: str  # the training script, from the project's root
    flags: dict  # from flag to value, as text, of all its runs
    rows: tuple
    columns: tuple  # the first is plotted
    data: Callable  # of the flags of a run; returns its `Data`, or None
    smoke: dict  # flags with which a run takes seconds
    plot_training: tuple = ()  # names of rows
    how_run: str | None = None  # how its runs were started, if not as `HOW_RUN` says

    def runs(self, row, folder="."):
        """The runs of a row, as `sweeping.execution.Run`, with folders in `folder`."""
        place = Path(folder).absolute() / re.sub(r"[^\w.+]+", "-", row.name)
        settings = {**self.flags, **row.flags}
        return [Run(settings, seed, place / f"seed={seed}") for seed in row.seeds]

    def data_of(self, rows):
        """The `Data` that some rows read, each once."""
        found = dict.fromkeys(self.data({**self.flags, **row.flags}) for row in rows)
        return [data for data in found if data]

    def smoke_version(self, folder):
        """This table with a short run of the first two rows each, data in `folder`."""

        def small_data(flags):
            path, command, smoke = self.data(flags)
            place = f"--data_dir={shlex.quote(str(folder))}"
            return Data(str(folder / Path(path).name), f"{command} {smoke} {place}")

        small, data = self.smoke, lambda flags: None
        if any(data.smoke for data in self.data_of(self.rows)):
            small, data = {**small, "data_dir": str(folder)}, small_data
        rows = [
            row._replace(flags=row.flags | small, seeds=row.seeds[:1])
            for row in self.rows[:2]
        ]
        caption = "A trial of a few steps; the numbers mean nothing."
        return self._replace(caption=caption, rows=tuple(rows), data=data)


def score(name, factor=1):
    """A function of a record that returns a score; null stands for infinity."""

    def value(record):
        scores = record["result"]["scores"]
        if name not in scores:
            return None
        return math.inf if scores[name] is None else factor * scores[name]

    return value


def epochs_to(accuracy):
    """A function of a record that returns the first epoch with this accuracy."""

    def value(record):
        name = "valid accuracy (greedy)"
        reached = [e["epoch"] for e in record["epochs"] if e[name] >= accuracy]
        return min(reached, default=None)

    return value


def epochs(record):
    """The number of training epochs."""
    return record["result"]["epochs"]


def minutes(record):
    """The time of training and evaluation.

    None for older runs that were resumed, and for runs that shared a program.
    """
    seconds = record["result"]["seconds"]
    return None if seconds is None or shares_program(record) else seconds / 60


def shares_program(record):
    """Whether a run was one of many models in one program."""
    return record["config"]["about"].get(TRAINED_WITH, "").endswith(MANY)


def entropy(record):
    """Mean entropy of the policy in the last epoch; None for one action."""
    reports = record["reports"]
    if len(reports[0]["actions"]) == 1:
        return None
    epoch = reports[-1]["epoch"]
    return statistics.fmean(r["entropy"] for r in reports if r["epoch"] == epoch)


def times_chance(record):
    """How much more often skips land than by chance; None without skips."""
    scores = record["result"]["scores"]
    return scores[LAND] / scores[BY_CHANCE] if scores.get(BY_CHANCE) else None


SMOKE = {"rnn_size": "7", "max_steps": "2", "print_every": "1"}
# Flags of a row, by its name.
KINDS = {
    "LSTM": {"model": "lstm"},
    "DSC-LSTM": {},
    "random skip": {"model": "random_skip"},
    "fixed skip": {"model": "fixed_skip"},
    "attention": {"model": "attention"},
    "released recipe": {"recipe": "released"},
    "lamda 0.5": {"lamda": "0.5"},
    "credit last": {"credit": "last"},
    "K = 2": {"n_actions": "2"},
    "K = 10": {"n_actions": "10"},
    "observation last": {"observation": "last"},
    "reward prob": {"reward": "prob"},
    "no baseline": {"baseline": "none"},
    "baseline mean": {"baseline": "mean"},
    "carry_memory": {"carry_memory": "true"},
}
AGENTS = {
    f"{estimator}, {observation}": {
        "estimator": estimator,
        "observation": observation,
        # The language model's loss sums over 35 words, the policy loss averages.
        **({"rl_weight": "35"} if estimator == "exact" else {}),
    }
    for estimator in ESTIMATORS
    for observation in OBSERVATIONS
}
KINDS |= AGENTS
ROWS_OF_AGENTS = (
    " The rows of an agent name its `--estimator` (`reinforce` samples an action, "
    "`exact` differentiates the expected reward) and its `--observation` (the mean of "
    "the remembered states, the last one, or each with its age)."
)


def kinds(names, seeds=SEEDS, name="{}", **flags):
    """A row for each of these `KINDS`, with further flags; `name` is a format."""
    return [Row(name.format(kind), {**KINDS[kind], **flags}, seeds) for kind in names]


TIME = Column("minutes", minutes, ".0f")

# Number prediction

LENGTHS = {"10": "12", "20": "12", "100": "8"}  # digits before the index, epochs
ACCURACIES = (
    Column("right answers, %", score("test accuracy (greedy)", 100), ".3f"),
    Column("right, sampled, %", score("test accuracy (sampled)", 100)),
    Column("epochs to 99.9%", epochs_to(0.999), "d", list_seeds=True),
    Column("epochs", epochs, "d", list_seeds=True),
    TIME,
)
NUMBERS_SMOKE = SMOKE | {"batch_size": "20", "jit_compile": "false"}


def _digits(flags):
    """The `Data` that number prediction reads."""
    length, n_numbers = flags["sequence_length"], flags.get("n_numbers")
    hops = flags.get("hops", "1")
    released = flags.get("recipe") == "released" and "released_data" not in flags
    name = produce_data.file_name(
        int(length), released, int(n_numbers or 10), int(hops)
    )
    command = "number_prediction/produce_data.py"
    if released:
        command += " --recipe=released"
    elif n_numbers:
        command += f" --n_numbers={n_numbers}"
    if not released:
        command += f" --sequence_length={length}"
    if hops != "1":
        command += f" --hops={hops}"
    return Data(f"data/{name}", command, "--n_train=400 --n_valid=200 --n_test=300")


def _lengths(length, max_epochs):
    flags = {"sequence_length": length, "max_epochs": max_epochs}
    names = ("DSC-LSTM", "credit last", "lamda 0.5", "LSTM", "random skip", "attention")
    rows = kinds(names, name=f"{length}+1, {{}}", **flags)
    if length == "100":
        _, *agents = AGENTS  # the first is "credit last"
        name = f"{length}+1, credit last, {{}}"
        # The loss of number prediction is a mean, so the policy's is not weighted.
        rows += kinds(agents, name=name, credit="last", rl_weight="1", **flags)
    flags["released_data"] = "false"
    return rows + kinds(["released recipe"], name=f"{length}+1, {{}}", **flags)


RIGHT_ANSWERS = (
    "Right answers are counted on 100,000 test sequences, with greedy and with sampled "
    "actions. They are the same for a model without an agent; a random skip always "
    "samples. The weights are those with the best validation accuracy (greedy actions; "
    "sampled actions under the released recipe). Training stops after two epochs in a "
    'row without a validation error. "Epochs to 99.9%" counts the epochs until greedy '
    "validation accuracy reached 99.9%. With `--credit last` the reward credits only "
    "the agent's last action, the one taken when the index is read."
)

number_prediction = Table(
    "Number prediction: which of the last ten digits was it?",
    f'{RIGHT_ANSWERS}{ROWS_OF_AGENTS} "100+1, credit last" is `reinforce, mean`.',
    NUMBER_PREDICTION,
    {},
    (
        *(row for length in LENGTHS.items() for row in _lengths(*length)),
        Row(
            "10+1, released recipe and data",
            {"sequence_length": "10", "max_epochs": "4", "recipe": "released"},
            ONE,
        ),
    ),
    ACCURACIES,
    _digits,
    NUMBERS_SMOKE,
    ("10+1, DSC-LSTM", "10+1, LSTM", "10+1, released recipe"),
)

R_25 = dict.fromkeys(("n_numbers", "sequence_length", "n_actions"), "25")
R_50 = dict.fromkeys(R_25, "50")

more_numbers = Table(
    "Number prediction with numbers below R: R of them and the index, K = R",
    RIGHT_ANSWERS,
    NUMBER_PREDICTION,
    {"max_epochs": "24"},
    (
        Row("R = 25", R_25),
        Row("R = 50", R_50, ONE),
        Row("R = 25, credit last", R_25 | KINDS["credit last"]),
        Row("R = 50, credit last", R_50 | KINDS["credit last"], TWO),
    ),
    ACCURACIES,
    _digits,
    NUMBERS_SMOKE,
    ("R = 25", "R = 25, credit last"),
)

two_hops = Table(
    "Number prediction with two hops",
    "Of twenty digits and an index, the index selects one of the last ten digits, and "
    "that digit selects the answer from the ten digits before it. Each epoch draws new "
    "training sequences (`--fresh_data`). After 24 epochs the LSTM still improves; "
    '"to the end" is until ten epochs in a row brought no better validation accuracy. '
    "`--estimator exact` needs `--credit last`, which rewards only the last choice. "
    "See [number_prediction](number_prediction.md) for the columns.",
    NUMBER_PREDICTION,
    {"sequence_length": "20", "hops": "2", "fresh_data": "true", "max_epochs": "24"},
    (
        *kinds(("DSC-LSTM", "LSTM", "attention")),
        *kinds(["LSTM"], name="{}, to the end", max_epochs="400"),
        *kinds(["credit last"]),
        *kinds(["credit last"], name="exact, {}", estimator="exact"),
    ),
    ACCURACIES,
    _digits,
    NUMBERS_SMOKE,
    ("DSC-LSTM", "LSTM"),
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


def _ptb(flags):
    return Data("data/ptb", "scripts/get_ptb.py")


WORDS_SMOKE = SMOKE | {"data_dir": "data/agreement", "agent_units": "5"}

FOUR = ("LSTM", "DSC-LSTM", "random skip", "fixed skip")
MIXED = ("LSTM", "DSC-LSTM", "lamda 0.5", "random skip")
TEN_EPOCHS = {"max_epochs": "10", "learning_rate_decay": "0.5", "decay_when": "10"}

penn_treebank_200 = Table(
    "Penn Treebank, 200 units, three epochs and ten",
    "Three epochs at the initial learning rate compare how fast the models learn, not "
    "what they can reach. In the runs of ten epochs, the learning rate is halved after "
    "each epoch that does not lower the best validation perplexity by ten."
    + ROWS_OF_AGENTS
    + " The DSC-LSTM is `reinforce, mean`. `exact` is weighted as the loss is, by "
    '`--rl_weight 35`; the others by the default, 0.3. "Entropy decay" is an entropy '
    "bonus of 7 that falls to a tenth in each epoch." + HOW_MEASURED,
    LANGUAGE_MODEL,
    {"rnn_size": "200", "dropout": "0.2", "max_epochs": "3", "print_every": "100"},
    (
        *kinds(FOUR, TWO),
        *kinds(("released recipe", "lamda 0.5"), TWO),
        *kinds(("attention", "K = 2", "K = 10", "observation last"), ONE),
        *kinds(
            kind
            for kind in AGENTS
            if kind not in ("reinforce, mean", "reinforce, last")
        ),
        *kinds(
            ["exact, states"],
            ONE,
            "{}, entropy decay",
            entropy_weight="7",
            entropy_decay="0.1",
        ),
        *kinds(("reward prob", "no baseline", "baseline mean", "carry_memory"), ONE),
        *kinds(["LSTM"], ONE, "{}, dropout 0.4", dropout="0.4"),
        *kinds(MIXED, TWO, "{}, dropout 0", dropout="0"),
        *kinds(FOUR, ONE, "{}, dropout 0, 10 epochs", dropout="0", **TEN_EPOCHS),
        *kinds(FOUR, ONE, "{}, 10 epochs", **TEN_EPOCHS),
    ),
    PERPLEXITIES,
    _ptb,
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
        *kinds(("LSTM", "DSC-LSTM"), TWO),
        *kinds(("random skip", "fixed skip", "released recipe"), ONE),
    ),
    # Validation is drawn: the test perplexity of one row would hide all others.
    (PERPLEXITIES[1], PERPLEXITIES[0], *PERPLEXITIES[2:]),
    _ptb,
    WORDS_SMOKE,
    ("LSTM", "DSC-LSTM", "released recipe"),
)


def _to_the_end(names, what="", seeds=SEEDS, **flags):
    return kinds(names, seeds, f"{{}}, {what}to the end", max_epochs="100", **flags)


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
        *kinds(MIXED, ONE),
        *_to_the_end(FOUR),
        *_to_the_end(["lamda 0.5"], seeds=ONE),
        *_to_the_end(["LSTM"], "dropout 0.65, ", ONE, dropout="0.65"),
        *_to_the_end(FOUR, "paper's model, ", recipe="paper"),
        *_to_the_end(["LSTM"], "recurrent dropout, ", recurrent_dropout="0.25"),
        *_to_the_end(["LSTM"], "variational dropout, ", variational="true"),
        *_to_the_end(["LSTM"], "zoneout, ", zoneout="0.1"),
        *_to_the_end(FOUR[1:], "carry_memory, ", carry_memory="true"),
        *_to_the_end(
            ["random skip"], "shares of the agent, ", shares="0.05,0.11,0.11,0.23,0.5"
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
        *kinds(("LSTM", "DSC-LSTM", "lamda 0.5", "K = 10", "observation last")),
        *kinds(["carry_memory"]),
        *kinds(
            ("LSTM", "DSC-LSTM", "lamda 0.5"),
            name="no layer below, {}",
            rnn_layers="0",
        ),
        *kinds(("random skip", "fixed skip", "attention", "released recipe")),
    ),
    (
        *PERPLEXITIES[:2],
        Column("skips that land", score(LAND)),
        Column("by chance", score(BY_CHANCE)),
        *PERPLEXITIES[2:],
    ),
    lambda flags: None,  # the embedded corpus
    WORDS_SMOKE,
    ("LSTM", "DSC-LSTM", "released recipe"),
)

agreement_long = agreement._replace(
    title="The agreement corpus, up to 40 epochs, with more and less dropout",
    flags=agreement.flags | {"max_epochs": "40"},
    rows=(
        *kinds(MIXED, name="{}, dropout 0.3", dropout="0.3"),
        *kinds(("LSTM", "DSC-LSTM"), ONE, "{}, dropout 0.1", dropout="0.1"),
    ),
    plot_training=(
        "LSTM, dropout 0.3",
        "DSC-LSTM, dropout 0.3",
        "lamda 0.5, dropout 0.3",
    ),
)


MIXED_AGENTS = [kind for kind in AGENTS if "last" not in kind]


def _agents(name, **flags):
    mixed = name.format("lamda 0.5, {}")
    return (
        *kinds(("LSTM", "random skip", *AGENTS), name=name, **flags),
        *kinds(("random skip", *MIXED_AGENTS), name=mixed, lamda="0.5", **flags),
    )


agreement_agents = agreement._replace(
    title="The agreement corpus: the agent's gradient, and what the agent sees",
    caption=ROWS_OF_AGENTS.strip() + " `exact` is "
    "weighted as the loss is, by `--rl_weight 35`; `reinforce` by the default, 0.3. "
    "The shares of the agent are those of the actions that `reinforce, states`, with "
    "the same lamda and without a layer below, samples late in its training. "
    + agreement.caption,
    flags=agreement.flags | {"dropout": "0.3", "max_epochs": "24"},
    rows=(
        *_agents("no layer below, {}", rnn_layers="0"),
        *kinds(
            ["random skip"],
            name="no layer below, {}, shares of the agent",
            rnn_layers="0",
            shares="0.005,0.005,0.01,0.06,0.92",
            eval_actions="newest",
        ),
        *kinds(
            ["random skip"],
            name="no layer below, lamda 0.5, {}, shares of the agent",
            rnn_layers="0",
            lamda="0.5",
            shares="0.03,0.03,0.05,0.24,0.65",
            eval_actions="newest",
        ),
        *_agents("{}"),
    ),
    columns=(
        *agreement.columns[:4],
        Column("times chance", times_chance, list_seeds=True),
        *agreement.columns[4:],
    ),
    plot_training=(
        "no layer below, LSTM",
        "no layer below, reinforce, states",
        "no layer below, exact, states",
    ),
)

TABLES = {
    "number_prediction": number_prediction,
    "more_numbers": more_numbers,
    "two_hops": two_hops,
    "agreement": agreement,
    "agreement_long": agreement_long,
    "agreement_agents": agreement_agents,
    "penn_treebank_200": penn_treebank_200,
    "penn_treebank_650": penn_treebank_650,
    "penn_treebank_650_jax": penn_treebank_650_jax,
}
