"""Pictures and pages of sentences show what the model did."""

import itertools
import json
import math
import re
import shutil
import subprocess

import numpy as np
import plot_skips
import pytest
import small
from plots import skips, skips_page, skips_picture, style
from test_trained_model import WORDS, K, make

from dsc.cli.errors import RunError
from language_modeling.inference.scoring import Scored, Scorer
from language_modeling.inference.trained_model import TrainedModel
from language_modeling.model import LanguageModel
from tests.stress.programs import LANGUAGE, PLOT_SKIPS


@pytest.fixture(scope="module")
def trained():
    return make()


# Sentences


def test_a_sentence_is_read_in_the_course_of_its_text_after_the_words_before(trained):
    text = ["w1", "w2", "<eos>", "w3", "<eos>", "<eos>"]
    text += ["w4", "w5", "xyzzy", "w4", "<eos>", "w0"]
    rows = list(Scorer(trained, 4).score(text))
    read = [row for row in rows if row.read_as]

    def found(*place):
        scored = Scorer(trained, 4).score(text)
        return list(skips.of_text(scored, "<eos>", 3, *place))

    assert [word for sentence in found() for word in sentence.words] == read
    assert [(s.context, len(s.words)) for s in found()] == [
        ((), 3),
        (("w1", "w2", "<eos>"), 2),
        (("<eos>", "w3", "<eos>"), 1),
        (("w3", "<eos>", "<eos>"), 4),
        (("w5", "w4", "<eos>"), 1),
    ]
    assert found(1, 2) == found()[1:3]
    assert found(5, 1) == []


def test_of_a_text_no_more_is_read_than_is_shown(trained):
    def words():
        yield from ["w1", "<eos>"] * 2
        yield "w2"  # the last that the first window predicts
        raise AssertionError("read on")

    scored = Scorer(trained, 4).score(words())
    assert len(list(skips.of_text(scored, "<eos>", K, 0, 2))) == 2


# The picture


def sentence_of(words, skip_lengths, context=("<eos>",), probability=0.7):
    """A sentence of which each other state is as likely as the next."""
    rows = []
    for n, (word, skip) in enumerate(zip(words, skip_lengths, strict=True), 1):
        reach = min(K, len(context) + n - 1)
        lengths = [*range(1, reach + 1), *[0] * (reach < K)]
        others = (1 - probability) / max(len(lengths) - 1, 1)
        policy = {k: probability if k == skip else others for k in lengths}
        guesses = (("the", 0.25), ("</script>", 0.1))
        rows.append(Scored(word, word, math.log(n / 10), skip, policy, guesses))
    return skips.Sentence(tuple(context), tuple(rows))


def axis_of(sentence):
    (axis,) = skips_picture.draw(style.require("this"), sentence).axes
    return axis


def words_of(axis):
    return [text for text in axis.texts if text.get_position()[1] == -0.08]


def test_an_arc_leads_from_each_word_to_the_one_that_many_words_before():
    axis = axis_of(sentence_of(["a", "longer", "one", "here"], [1, 2, 1, 3]))
    places = [text.get_position()[0] for text in words_of(axis)]
    shown = [text.get_text() for text in words_of(axis)]
    assert shown == ["<eos>", "a", "longer", "one", "here"]
    ends = []
    for arc in axis.patches:
        (start, _), *_, (end, _) = arc.get_path().vertices
        nearest = [np.argmin(np.abs(np.array(places) - x)) for x in (start, end)]
        ends.append(tuple(int(n) for n in nearest))
    assert ends == [(1, 0), (2, 0), (3, 2), (4, 1)]


def test_a_skip_to_before_the_first_word_is_a_stub():
    axis = axis_of(sentence_of(["a", "b"], [0, 2]))
    assert len(axis.patches) == 1  # from b
    stub, ring = axis.lines
    assert stub.get_linestyle() == ":" and ring.get_marker() == "o"


def test_an_arc_is_the_thicker_the_surer_the_agent():
    unsure, sure, certain = (
        axis_of(sentence_of(["a"], [1], probability=probability)).patches[0]
        for probability in (0.4, 0.9, 1.0000001)  # float32 rounds beyond one
    )
    assert unsure.get_linewidth() < sure.get_linewidth()
    assert certain.get_alpha() == 1


@pytest.mark.filterwarnings("ignore:Glyph")
@pytest.mark.parametrize(
    "words",
    [["short", "words"], ["long_words"] * 29, ["$\\a^"], ["\u8bed\u8a00" * 4] * 3],
)
def test_no_word_stands_on_another_or_leaves_the_picture(words):
    sentence = sentence_of(words, [1] * len(words))
    figure = skips_picture.draw(style.require("this"), sentence)
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in words_of(figure.axes[0])]
    for left, right in itertools.pairwise(boxes):
        assert left.x1 < right.x0
    assert boxes[0].x0 >= 0 and boxes[-1].x1 <= figure.bbox.width
    caption = figure.axes[0].texts[-1].get_window_extent()
    assert caption.y0 >= 0 and caption.y1 <= min(box.y0 for box in boxes)
    assert caption.x1 <= figure.bbox.width


# The page

HOSTILE = ["</script><script>document.title='taken'</script>", "<!--"]
HOSTILE += ["a&amp;b", "\u2028"]


def page(sentences=None, first=3):
    sentences = sentences or [
        sentence_of(["one", "two"], [1, 2]),
        sentence_of(HOSTILE, [1, 1, 3, 2], context=("<b>", "x")),
    ]
    return skips_page.html(sentences, "run <b>", first)


def data_of(text):
    return json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])


def test_a_page_asks_for_nothing_and_nothing_of_the_text_is_markup():
    text = page()
    assert len(re.findall(r"<script", text)) == 2
    assert "<!--" not in text and "<b>" not in text
    addresses = set(re.findall(r"\w+://[^\s\"']+", text))
    assert addresses == {"http://www.w3.org/2000/svg"}  # a name, never fetched
    assert not re.search(r"\b(src|href|srcset|action)=|@import|url\(", text)
    policy = re.search(r'Security-Policy" content="([^"]*)"', text)[1]
    assert policy.startswith("default-src 'none'; ") and "unsafe" not in policy
    assert data_of(text)["sentences"][1]["words"] == HOSTILE


def test_a_hundred_sentences_are_less_than_a_megabyte():
    words = ["about_ten_"] * 22  # a sentence of the Penn Treebank has 22 words
    sentence = sentence_of(words, [1] * 22)
    guesses = (("about_ten_", 0.1234),) * 5
    rows = tuple(word._replace(guesses=guesses) for word in sentence.words)
    sentence = sentence._replace(words=rows)
    assert len(page([sentence] * 100).encode()) < 500_000


# The page in a browser

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
browser = pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium to look with")


def chromium(folder, address):
    """The document that a browser makes of a page, as text."""
    flags = "headless no-sandbox disable-gpu disable-quic no-first-run dump-dom"
    flags += " disable-background-networking disable-component-update disable-sync"
    command = [CHROMIUM, *(f"--{flag}" for flag in flags.split())]
    command += ["--host-resolver-rules=MAP * ~NOTFOUND"]  # nothing leaves the machine
    command += [f"--user-data-dir={folder / 'browser'}", address]
    return subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=120
    ).stdout


def driven(script):
    """A page on which a script acts as a user would; its policy would forbid that."""
    text = re.sub("<meta http-equiv.*?>", "", page())
    return text.replace("</body>", f"<script>{script}</script></body>")


@browser
def test_a_page_from_a_file_shows_its_first_sentence(tmp_path):
    (tmp_path / "page.html").write_text(page(), encoding="utf-8")
    dom = chromium(tmp_path, (tmp_path / "page.html").as_uri())
    assert '<output id="number" for="slider">3</output>' in dom
    assert re.findall(r'role="option"[^>]*>(\w+)<', dom) == ["one", "two"]
    assert "The model gave this word 10.0%." in dom
    # The other word's arc, and of this one to the word before and to nothing.
    assert dom.count("<path") == 1 + 2
    assert "&lt;/script&gt;" in dom  # a guess
    assert re.search(
        r'aria-live="polite">one: .*Read from the state after &lt;eos&gt;, 1', dom
    )


@browser
def test_keys_and_slider_lead_through_words_and_sentences(tmp_path):
    script = """
    slider.value = 1;
    slider.dispatchEvent(new Event("input"));
    const press = (key) => words.dispatchEvent(new KeyboardEvent("keydown", { key }));
    press("ArrowDown"); press("End"); press("ArrowDown"); press("ArrowUp");
    """
    (tmp_path / "page.html").write_text(driven(script), encoding="utf-8")
    dom = chromium(tmp_path, (tmp_path / "page.html").as_uri())
    assert "taken" not in re.search("<title>(.*?)</title>", dom)[1]
    assert '<output id="number" for="slider">4</output>' in dom
    assert re.findall(r'aria-selected="true"[^>]*>(.*?)<', dom) == ["a&amp;amp;b"]
    assert "Read from the state after x, 3 back, with 70.0%" in dom
    assert "&lt;script&gt;document.title" in dom and "<b>" not in dom


# The command


def test_sentences_of_a_split_are_those_of_its_file(language_run, data, call, tmp_path):
    arguments = ("--split=test", "--sentence=2", "--sentences=4")
    result = small.succeeds(call(tmp_path, PLOT_SKIPS, language_run.run, *arguments))
    assert result.out[-1] == "Written: skips.png, skips.svg, skips.html"
    shown = data_of((tmp_path / "skips.html").read_text(encoding="utf-8"))
    lines = (data / "corpus" / "test.txt").read_text().split("\n")
    known = {*(language_run.run / "vocabulary.txt").read_text().split("\n")}
    expected = [
        [*(word for word in line.split() if word in known), "<eos>"] for line in lines
    ]
    assert [sentence["words"] for sentence in shown["sentences"]] == expected[2:6]
    before = [word for line in expected[:2] for word in line]
    assert shown["sentences"][0]["context"] == before[-5:]
    assert shown["first"] == 2
    # As --mode score reads them, word by word.
    load = f"--load_model={language_run.run}"
    score = ("--mode=score", f"--input={data}/corpus/test.txt")
    scored = call(tmp_path, LANGUAGE, load, *score)
    rows = [row for row in (line.split("\t") for line in scored.out[1:]) if row[1]]
    start = len(before)
    for sentence in shown["sentences"]:
        read = rows[start : start + len(sentence["words"])]
        start += len(read)
        assert [row[1] for row in read] == sentence["words"]
        assert [int(row[3]) for row in read] == sentence["skips"]
        probabilities = [math.exp(float(row[2])) for row in read]
        assert probabilities == pytest.approx(sentence["probabilities"], abs=1e-4)


def test_a_text_of_ones_own_is_read_as_it_is(language_run, call, tmp_path):
    words = (language_run.run / "vocabulary.txt").read_text().split("\n")[1:5]
    arguments = (f"--text={' '.join(words)} nowhere", "--out=own/text")
    result = small.succeeds(call(tmp_path, PLOT_SKIPS, language_run.run, *arguments))
    assert result.err == ["Words that the model does not know, dropped: 1."]
    text = (tmp_path / "own" / "text.html").read_text(encoding="utf-8")
    (sentence,) = data_of(text)["sentences"]
    assert (sentence["context"], sentence["words"]) == ([], words)
    for row in sentence["policy"]:
        assert sum(p for _, p in row) == pytest.approx(1, abs=1e-3)
    assert sentence["probabilities"][0] is None and sentence["skips"][0] == 0


def test_a_model_that_attends_to_all_states_has_no_arcs():
    model = LanguageModel(len(WORDS), 6, 1, n_actions=K, choice="attention")
    model.build()
    with pytest.raises(RunError, match=r"--model attention.*; give a run of another"):
        plot_skips.sentences(TrainedModel(model, WORDS))
