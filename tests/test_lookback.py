"""Whether skips land on the word that decides, by hand and at the end of a run."""

from types import SimpleNamespace

import numpy as np
import pytest
from small import succeeds

from dsc.cli.errors import RunError
from language_modeling import data
from language_modeling.agreement import grammar
from language_modeling.agreement.lookback import (
    BY_CHANCE,
    LAND,
    count,
    deciders,
    describe,
    scores,
)
from language_modeling.corpora import all_windows, whole_windows
from tests.stress import programs

K = 3
TEXT = [
    sentence.split()
    for sentence in (
        "fumila kra munasi zabila",  # words 0 to 3, and 4 is the end
        "hapoki (ba konko nunko ba) ravoki",  # 5 to 10
        "gilasi pesasi",  # 12, 13
        "gilasi luwix pesasi",  # 15 to 17
        "fumila quo gilasi luwix ravasi nawix zabila",  # 19 to 25
        "joruma kra munasi luwix tiguma",  # 27 to 31
    )
]
DECIDERS = {3: 0, 9: 6, 10: 5, 13: 12, 17: 15, 23: 21, 25: 19, 31: 27}
N_WORDS = 33
# Words 3 and 9 are predicted two steps after the word that decides, 31 three steps. 10
# and 25 are too far away, 17 and 23 need an ordinary step, and 13 none.


def cut(batch_size, n_steps, by=all_windows):
    return by(np.arange(N_WORDS, dtype=np.int32), batch_size, n_steps, "test")


def counted(windows, skips, carry_memory=False):
    """Non-zero counts `{(needed, taken): n}`; skips are `{word: length}`, else 1."""
    read = []
    for i in range(len(windows)):
        position, scored = windows.positions(i)
        lengths = np.vectorize(lambda t: skips.get(t, 1))(position)
        read.append((None, K - lengths, scored))
    counts = count(read, windows, deciders(TEXT), K, carry_memory)
    return {place: n for place, n in np.ndenumerate(counts) if n}


def test_deciders_are_positions_in_the_text():
    found = deciders(TEXT)
    assert len(found) == N_WORDS
    assert {t: d for t, d in enumerate(found) if d >= 0} == DECIDERS


def test_words_are_counted_by_needed_and_taken_skip():
    one_row = cut(1, 9)  # windows start at 9, 18 and 27
    assert counted(one_row, {}) == {(2, 1): 2, (3, 1): 1}
    # Skips of other words do not count.
    others = {t: 3 for t in range(N_WORDS) if t not in (2, 8, 30)}
    assert counted(one_row, others) == {(2, 1): 2, (3, 1): 1}
    assert counted(one_row, {2: 2, 8: 3, 30: 3}) == {(2, 2): 1, (2, 3): 1, (3, 3): 1}


def test_a_window_reaches_into_the_previous_one_only_with_carried_memory():
    one_row = cut(1, 7)  # windows start at 7 and 28
    skips = {2: 2, 8: 2, 30: 3}
    assert counted(one_row, skips) == {(2, 2): 1}
    assert counted(one_row, skips, carry_memory=True) == {(2, 2): 2, (3, 3): 1}


@pytest.mark.parametrize("carry_memory", [False, True])
def test_no_row_reaches_into_another(carry_memory):
    four_rows = cut(4, 8)  # they start at 0, 8, 16 and 24
    skips = {2: 2, 8: 2, 30: 3}
    assert counted(four_rows, skips, carry_memory) == {(2, 2): 1, (3, 3): 1}


def test_words_that_are_not_scored_are_not_counted():
    windows = cut(1, 9, whole_windows)  # the last predicted word is 27
    assert counted(windows, {2: 2, 8: 2, 30: 3}) == {(2, 2): 2}


def test_the_description_has_the_shares_by_needed_length():
    counts = np.array([[0, 0, 0, 0], [0, 0, 0, 0], [1, 2, 5, 2], [0, 3, 3, 4]])
    # 10 of 20 need each length; 8 skips are of 2 and 6 of 3: 0.5 * 0.4 + 0.5 * 0.3.
    assert describe(counts) == [
        "test skips that land on the word that decides = 0.4500 of 20 (0.3500 by "
        "chance)",
        "test skips that land, by needed length = 2: 0.50 of 10 3: 0.40 of 10",
    ]


def test_skips_to_the_word_that_decides_always_land():
    found, n_actions = deciders(grammar.generate(5000, 3, "test")), 5
    windows = all_windows(np.zeros(len(found), np.int32), 3, 23, "test")
    read = []
    for i in range(len(windows)):
        position, scored = windows.positions(i)
        lengths = np.clip(position - found[position + 1], 1, n_actions)
        read.append((None, n_actions - lengths, scored))
    counts = count(read, windows, found, n_actions, carry_memory=True)
    assert scores(counts)[LAND] == 1
    assert counts.sum() > 300
    assert 0.2 < scores(counts)[BY_CHANCE] < 0.5


# The embedded corpus


@pytest.fixture
def find(tmp_path, monkeypatch):
    """Finds the corpus of a --data_dir, in a project with a small embedded corpus."""
    write = grammar.write
    sizes = {"n_train": 9000, "n_valid": 300, "n_test": 2000}
    monkeypatch.setattr(grammar, "write", lambda folder: write(folder, **sizes))
    monkeypatch.setattr(data, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)

    def find(data_dir, level="word"):
        find.values = SimpleNamespace(data_dir=data_dir, level=level)
        return data.find(find.values)

    return find


def test_the_embedded_corpus_is_written_and_recognised_by_its_folder(find, tmp_path):
    (tmp_path / "data" / "ptb").mkdir(parents=True)  # makes no difference
    paths, facts = find("data/agreement")
    sentences = grammar.read(paths["test"])
    assert facts.floor == grammar.floor_perplexity(sentences)
    assert facts.deciders.tolist() == deciders(sentences).tolist()
    (tmp_path / "link").symlink_to("data/agreement")
    for name in "data/../data/agreement/", tmp_path / "data" / "agreement", "link":
        again, same_facts = find(name)
        assert same_facts.floor == facts.floor
        assert again["test"].samefile(paths["test"])
    assert find("link", "char")[1] is None  # the facts are about words


def test_a_copy_has_no_facts_and_an_absolute_path(find, tmp_path):
    grammar.write(tmp_path / "copy")
    assert find("copy")[1] is None
    assert find.values.data_dir == str(tmp_path / "copy")
    assert not (tmp_path / "data").exists()


def test_an_embedded_corpus_with_unknown_words_is_refused(find):
    paths, _ = find(None)
    first, *_ = paths["train"].read_text().splitlines(keepends=True)
    paths["train"].write_text(first)
    with pytest.raises(RunError, match=r"not in train\.txt\); delete the folder"):
        find("data/agreement")


def test_an_embedded_corpus_that_cannot_be_written_is_refused(find, tmp_path):
    (tmp_path / "data").write_text("in the way")
    with pytest.raises(RunError, match=r"cannot be written to .*; make the folder wri"):
        find(None)


@pytest.fixture
def last_lines(find, call, tmp_path):
    """Runs the training script on the embedded corpus; returns its last lines."""
    sizes = ("--rnn_size=4", "--rnn_layers=0", "--n_actions=3", "--num_unroll_steps=9")

    def run(*arguments):
        result = call(tmp_path, programs.LANGUAGE, *sizes, *arguments)
        return succeeds(result).out[-6:]

    return run


def test_a_run_on_the_embedded_corpus_prints_how_many_skips_land(last_lines, tmp_path):
    train = ("--model=fixed_skip", "--max_steps=2", "--train_dir=run")
    lines = last_lines(*train)
    assert lines == last_lines("--load_model=run")
    # The text is read in 20 rows and windows of 9.
    found = deciders(grammar.read(tmp_path / "data" / "agreement" / "test.txt"))
    per_row = len(found) // 20
    n_read = (per_row - 1) // 9 * 9
    needed = [
        t - decider
        for t, decider in enumerate(found[1 : 20 * per_row])
        if decider >= 0 and t % per_row < n_read and t - decider <= t % per_row % 9
    ]
    twos, threes = needed.count(2), needed.count(3)
    n = twos + threes
    assert min(twos, threes) > 10
    # All skips are of 3 words.
    share = f"{threes / n:.4f}"
    assert lines[0].startswith("lowest possible test perplexity = ")
    assert lines[3:5] == [
        f"test skips that land on the word that decides = {share} of {n} ({share} by "
        "chance)",
        f"test skips that land, by needed length = 2: 0.00 of {twos} 3: 1.00 of "
        f"{threes}",
    ]


@pytest.mark.parametrize("model", ["lstm", "attention"])
def test_models_without_skips_print_no_share(last_lines, model):
    lines = last_lines(f"--model={model}", "--max_epochs=0")
    expected = [
        "lowest possible test perplexity",
        "valid perplexity",
        "test skips chosen",
        "test perplexity",
    ]
    if model == "attention":
        expected.remove("test skips chosen")
    assert [line.split(" = ")[0] for line in lines[-len(expected) :]] == expected
