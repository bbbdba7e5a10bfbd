"""Tests of scripts/get_ptb.py against a local web server."""

import os
import socket
import threading
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from small import contents

from tests.stress import programs

SCRIPT = programs.ROOT / "scripts" / "get_ptb.py"

TEXTS = {
    "ptb.train.txt": b" the <unk> of N years \n" * 40,
    "ptb.valid.txt": b" a year of <unk> \n" * 30,
    "ptb.test.txt": b" no it was n't \n" * 20,
}
FILES = {name: sha256(text).hexdigest() for name, text in TEXTS.items()}
LONG = {f"ptb/{name}": text for name, text in TEXTS.items()}
SHORT = {f"ptb/{name.removeprefix('ptb.')}": text for name, text in TEXTS.items()}
ENDLESS = 1 << 26  # bytes, far above what the buffers of a connection hold


@pytest.fixture
def get(tmp_path, call, monkeypatch):
    """Runs a copy of the script that expects `TEXTS`."""
    path = tmp_path / "repo" / "scripts" / "get_ptb.py"
    path.parent.mkdir(parents=True)
    head, guard, tail = SCRIPT.read_text().partition('if __name__ == "__main__":')
    path.write_text(f"{head}FILES = {FILES!r}\n{guard}{tail}")
    for name in [n for n in os.environ if n.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)  # a proxy cannot reach the test's server
    return lambda *arguments: call(tmp_path, path, *arguments)


@pytest.fixture
def sources(server):
    """The arguments for a first source, and for a second one that has all files."""
    server.pages = dict(LONG)
    return ["--source", f"{server.url}/first", "--source", f"{server.url}/ptb"]


@pytest.fixture
def mine(tmp_path):
    """A folder of the user's with all files."""
    return fill(tmp_path / "mine", TEXTS)


@pytest.fixture
def data(tmp_path):
    """The folder that the files go to by default."""
    return tmp_path / "repo" / "data" / "ptb"


@pytest.fixture
def server():
    """A web server; `pages` maps paths to bodies, `requests` lists the paths asked."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.requests.append(self.path)
            body = self.server.pages.get(self.path[1:])
            if callable(body):
                body(self)
            elif body is None:
                self.send_error(404)
            else:
                start(self, len(body))
                self.wfile.write(body)

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.pages, server.requests = {}, []
        server.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def start(handler, length=None):
    handler.send_response(200)
    if length is not None:
        handler.send_header("Content-Length", str(length))
    handler.end_headers()


def hang_up(handler):
    start(handler, len(TEXTS["ptb.train.txt"]))
    handler.wfile.write(TEXTS["ptb.train.txt"][:100])


def talk_nonsense(handler):
    handler.wfile.write(b"220 no web server\r\n")


def assert_complete(done, folder):
    assert (done.code, done.err) == (0, [])
    assert "research use" in done.out[0]
    assert contents(folder) == TEXTS  # and nothing else, such as a temporary file


def assert_fails(done, *parts):
    """Checks for one sentence on stderr that contains all `parts`."""
    (line,) = done.err
    assert done.code == 1 and line.endswith(".")
    assert [part for part in parts if str(part) not in line] == []


def fill(folder, texts):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_bytes(text)
    return folder


@pytest.mark.parametrize(("pages", "slash"), [(LONG, ""), (LONG, "/"), (SHORT, "")])
def test_downloads_into_the_repository(get, data, server, pages, slash):
    server.pages = pages
    assert_complete(get("--source", f"{server.url}/ptb{slash}"), data)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (None, "404"),
        (TEXTS["ptb.train.txt"].replace(b"years", b"weeks"), "wrong sha256"),
        (b"", "wrong sha256"),
        (hang_up, ""),  # the wording depends on the version of Python
        (talk_nonsense, "220 no web server"),
    ],
    ids=["404", "corrupt", "empty", "hangs up", "not HTTP"],
)
def test_continues_with_the_next_source(get, data, server, sources, bad, reason):
    names = [name for name in TEXTS if name != "ptb.train.txt"]
    server.pages |= {f"first/{name}": TEXTS[name] for name in names}
    server.pages["first/ptb.train.txt"] = bad
    done = get(*sources)
    assert_complete(done, data)
    line, other = [line for line in done.out if "skipping" in line]
    assert line.startswith(f"ptb.train.txt: skipping {sources[1]} (ptb.train.txt): ")
    assert reason in line and "(train.txt): HTTP Error 404" in other
    asked = [path for path in server.requests if path.startswith("/ptb/")]
    assert asked == ["/ptb/ptb.train.txt"]


def test_stops_reading_a_file_that_is_too_long(get, data, server, sources):
    sent = []

    def pour(handler):
        start(handler)
        try:
            for _ in range(ENDLESS >> 16):
                handler.wfile.write(bytes(1 << 16))
            sent.append(ENDLESS)
        except ConnectionError:
            sent.append(0)

    server.pages["first/ptb.train.txt"] = pour
    assert_complete(get(*sources), data)
    assert sent == [0]


def test_a_failure_leaves_the_files_unchanged(get, data, server):
    fill(data, {"ptb.train.txt": TEXTS["ptb.train.txt"], "ptb.test.txt": b"old"})
    before = contents(data)
    sources = [f"{server.url}/first", f"{server.url}/second"]
    done = get("--source", sources[0], "--source", sources[1])
    assert_fails(done, "Every source failed", "network", *TEXTS, "--from_dir", "sha256")
    assert all(f"skipping {source} (" in "".join(done.out) for source in sources)
    assert contents(data) == before


@pytest.mark.parametrize("source", ["offline", "nonsense", "http://[", "http://h:x"])
def test_a_server_that_cannot_be_reached_is_reported(get, data, source):
    with socket.socket() as unused:  # bound but not listening: connections refused
        unused.bind(("127.0.0.1", 0))
        if source == "offline":
            source = f"http://127.0.0.1:{unused.getsockname()[1]}"
        done = get("--source", source)
    assert_fails(done, "Every source failed", "--from_dir")
    assert any(f"skipping {source} (" in line for line in done.out)
    assert not data.exists()


def test_only_missing_or_wrong_files_are_downloaded(get, data, server, sources):
    fill(data, TEXTS)
    times = {path: path.stat().st_mtime_ns for path in data.iterdir()}
    assert_complete(get(*sources[2:]), data)
    assert server.requests == []
    assert {path: path.stat().st_mtime_ns for path in data.iterdir()} == times

    (data / "ptb.valid.txt").unlink()
    (data / "ptb.test.txt").write_bytes(TEXTS["ptb.test.txt"][:-1])
    assert_complete(get(*sources[2:]), data)
    assert server.requests == ["/ptb/ptb.valid.txt", "/ptb/ptb.test.txt"]


@pytest.mark.parametrize("prefix", ["ptb.", ""])
def test_copies_from_a_folder(get, tmp_path, prefix):
    texts = {name.replace("ptb.", prefix): text for name, text in TEXTS.items()}
    mine = fill(tmp_path / "mine", texts)
    target = tmp_path / "deep" / "target"
    assert_complete(get("--from_dir", mine, "--data_dir", target), target)
    assert contents(mine) == texts


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        ({"train.txt": b"other text"}, "(train.txt): the content is not"),
        ({"other.txt": b"text"}, "(train.txt): No such file"),
        (None, "(train.txt): Not a directory"),
    ],
)
def test_a_folder_without_the_right_files_is_refused(
    get, data, tmp_path, texts, reason
):
    mine = tmp_path / "mine"
    mine.write_text("text") if texts is None else fill(mine, texts)
    done = get("--from_dir", mine)
    assert_fails(done, "Every source failed for ptb.train.txt", "--from_dir")
    assert any(reason in line for line in done.out)
    assert not data.exists()


def test_what_is_in_the_way_is_kept(get, data, tmp_path, mine):
    (tmp_path / "target").write_text("text")
    done = get("--from_dir", mine, "--data_dir", tmp_path / "target")
    assert_fails(done, "cannot write", "File exists", "--data_dir")
    assert (tmp_path / "target").read_text() == "text"
    (data / "ptb.valid.txt").mkdir(parents=True)
    done = get("--from_dir", mine)
    assert_fails(done, f"cannot write to {data / 'ptb.valid.txt'}", "--data_dir")
    assert {path.name for path in data.iterdir()} == {"ptb.train.txt", "ptb.valid.txt"}


def test_only_one_kind_of_source_can_be_given(get, data):
    assert_fails(get("--from_dir=x", "--source=http://h"), "At most one of (from_dir")
    assert not data.exists()


def test_the_real_corpus_has_the_right_checksums(ptb, tmp_path, call):
    done = call(tmp_path, SCRIPT, "--from_dir", ptb, "--data_dir", tmp_path / "ptb")
    assert (done.code, done.err) == (0, [])
    sizes = {len(text) for text in contents(tmp_path / "ptb").values()}
    assert sizes == {5101618, 399782, 449945}
