"""Splitting texts into words, for any block boundaries."""

import io
import itertools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsc.cli.errors import RunError
from language_modeling.corpora import text
from language_modeling.corpora.text import (
    lacks_blanks,
    spell,
    split_characters,
    split_words,
    unspell,
    words,
)

PIECES = [
    *("a", "bé", "日本", "\U0001d11e", "e\u0301", "<eos>", "x" * 9),
    *(" ", "\t", "\n", "\r\n", "\r", "\v", "\x1c", "\x85", "\xa0", "\u2028", "\u3000"),
]
BAD = [b"\0", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xef\xbb"]


def words_of_the_whole(content, eos):
    """The reference: splits a text that is in memory as a whole."""
    whole = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig").read()
    if "\0" in whole:
        line = whole.count("\n", 0, whole.index("\0")) + 1
        raise ValueError(f"NUL byte in line {line},")
    found = whole.replace("\n", f" {eos} ").split()
    if not found:
        raise ValueError("has no words in it;")
    return found


def cut(content, borders):
    """Non-empty blocks of the content."""
    borders = sorted({0, len(content), *(b % (len(content) + 1) for b in borders)})
    return [content[a:b] for a, b in itertools.pairwise(borders)]


texts = st.lists(st.sampled_from(PIECES), max_size=40).map("".join).map(str.encode)
broken = st.lists(
    st.one_of(st.sampled_from(PIECES).map(str.encode), st.sampled_from(BAD)), max_size=9
).map(b"".join)


@given(
    content=st.one_of(texts, texts.map(b"\xef\xbb\xbf".__add__), broken),
    borders=st.lists(st.integers(0, 200), max_size=30),
    eos=st.sampled_from(["<eos>", "é"]),
)
@settings(deadline=None, max_examples=300)
def test_block_boundaries_change_neither_words_nor_errors(content, borders, eos):
    blocks = cut(content, borders)
    try:
        expected = words_of_the_whole(content, eos)
    except UnicodeDecodeError as error:
        # Positions in the decoded text do not count the byte order mark.
        position = error.start + 3 * content.startswith(b"\xef\xbb\xbf")
        sentence = rf"is not UTF-8 text \(byte {position}\)"
        if b"\0" in content[:position]:  # maybe in an earlier block
            sentence += "|has a NUL byte"
        with pytest.raises(RunError, match=rf"^t\.txt ({sentence})"):
            list(split_words(blocks, "t.txt", eos))
    except ValueError as error:
        with pytest.raises(RunError, match=rf"^t\.txt .*{error}"):
            list(split_words(blocks, "t.txt", eos))
    else:
        found = split_words(blocks, "t.txt", eos)
        assert list(itertools.chain.from_iterable(found)) == expected


@given(
    content=st.lists(st.sampled_from([*PIECES, "_", "__", "a_b"]), min_size=1),
    borders=st.lists(st.integers(0, 200), max_size=30),
)
@settings(deadline=None)
def test_characters_are_those_of_the_spelled_out_text_and_give_back_the_text(
    content, borders
):
    lines = re.split("\r\n|\r|\n", "".join(content))
    spelled = "\n".join(" ".join(spell(line)) for line in lines)
    if not spelled:
        return
    blocks = cut("".join(content).encode(), borders)
    found = [*itertools.chain.from_iterable(split_characters(blocks, "t", "<eos>"))]
    as_words = split_words([spelled.encode()], "t", "<eos>")
    assert found == [*itertools.chain.from_iterable(as_words)]
    assert not {"", " ", "\0"} & {*found}
    back = "".join("\n" if token == "<eos>" else unspell(token) for token in found)
    assert back == "\n".join(" ".join(line.split()) for line in lines)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("我们今天去学校看书。但是你们不去。\n" * 9, True),
        ("この文には空白がまったくありません。\n" * 9, True),
        ("我们 今天 去 学校 看书 。 但是 你们 不 去 。\n" * 9, False),
        ("나는 오늘 학교에서책을읽고집에돌아왔습니다\n" * 9, False),
        ("Rindfleischetikettierungsüberwachungsaufgabe ja\n" * 9, False),
        ("the word 我们今天去学校看书但是你们不去 is Chinese\n" * 9, False),
        ("https://example.org/a/very/long/address\n" * 9, False),
        ("", False),
    ],
)
def test_text_without_blanks_is_recognised_by_its_script(tmp_path, text, expected):
    (tmp_path / "t.txt").write_text(text, encoding="utf-8")
    assert lacks_blanks(tmp_path / "t.txt") == expected


def test_every_character_is_a_blank_exactly_if_str_split_says_so():
    characters = [chr(i) for i in range(1, 0x110000) if not 0xD800 <= i < 0xE000]
    content = "".join(f"a{character}b " for character in characters)
    blocks = cut(content.encode(), range(0, 10**7, 999))
    found = itertools.chain.from_iterable(split_words(blocks, "t.txt", "<eos>"))
    assert list(found) == words_of_the_whole(content.encode(), "<eos>")


def test_a_word_that_is_too_long_is_refused_with_its_line(monkeypatch):
    monkeypatch.setattr(text, "LONGEST", 20)
    blocks = [b"a\nb", b"c" * 15, b"d" * 5, b"e\nf"]
    with pytest.raises(RunError, match=r"t\.txt has a word .* 20 .* in line 2; sep"):
        list(split_words(blocks, "t.txt", "<eos>"))
    words = list(split_words([b"a\nb", b"c" * 19, b" f"], "t.txt", "<eos>"))
    assert words[-1] == ["f"]


@pytest.mark.parametrize("block", [1, 2, 7, 1000])
def test_a_file_is_read_in_blocks(tmp_path, monkeypatch, block):
    monkeypatch.setattr(text, "BLOCK", block)
    (tmp_path / "t.txt").write_text("to bé\r\nor", encoding="utf-8", newline="")
    assert list(words(tmp_path / "t.txt", "<eos>")) == ["to", "bé", "<eos>", "or"]
