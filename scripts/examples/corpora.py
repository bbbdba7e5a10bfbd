"""The data of the examples: generates texts and sentences, and reads those of a user.

A text is `(words, label)`, with the label 0 for negative and 1 for positive. A sentence
is `(words, tags)`, with one tag for each word.
"""

import re
from collections import Counter

import numpy as np

from dsc.cli.errors import RunError, one_line
from dsc.runs import atomic_io

UNKNOWN = 1  # word id; 0 is padding
FILLERS = [f"word{n}" for n in range(40)]


# Texts


def generate_texts(n, rng):
    """The first word is an opinion and decides the label.

    Half of the other words are opinions, too, as often good as bad.
    """
    opinions = [[f"{kind}{n}" for n in range(10)] for kind in ("bad", "good")]
    words = [*opinions[0], *opinions[1], *FILLERS[:20]]
    return [
        ([rng.choice(opinions[label]), *rng.choice(words, rng.integers(19, 30))], label)
        for label in rng.integers(0, 2, n)
    ]


def read_texts(path, rng):
    """The texts to train on, shuffled, and those for the test; see sentiment.py."""
    if not path.is_dir():
        train, test = _read_npz(path, "train"), _read_npz(path, "test")
    elif (path / "train").is_dir():
        train, test = _read_folder(path / "train"), _read_folder(path / "test")
    else:
        train, test = _read_folder(path), []
    rng.shuffle(train)
    n_test = 0 if test else max(len(train) // 5, 1)
    train, test = train[n_test:], test or train[:n_test]
    if len(train) < 2:
        raise RunError(f"{path}: there are too few texts to train on.")
    return train, test


def _read_folder(folder):
    texts = []
    for label, name in enumerate(("neg", "pos")):
        paths = sorted((folder / name).glob("*.txt"))
        if not paths:
            raise RunError(f"{folder / name}: there are no .txt files; see --help.")
        for path in paths:
            text = path.read_text(encoding="utf-8", errors="replace").lower()
            texts.append((re.findall(r"[\w']+|[.,!?]", text), label))
    return texts


def _read_npz(path, split):
    """The texts of "train" or "test"; their words are the ids in the file."""
    try:
        arrays = atomic_io.read_arrays(path)
        texts, labels = arrays[f"x_{split}"], arrays[f"y_{split}"]
        if texts.ndim != 2 or texts.dtype.kind not in "iu":
            raise ValueError(f"x_{split} needs word ids, [texts, words]")
        if not len(texts) or not {*labels} <= {0, 1}:
            raise ValueError(f"y_{split} needs labels, each 0 or 1")
        return [
            (text[text != 0].tolist(), int(label))
            for text, label in zip(texts, labels, strict=True)
        ]
    except (OSError, ValueError, KeyError) as error:
        reason = one_line(error)
        raise RunError(f"{path}: cannot be read ({reason}); see --help.") from None


# Sentences with tags


def generate_sentences(n, rng):
    """The first word, a topic, decides the type of all names in the sentence.

    A name is one or two words, which occur in names of all types. Later topics do not
    matter.
    """
    types = ("LOC", "ORG", "PER")
    others = [*FILLERS, *(f"topic-{kind}" for kind in types)]
    sentences = []
    for kind in rng.choice(types, n):
        words, tags = [f"topic-{kind}"], ["O"]
        for _ in range(rng.integers(12, 20)):
            name = rng.integers(0, 10, rng.choice([0, 0, 0, 0, 1, 2]))
            words += [*(f"Name{part}" for part in name), rng.choice(others)]
            tags += [*[f"B-{kind}", f"I-{kind}"][: len(name)], "O"]
        sentences.append((words, tags))
    return sentences


def read_sentences(path):
    """The sentences of a file in CoNLL columns; see tagging.py."""
    sentences = [([], [])]
    for number, line in enumerate(_lines(path), 1):
        columns = line.split()
        if not columns or columns[0] == "-DOCSTART-":
            sentences.append(([], []))
        elif len(columns) == 1:
            raise RunError(f"{path}, line {number}: the word {columns[0]} has no tag.")
        else:
            sentences[-1][0].append(columns[0])
            sentences[-1][1].append(columns[-1])
    sentences = [sentence for sentence in sentences if sentence[0]]
    if not sentences:
        raise RunError(f"{path}: there are no sentences.")
    return sentences


def entities(tags):
    """The set of (start, end, type) that tags in IOB1, IOB2 or BIOES stand for."""
    found, start = set(), None
    for n, tag in enumerate([*tags, "O"]):
        before = tags[n - 1] if n else "O"
        continues = tag[0] in "IE" and before[0] in "BI" and tag[2:] == before[2:]
        if start is not None and not continues:
            found.add((start, n, before[2:]))
            start = None
        if tag != "O" and not continues:
            start = n
    return found


def to_bioes(tags):
    """The tags in BIOES: S for a single word, else B, I for inner words, E."""
    bioes = ["O"] * len(tags)
    for start, end, kind in entities(tags):
        inner = ["I"] * (end - start - 2)
        prefixes = ["B", *inner, "E"] if end - start > 1 else ["S"]
        bioes[start:end] = [f"{prefix}-{kind}" for prefix in prefixes]
    return bioes


def known_words(train, sentences, glove, rng):
    """`(dict from word to id, initial vectors or None)`.

    Known are the words that occur twice in `train`, and those of all `sentences` that
    have a vector in the file `glove`, if that is not None. A word without one has a
    random vector.
    """
    counts = Counter(word for words, _ in train for word in words)
    known = {word for word, count in counts.items() if count > 1}
    vectors = {}
    if glove:
        vectors = read_vectors(
            glove, {word for words, _ in sentences for word in words}
        )
    ids = {word: n for n, word in enumerate(sorted(known | {*vectors}), UNKNOWN + 1)}
    if not glove:
        return ids, None
    matrix = rng.normal(0, 0.1, (len(ids) + 2, len(next(iter(vectors.values())))))
    for word, vector in vectors.items():
        matrix[ids[word]] = vector
    return ids, matrix


def read_vectors(path, words):
    """Dict from word to vector, from a GloVe text file.

    A word that the file has only in lower case has that vector.
    """
    wanted = words | {word.lower() for word in words}
    found, size = {}, None
    for number, line in enumerate(_lines(path), 1):
        size = size or line.count(" ")
        word, *vector = line.rsplit(" ", size)  # a word may have spaces
        if word in wanted:
            try:
                found[word] = np.array(vector, "float32").reshape(size)
            except ValueError:
                raise RunError(
                    f"{path}, line {number}: expected a word and {size} numbers."
                ) from None
    found = {word: found.get(word, found.get(word.lower())) for word in words}
    found = {word: vector for word, vector in found.items() if vector is not None}
    if not found:
        raise RunError(f"{path}: has no vector of any word in the data.")
    return found


def _lines(path):
    try:
        with open(path, encoding="utf-8") as file:
            yield from map(str.rstrip, file)
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"{path}: cannot be read ({one_line(error)}).") from None
