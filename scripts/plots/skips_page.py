"""An HTML page of sentences with their arcs, without other files or network access."""

import base64
import hashlib
import html as markup
import math
import re
from pathlib import Path

from dsc.runs import atomic_io

TEMPLATE = Path(__file__).with_suffix(".html")
DIGITS = 4  # of a probability


def html(sentences, title, first=None):
    """The text of a page with a list of `skips.Sentence`, the first with this number.

    Words may contain anything: they are in the page as JSON without any `<`, and become
    nothing but text of the document.
    """
    data = {"first": first, "sentences": [_as_json(sentence) for sentence in sentences]}
    page = TEMPLATE.read_text(encoding="utf-8")
    (style,), (script,) = (
        re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        for tag in ("style", "script")
    )
    policy = (
        f"default-src 'none'; script-src '{_digest(script)}'; "
        f"style-src '{_digest(style)}'; base-uri 'none'; form-action 'none'"
    )
    filled = {
        "POLICY": policy,
        "TITLE": markup.escape(title),
        "DATA": atomic_io.to_json(data, separators=(",", ":")).replace("<", "\\u003c"),
    }
    return re.sub("{{([A-Z]+)}}", lambda match: filled[match[1]], page)


def _as_json(sentence):
    words = sentence.words
    return {
        "context": sentence.context,
        "words": [word.read_as for word in words],
        "probabilities": [
            None if word.log_prob is None else round(math.exp(word.log_prob), DIGITS)
            for word in words
        ],
        "guesses": [_rounded(word.guesses) for word in words],
        "policy": [_rounded(word.policy.items()) for word in words],
        "skips": [word.skip for word in words],
    }


def _rounded(pairs):
    return [(key, round(probability, DIGITS)) for key, probability in pairs]


def _digest(text):
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"sha256-{digest}"
