"""Whether skips land on the word that decides, by hand and at the end of a run."""

import re
from types import SimpleNamespace

import numpy as np
import pytest

from language_modeling import data
from language_modeling.agreement import grammar
from language_modeling.agreement.lookback import count, deciders, describe
from language_modeling.corpora import DataError, all_windows, whole_windows
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
# Of these, 3 and 9 are predicted two words after the word that decides, 31 three. 10
# and 25 are too far away, 17 and 23 need an ordinary step, and 13 none.


def cut(batch_size, n_steps, by=all_windows):
    return by(np.arange(N_WORDS, dtype=np.int32), batch_size, n_steps, "test")


def read(cut, skips):
    """What a model does that reads word t after the skip `skips[t]`, else after 1."""
    for i in range(len(cut)):
        place, scored = cut.places(i)
        lengths = np.vectorize(lambda t: skips.get(t, 1))(place)
        yield None, K - lengths, scored


def counted(cut, skips, carry_memory=False):
    """The counts that are not zero, as `{(needed, taken): n}`."""
    counts = count(read(cut, skips), cut, deciders(TEXT), K, carry_memory)
    return {place: n for place, n in np.ndenumerate(counts) if n}


def test_the_places_of_the_deciders_go_through_the_text():
    found = deciders(TEXT)
    assert len(found) == N_WORDS
    assert {t: d for t, d in enumerate(found) if d >= 0} == DECIDERS


def test_words_are_counted_by_the_skip_that_it_takes_and_the_one_taken():
    one_row = cut(1, 9)  # 9, 18 and 27 begin windows
    assert counted(one_row, {}) == {(2, 1): 2, (3, 1): 1}
    # The skips of words that nothing decides, or something too near or too far, are 3.
    others = {t: 3 for t in range(N_WORDS) if t not in (2, 8, 30)}
    assert counted(one_row, others) == {(2, 1): 2, (3, 1): 1}
    assert counted(one_row, {2: 2, 8: 3, 30: 3}) == {(2, 2): 1, (2, 3): 1, (3, 3): 1}


def test_a_window_reaches_into_the_one_before_only_if_memory_is_carried():
    one_row = cut(1, 7)  # 7 and 28 begin windows
    skips = {2: 2, 8: 2, 30: 3}
    assert counted(one_row, skips) == {(2, 2): 1}
    assert counted(one_row, skips, carry_memory=True) == {(2, 2): 2, (3, 3): 1}


@pytest.mark.parametrize("carry_memory", [False, True])
def test_no_row_reaches_into_another(carry_memory):
    four_rows = cut(4, 8)  # they begin with 0, 8, 16 and 24
    skips = {2: 2, 8: 2, 30: 3}
    assert counted(four_rows, skips, carry_memory) == {(2, 2): 1, (3, 3): 1}


def test_words_that_are_not_scored_are_not_counted():
    windows = cut(1, 9, whole_windows)  # the last word that is predicted is 27
    assert counted(windows, {2: 2, 8: 2, 30: 3}) == {(2, 2): 2}


def test_the_lines_say_how_many_land_and_how_many_would_by_chance():
    counts = np.array([[0, 0, 0, 0], [0, 0, 0, 0], [1, 2, 5, 2], [0, 3, 3, 4]])
    # 10 of 20 need each length; 8 skips are of 2 and 6 of 3: 0.5 * 0.4 + 0.5 * 0.3.
    assert describe(counts) == [
        "test skips that land on the word that decides = 0.4500 of 20 (0.3500 by "
        "chance)",
        "test skips that land, by the length that it takes = 2: 0.50 of 10 3: 0.40 of "
        "10",
    ]


def test_many_lengths_are_told_together():
    counts = np.zeros((21, 21), int)
    counts[np.arange(2, 21), np.arange(2, 21)] = 1
    counts[20, 6] = 10  # does not land
    *_, line = describe(counts)
    assert line.endswith(
        " = 2: 1.00 of 1 3: 1.00 of 1 4: 1.00 of 1 5: 1.00 of 1 6+: 0.60 of 25"
    )


def many():
    """Windows and deciders of a long text of the grammar."""
    found = deciders(grammar.generate(5000, 3, "test"))
    ids = np.zeros(len(found), np.int32)
    return all_windows(ids, 3, 23, "test"), found


def said(policy, n_actions=5):
    """The numbers in the first line for skips of `policy(places, deciders)`."""
    cut, found = many()
    read = []
    for i in range(len(cut)):
        place, scored = cut.places(i)
        lengths = np.clip(policy(place, found), 1, n_actions)
        read.append((None, n_actions - lengths, scored))
    lines = describe(count(read, cut, found, n_actions, carry_memory=True))
    return (
        [float(number) for number in re.findall(r"[\d.]+", lines[0])] if lines else []
    )


def test_who_always_looks_at_the_word_that_decides_always_lands():
    landed, n, chance = said(lambda place, found: place - found[place + 1])
    assert landed == 1
    assert n > 300
    assert 0.2 < chance < 0.5


@pytest.mark.parametrize("length", [2, 5])
def test_who_always_skips_as_far_lands_by_chance(length):
    landed, _, chance = said(lambda place, found: np.full_like(place, length))
    assert landed == chance > 0


def test_who_skips_at_random_lands_by_chance():
    rng = np.random.default_rng(2)
    landed, n, chance = said(lambda place, found: rng.integers(1, 6, place.shape))
    assert abs(landed - 1 / 5) < 4 * np.sqrt(0.16 / n)
    assert abs(chance - 1 / 5) < 0.02


def test_ordinary_steps_never_land_and_of_an_lstm_nothing_is_said():
    assert said(lambda place, found: np.ones_like(place))[0] == 0
    assert said(lambda place, found: np.ones_like(place), n_actions=1) == []


# The embedded corpus by its folder


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder in place of the project's, and a way to say what --data_dir is."""
    write = grammar.write
    sizes = {"n_train": 9000, "n_valid": 200, "n_test": 300}
    monkeypatch.setattr(grammar, "write", lambda folder: write(folder, **sizes))
    monkeypatch.setattr(data, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)

    def find(data_dir):
        find.values = SimpleNamespace(data_dir=data_dir)
        return data.find(find.values)

    return find


def test_the_embedded_corpus_is_made_and_known_by_the_name_of_its_folder(
    project, tmp_path
):
    (tmp_path / "data" / "ptb").mkdir(parents=True)  # does not come into it
    paths, known = project("data/agreement")
    sentences = grammar.read(paths["test"])
    assert known.floor == grammar.floor_perplexity(sentences)
    assert known.deciders.tolist() == deciders(sentences).tolist()
    (tmp_path / "link").symlink_to("data/agreement")
    for name in "data/../data/agreement/", tmp_path / "data" / "agreement", "link":
        again, known_again = project(name)
        assert known_again.floor == known.floor
        assert again["test"].samefile(paths["test"])


def test_nothing_is_known_of_a_copy_that_may_be_changed(project, tmp_path):
    grammar.write(tmp_path / "copy")
    assert project("copy")[1] is None
    assert not (tmp_path / "data").exists()


def test_words_that_would_be_dropped_from_the_embedded_corpus_are_refused(
    project, tmp_path
):
    paths, _ = project(None)
    first, *_ = paths["train"].read_text().splitlines(keepends=True)
    paths["train"].write_text(first)
    with pytest.raises(DataError, match=r"train\.txt does not have\); delete the fol"):
        project("data/agreement")


def test_a_corpus_that_cannot_be_made_is_no_folder_to_delete(project, tmp_path):
    (tmp_path / "data").write_text("in the way")
    with pytest.raises(
        DataError, match=r"cannot be written to .*; make the folder wri"
    ):
        project(None)


def test_the_folder_is_kept_as_an_absolute_path(project, tmp_path):
    grammar.write(tmp_path / "copy")
    project("copy")
    assert project.values.data_dir == str(tmp_path / "copy")


def last_lines(tmp_path, model, *arguments):
    """What the evaluation of a model on the embedded corpus prints last."""
    arguments = ("--data_dir", programs.ROOT / "data" / "agreement", *arguments)
    result = programs.run(tmp_path / model, programs.LANGUAGE, *arguments)
    assert result.code == 0, result
    return result.out[-6:]


SMALL = ("--rnn_size=4", "--rnn_layers=0", "--n_actions=3", "--num_unroll_steps=9")


def test_a_run_on_the_embedded_corpus_ends_with_where_its_skips_land(tmp_path):
    train = ("--model=fixed_skip", *SMALL, "--max_steps=2", "--train_dir=run")
    lines = last_lines(tmp_path, "fixed_skip", *train)
    assert lines == last_lines(tmp_path, "fixed_skip", "--load_model=run")
    # The text in 20 rows, of which so many words are read in windows of 9.
    found = deciders(grammar.read(programs.ROOT / "data" / "agreement" / "test.txt"))
    per_row = len(found) // 20
    n_read = (per_row - 1) // 9 * 9
    needed = [
        t - decider
        for t, decider in enumerate(found[1 : 20 * per_row])
        if decider >= 0 and t % per_row < n_read and t - decider <= t % per_row % 9
    ]
    twos, threes = needed.count(2), needed.count(3)
    n = twos + threes
    assert min(twos, threes) > 100
    # All skips are of 3 words, and so land where that many are needed.
    share = f"{threes / n:.4f}"
    assert lines[0].startswith("lowest possible test perplexity = ")
    assert lines[3:5] == [
        f"test skips that land on the word that decides = {share} of {n} ({share} by "
        "chance)",
        "test skips that land, by the length that it takes = "
        f"2: 0.00 of {twos} 3: 1.00 of {threes}",
    ]


@pytest.mark.parametrize("model", ["lstm", "attention"])
def test_of_a_model_that_does_not_skip_nothing_of_it_is_said(tmp_path, model):
    lines = last_lines(tmp_path, model, f"--model={model}", *SMALL, "--max_epochs=0")
    expected = [
        "lowest possible test perplexity",
        "valid perplexity",
        "test skips chosen",
        "test perplexity",
    ]
    if model == "attention":
        expected.remove("test skips chosen")
    assert [line.split(" = ")[0] for line in lines[-len(expected) :]] == expected
