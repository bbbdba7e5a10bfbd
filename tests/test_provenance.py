"""Where a run comes from."""

import json
import os
import re
import sys

import keras
import numpy as np

from dsc.runs import provenance


def test_it_says_corpus_weights_versions_and_commit():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4)])
    found = provenance.about(model, "ptb")
    assert json.loads(json.dumps(found)) == found
    assert found["corpus"] == "ptb"
    assert found["n_weights"] == 3 * 4 + 4
    assert found["versions"]["numpy"] == np.__version__
    assert found["versions"]["keras"] == keras.__version__
    assert found["versions"]["python"] == sys.version.split()[0]
    assert f"{os.cpu_count()} logical CPUs" in found["machine"]
    with_gpu = provenance.about(model, "ptb", "NVIDIA H200")["machine"]
    assert with_gpu == f"{found['machine']}, NVIDIA H200"
    commit = found["git_commit"]
    assert commit is None or re.fullmatch(r"[0-9a-f]{40,64}( with changes)?", commit)


def test_without_a_repository_the_commit_is_unknown(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    assert provenance.git_commit() is None
    (tmp_path / ".git").mkdir()  # one that is broken
    assert provenance.git_commit() is None
