"""The style of all pictures: fonts, and what is missing to draw."""

import sys

import pytest
from plots import style


def drawn_text(text, path):
    """A text as `style.save` draws it."""
    pyplot = style.require("this")
    figure = pyplot.figure()
    drawn = figure.text(0.5, 0.5, text, wrap=True)
    style.save(figure, path.with_suffix(".png"), path.with_suffix(".svg"))
    pyplot.close(figure)
    return drawn


def test_characters_are_drawn_with_an_installed_font_that_has_them(tmp_path, capsys):
    families = drawn_text("a \u2312", tmp_path / "x").get_fontfamily()
    assert families[0] == "DejaVu Sans" and len(families) == 2
    assert capsys.readouterr().err == ""


@pytest.mark.filterwarnings("error")
def test_characters_that_no_font_has_are_said_once(tmp_path, capsys, monkeypatch):
    manager = pytest.importorskip("matplotlib.font_manager").fontManager
    ours = [font for font in manager.ttflist if font.name.startswith("DejaVu")]
    monkeypatch.setattr(manager, "ttflist", ours)
    drawn_text("\u6a21\u578b \u6a21", tmp_path / "x")
    assert capsys.readouterr().err.splitlines() == [
        "No installed font has \u578b \u6a21, so boxes are drawn; install a font that "
        "has, such as Noto Sans CJK."
    ]


@pytest.mark.parametrize("name", ["a$\\frac$b", "caf\udce9"])
def test_any_name_of_a_folder_is_drawn(name, tmp_path):
    drawn_text(name, tmp_path / "x")


def test_without_matplotlib_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(SystemExit, match=r"^this needs matplotlib: pip install .*plot"):
        style.require("this")
