"""Vocabulary and ids of a text, computed in bounded memory."""

import collections
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsc.cli.progress import Progress
from language_modeling.corpora import vocabulary as tokens
from language_modeling.corpora.vocabulary import TooLarge, choose_vocabulary

WORDS = ["<eos>", "<unk>", "a", "B", "bb", "é", "\U0001d11e", "\ufffd", "zz", "x" * 40]
texts = st.lists(st.lists(st.sampled_from(WORDS), max_size=20), max_size=12)


def all_at_once(words):
    """The reference: vocabulary and ids of a text in memory."""
    counts = collections.Counter(words)
    vocabulary = sorted(counts, key=lambda word: (-counts[word], word))
    return vocabulary, [vocabulary.index(word) for word in words]


def in_runs(parts, folder, memory, size=None, eos="<eos>", drop=False):
    """Vocabulary, ids, and the result of `renumber`."""
    path = folder / "t.ids"
    runs = tokens.number(parts, path, memory)
    vocabulary = choose_vocabulary(tokens.count(runs), eos, size)
    index = {word: i for i, word in enumerate(vocabulary)}
    stand_in = None if drop else index.get("<unk>")
    told = tokens.renumber(path, runs, index, stand_in, Progress("Testing", 1))
    return vocabulary, np.fromfile(path, "<i4").tolist(), told


@pytest.fixture(params=[10**9, 400, 1], ids=["one run", "some", "a run per part"])
def memory(request, monkeypatch):
    """Memory that makes one run or several of a text."""
    monkeypatch.setattr(tokens, "CHUNK", 5)
    return request.param


def test_ids_do_not_depend_on_how_many_runs_there_are(memory, tmp_path_factory):
    @given(texts)
    @settings(deadline=None, max_examples=50)
    def check(parts):
        folder = tmp_path_factory.mktemp("ids")
        vocabulary, ids, told = in_runs(parts, folder, memory)
        whole = list(itertools.chain.from_iterable(parts))
        assert (vocabulary, ids) == all_at_once(whole)
        assert told == (0, None)

    check()


def test_a_smaller_vocabulary_is_that_of_the_text_with_unk_for_the_rest(
    memory, tmp_path_factory
):
    @given(texts, st.integers(2, 12), st.sampled_from(["<eos>", "a", "<unk>"]))
    @settings(deadline=None, max_examples=50)
    def check(parts, size, eos):
        words = list(itertools.chain.from_iterable(parts))
        always = {eos, "<unk>"}
        others = [word for word in all_at_once(words)[0] if word not in always]
        kept = always | set(others[: size - len(always)])
        capped = [word if word in kept else "<unk>" for word in words]
        expected, _ = all_at_once(capped)
        # Kept words that do not occur come last.
        expected += sorted(always - set(expected))
        folder = tmp_path_factory.mktemp("ids")
        found, ids, told = in_runs(parts, folder, memory, size, eos)
        assert found == expected and len(found) <= size
        assert [found[i] for i in ids] == capped
        unknown = [word for word in words if word not in kept]
        assert told == (len(unknown), unknown[0] if unknown else None)

    check()


def test_unknown_words_are_dropped_or_read_as_unk(memory, tmp_path):
    parts = [["a", "b", "a"], ["c", "a"], ["<unk>", "b", "b", "b"]]
    vocabulary, ids, told = in_runs(parts, tmp_path, memory, size=3)
    assert vocabulary == ["<unk>", "b", "<eos>"]  # 5 times, 4 times, never
    assert ids == [0, 1, 0, 0, 0, 0, 1, 1, 1] and told == (4, "a")
    _, ids, told = in_runs(parts, tmp_path, memory, size=3, drop=True)
    assert ids == [1, 0, 1, 1, 1] and told == (4, "a")


def test_a_table_that_is_too_large_starts_another_run(tmp_path):
    parts = [[f"word{i}"] for i in range(60)]
    runs = tokens.number(parts, tmp_path / "t.ids", memory=1000)
    per_run = {run.n_words for run in runs[:-1]}
    assert len(per_run) == 1 and 2 < max(per_run) < 10
    assert [run.stop for run in runs[:-1]] == [run.start for run in runs[1:]]
    assert dict(tokens.count(runs)) == {f"word{i}": 1 for i in range(60)}


def test_a_vocabulary_that_is_too_large_is_refused_and_a_smaller_one_is_not():
    counted = [(f"{i:03}", 1 + (i == 70)) for i in range(100)]
    for size in None, 40:
        with pytest.raises(TooLarge):
            choose_vocabulary(counted, "<eos>", size, memory=1500)
    expected = ["<unk>", "070", "000", "<eos>"]
    assert choose_vocabulary(counted, "<eos>", 4, memory=1500) == expected
