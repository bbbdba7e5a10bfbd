"""Tests of scripts/get_ptb.py, run as a user runs it, against a local web server."""

import os
import resource
import socket
import subprocess
import sys
import threading
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
SCRIPT = REPO / "scripts" / "get_ptb.py"
REAL = REPO.parent / "shared" / "data" / "ptb"

TEXTS = {
    "ptb.train.txt": b" the <unk> of N years \n" * 40,
    "ptb.valid.txt": b" a year of <unk> \n" * 30,
    "ptb.test.txt": b" no it was n't \n" * 20,
}
FILES = {name: (len(text), sha256(text).hexdigest()) for name, text in TEXTS.items()}
LONG = {f"ptb/{name}": text for name, text in TEXTS.items()}
SHORT = {f"ptb/{name[len('ptb.') :]}": text for name, text in TEXTS.items()}
ENDLESS = 1 << 26  # bytes, far above what the buffers of a connection swallow


@pytest.fixture
def script(tmp_path):
    """A repository that holds nothing but the script, made to expect `TEXTS`."""
    path = tmp_path / "repo" / "scripts" / "get_ptb.py"
    path.parent.mkdir(parents=True)
    head, guard, tail = SCRIPT.read_text().partition('if __name__ == "__main__":')
    path.write_text(f"{head}FILES = {FILES!r}\n{guard}{tail}")
    return path


@pytest.fixture
def data(script):
    """The folder that the files go to by default."""
    return script.parents[1] / "data" / "ptb"


@pytest.fixture
def server():
    """A web server; `pages` maps paths to bodies, `requests` lists what was asked."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.requests.append(self.path)
            self.server.agents.add(self.headers["User-Agent"])
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
        server.pages, server.requests, server.agents = {}, [], set()
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


def fail(handler):
    handler.send_error(503)


def run(script, *args, **kwargs):
    # A proxy would stand between the script and the server of the test.
    env = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    return subprocess.run(
        [sys.executable, str(script), *map(str, args)],
        env=env | {"PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=30,
        **kwargs,
    )


def assert_complete(done, folder):
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("research use") == 1
    # Equal as dictionaries: nothing else, such as a temporary file, lies there.
    assert contents(folder) == TEXTS


def assert_fails(done, *parts):
    """Checks for one sentence on stderr, with all `parts` in it."""
    assert done.returncode == 1
    assert done.stderr.endswith(".\n") and done.stderr.count("\n") == 1
    for part in parts:
        assert str(part) in done.stderr


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def fill(folder, texts):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_bytes(text)
    return folder


@pytest.mark.parametrize("pages", [LONG, SHORT], ids=["ptb.train.txt", "train.txt"])
@pytest.mark.parametrize("slash", ["", "/"])
def test_downloads_into_the_repository(script, data, server, pages, slash):
    server.pages = pages
    done = run(script, "--source", f"{server.url}/ptb{slash}")
    assert_complete(done, data)
    assert server.agents == {"get_ptb.py"}
    # Everyone may read what everyone may read elsewhere: no private temporary file.
    assert (data / "ptb.test.txt").stat().st_mode == script.stat().st_mode


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (None, "it has no ptb.train.txt or train.txt"),
        (TEXTS["ptb.train.txt"].replace(b"years", b"weeks"), "wrong sha256"),
        (TEXTS["ptb.train.txt"] + b"\n", "wrong sha256"),
        (b"", "wrong sha256"),
        (hang_up, ""),  # how this is worded depends on the version of Python
        (talk_nonsense, "220 no web server"),
        (fail, "503"),
    ],
    ids=["404", "corrupt", "too long", "empty", "hangs up", "not HTTP", "503"],
)
def test_goes_on_to_the_next_source(script, data, server, bad, reason):
    first, second = f"{server.url}/first", f"{server.url}/ptb"
    names = [name for name in TEXTS if name != "ptb.train.txt"]
    server.pages = LONG | {f"first/{name}": TEXTS[name] for name in names}
    server.pages["first/ptb.train.txt"] = bad
    done = run(script, "--source", first, "--source", second)
    assert_complete(done, data)
    (line,) = [line for line in done.stdout.splitlines() if "skipping" in line]
    assert line.startswith(f"ptb.train.txt: skipping {first}: ")
    assert reason in line
    assert [path for path in server.requests if path.startswith("/ptb/")] == [
        "/ptb/ptb.train.txt"
    ]


def test_does_not_read_on_and_on(script, data, server):
    sent = []

    def pour(handler):
        start(handler)
        try:
            for _ in range(ENDLESS >> 16):
                handler.wfile.write(bytes(1 << 16))
            sent.append(ENDLESS)
        except ConnectionError:
            sent.append(0)

    server.pages = LONG | {"first/ptb.train.txt": pour}
    sources = ["--source", f"{server.url}/first", "--source", f"{server.url}/ptb"]
    assert_complete(run(script, *sources), data)
    assert sent == [0]


def test_all_sources_fail(script, data, server):
    fill(data, {"ptb.train.txt": TEXTS["ptb.train.txt"], "ptb.test.txt": b"old"})
    before = contents(data)
    sources = [f"{server.url}/first", f"{server.url}/second"]
    done = run(script, "--source", sources[0], "--source", sources[1])
    assert_fails(done, "Every source failed", "network", *TEXTS, "--from_dir", "sha256")
    assert all(f"skipping {source}:" in done.stdout for source in sources)
    assert contents(data) == before


@pytest.mark.parametrize("source", ["offline", "nonsense", "http://[", "http://h:x"])
def test_no_server_at_all(script, data, source):
    with socket.socket() as unused:  # bound but not listening: connections refused
        unused.bind(("127.0.0.1", 0))
        if source == "offline":
            source = f"http://127.0.0.1:{unused.getsockname()[1]}"
        done = run(script, "--source", source)
    assert_fails(done, "Every source failed", "--from_dir")
    assert f"skipping {source}:" in done.stdout
    assert not data.exists()


def test_asks_only_for_what_is_missing(script, data, server):
    server.pages = LONG
    source = ["--source", f"{server.url}/ptb"]
    fill(data, TEXTS)
    times = {path: path.stat().st_mtime_ns for path in data.iterdir()}
    assert_complete(run(script, *source), data)
    assert server.requests == []
    assert {path: path.stat().st_mtime_ns for path in data.iterdir()} == times

    (data / "ptb.valid.txt").unlink()
    (data / "ptb.test.txt").write_bytes(TEXTS["ptb.test.txt"][:-1])
    assert_complete(run(script, *source), data)
    assert server.requests == ["/ptb/ptb.valid.txt", "/ptb/ptb.test.txt"]


@pytest.mark.parametrize("prefix", ["ptb.", ""])
def test_from_dir(script, tmp_path, prefix):
    texts = {name.replace("ptb.", prefix): text for name, text in TEXTS.items()}
    mine = fill(tmp_path / "mine", texts)
    target = tmp_path / "deep" / "target"
    done = run(script, "--from_dir", mine, "--data_dir", target)
    assert_complete(done, target)
    assert contents(mine) == texts


def test_from_dir_with_a_corrupt_file(script, data, tmp_path):
    wrong = {"valid.txt": TEXTS["ptb.valid.txt"].upper()}
    mine = fill(tmp_path / "mine", {"train.txt": TEXTS["ptb.train.txt"]} | wrong)
    done = run(script, "--from_dir", mine)
    assert_fails(done, "Every source failed for ptb.valid.txt", "--from_dir")
    assert f"ptb.valid.txt: skipping {mine}: the content is not" in done.stdout
    assert contents(data) == {"ptb.train.txt": TEXTS["ptb.train.txt"]}


@pytest.mark.parametrize("exists", [True, False])
def test_from_dir_without_the_files(script, data, tmp_path, exists):
    mine = tmp_path / "mine"
    if exists:
        fill(mine, {"other.txt": b"text"})
    done = run(script, "--from_dir", mine)
    assert_fails(done, "Every source failed", "--from_dir")
    assert f"skipping {mine}: it has no ptb.train.txt or train.txt" in done.stdout
    assert not data.exists()


def test_from_dir_is_a_file(script, data, tmp_path):
    (tmp_path / "mine").write_text("text")
    done = run(script, "--from_dir", tmp_path / "mine")
    assert_fails(done, "Every source failed")
    assert "Not a directory" in done.stdout
    assert not data.exists()


def test_target_is_a_file(script, tmp_path):
    mine = fill(tmp_path / "mine", TEXTS)
    (tmp_path / "target").write_text("text")
    done = run(script, "--from_dir", mine, "--data_dir", tmp_path / "target")
    assert_fails(done, "cannot write", "File exists", "--data_dir")
    assert (tmp_path / "target").read_text() == "text"


def test_a_folder_has_the_name_of_a_file(script, data, tmp_path):
    (data / "ptb.valid.txt").mkdir(parents=True)
    done = run(script, "--from_dir", fill(tmp_path / "mine", TEXTS))
    assert_fails(done, f"cannot write to {data / 'ptb.valid.txt'}", "--data_dir")
    assert {path.name for path in data.iterdir()} == {"ptb.train.txt", "ptb.valid.txt"}


def test_disk_full_in_the_middle_of_a_file(script, data, tmp_path):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600))

    fill(data, {"ptb.train.txt": b"old"})
    assert FILES["ptb.train.txt"][0] > 600
    mine = fill(tmp_path / "mine", TEXTS)
    done = run(script, "--from_dir", mine, preexec_fn=limit)
    assert_fails(done, f"cannot write to {data / 'ptb.train.txt'}", "too large")
    assert contents(data) == {"ptb.train.txt": b"old"}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--form_dir=x"], "Unknown command line flag 'form_dir'"),
        (["folder"], "'folder' is not a flag"),
        (["--data_dir="], "flag --data_dir=: it is empty; give a path"),
        (["--from_dir=x", "--source=http://h"], "At most one of (from_dir, source)"),
    ],
)
def test_bad_command_line(script, data, args, message):
    done = run(script, *args)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not data.exists()


@pytest.mark.skipif(not REAL.is_dir(), reason="needs the corpus in ../shared/data/ptb")
def test_the_real_corpus_has_the_right_checksums(tmp_path):
    done = run(SCRIPT, "--from_dir", REAL, "--data_dir", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert sizes == {
        "ptb.train.txt": 5101618,
        "ptb.valid.txt": 399782,
        "ptb.test.txt": 449945,
    }
