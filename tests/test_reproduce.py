"""The study: its runs, its records, and the pages that are written from them."""

import csv
import gzip
import importlib
import json
import shutil

import isolated
import pytest
from plots import style
from reproduce import TableWriter, exclusive
from study import picture, results
from study.tables import (
    TABLES,
    Column,
    Data,
    Row,
    Table,
    entropy,
    epochs_to,
    score,
)
from sweep import SCRIPTS
from sweeping import grid
from test_run_reader import EPOCH, REPORT, made

from dsc.cli.errors import RunError
from tests.stress import programs

REPRODUCE = programs.ROOT / "scripts" / "reproduce.py"
RESULTS = programs.ROOT / "results"
TRAIN = "language_modeling/rl_train.py"

table = Table(
    "A title",
    "How to read it.",
    TRAIN,
    {"max_epochs": "3", "data_dir": "data/agreement"},
    (
        Row("first", {}, seeds=("1", "2", "3")),
        Row("second", {"lamda": "0.5"}, seeds=("1", "2")),
        Row("third", {"model": "lstm"}, seeds=("7",)),
    ),
    (
        Column("test", score("test perplexity")),
        Column("reached", epochs_to(0.5), "d", list_seeds=True),
    ),
    lambda flags: Data("data/x.npz", "make.py", "--few"),
    {"max_steps": "2"},
)


ABOUT = {"machine": "a machine", "versions": {"keras": "3"}, "git_commit": "abc"}


def record(row, seed, perplexity, accuracies=(), entropies=((1, 0.5),)):
    run = table.runs(row)[row.seeds.index(seed)]
    return {
        "row": row.name,
        "seed": seed,
        "flags": run.settings,
        "result": {"scores": {"test perplexity": perplexity}},
        "epochs": [
            {"epoch": i, "valid accuracy (greedy)": a}
            for i, a in enumerate(accuracies, 1)
        ],
        "reports": [
            {"epoch": epoch, "entropy": e, "actions": [0.5, 0.5]}
            for epoch, e in entropies
        ],
        "config": {"about": ABOUT},
    }


@pytest.fixture
def records():
    first, second, _ = table.rows
    found = [
        record(first, "1", 10.0, (0.2, 0.6, 0.7)),
        record(first, "2", 12.0, (0.2, 0.4)),
        record(first, "3", 14.0, (0.5,)),
        record(second, "2", 8.0),
    ]
    return by_key(*found)


def by_key(*records):
    return {results.key(r["row"], r["seed"], r["flags"]): r for r in records}


def test_a_command_is_one_that_others_can_type():
    run = table.runs(table.rows[1])[1]
    assert results.command(TRAIN, run.settings, run.seed) == (
        f"python {TRAIN} --max_epochs=3 --data_dir=data/agreement --lamda=0.5 --seed=2"
    )


RESULT = {"scores": {"test perplexity": 3.0}, "epochs": 1, "seconds": 50.5}


def finish(folder, *records, result=RESULT, **config):
    """Makes the folder of a finished run."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    made(folder, records or (REPORT, EPOCH), **config)
    (folder / "result.json").write_text(json.dumps(result))


def finished(tmp_path):
    """The record of a finished run."""
    row, report = table.rows[0], {**REPORT, "nll": 2.123456789, "grad_norm": 4.0}
    (run,) = table.runs(row, tmp_path)[:1]
    finish(run.folder, report, {**EPOCH, "valid last actions by index": [[1]]})
    return results.record(row, run)


def test_of_a_run_is_kept_what_others_can_compare(tmp_path):
    kept = finished(tmp_path)
    assert kept["result"] == RESULT
    assert kept["flags"] == {"max_epochs": "3", "data_dir": "data/agreement"}
    assert kept["epochs"] == [EPOCH]
    (report,) = kept["reports"]
    assert report["nll"] == 2.1235
    assert report["actions"] == REPORT["actions"]
    assert "grad_norm" not in report
    assert kept["config"]["about"] == {"corpus": "x"}
    assert "train_dir" not in kept["config"]["flags"]


def test_a_perplexity_that_no_float_holds_is_kept_shown_and_drawn(tmp_path):
    row = table.rows[1]
    records = {}
    for run, value in zip(table.runs(row, tmp_path), (None, 3.0), strict=True):
        epoch = {**EPOCH, "valid perplexity": value}
        result = {"scores": {"test perplexity": value}}
        finish(run.folder, REPORT, epoch, result=result, about=ABOUT)
        records |= by_key(results.record(row, run))
    few = table._replace(columns=table.columns[:1], plot_training=("second",))
    rows = results.by_row(few, records)
    results.write(tmp_path, "name", few, rows)
    rows = results.by_row(few, results.read(tmp_path, "name"))
    assert "| second | 2/2 | inf |" in results.as_table(few, rows)
    pyplot = style.require("this")
    style.save(picture.draw(pyplot, few, rows), tmp_path / "name.svg")
    style.save_small(picture.draw_training(pyplot, few, rows), tmp_path / "name.png")


def test_the_table_has_means_deviations_and_what_is_missing(tmp_path, records):
    rows = results.by_row(table, records)
    assert results.as_table(table, rows).splitlines() == [
        "|  | seeds | test | reached |",
        "| --- | --- | --- | --- |",
        "| first | 3/3 | 12.00 ± 2.00 | 2, -, 1 |",
        "| second | 1/2 | 8.00 | - |",
        "",
        "Not run yet: third.",
    ]
    other = table._replace(flags={"max_epochs": "4"})  # of which there is no run
    results.write(tmp_path, "name", other, results.by_row(other, records))
    page = (tmp_path / "name.md").read_text()
    assert page.endswith("Not run yet: first; second; third.\n") and "|" not in page


def test_the_files_hold_every_run_and_are_read_again(tmp_path, records):
    rows = results.by_row(table, records)
    results.write(tmp_path, "name", table, rows)
    assert results.read(tmp_path, "name") == records
    with open(tmp_path / "name.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["test"] for line in lines] == ["10.0", "12.0", "14.0", "8.0"]
    assert [line["seed"] for line in lines] == ["1", "2", "3", "2"]
    page = (tmp_path / "name.md").read_text()
    assert "    # first: --seed=1, 2, 3\n    python language_modeling/rl_train" in page
    assert "    # second: --seed=2\n    python language_modeling/rl_train.py" in page
    assert "- a machine; keras 3; commit abc\n" in page
    before = (tmp_path / "name.json.gz").read_bytes()
    results.write(tmp_path, "name", table, rows)
    assert (tmp_path / "name.json.gz").read_bytes() == before


def test_a_results_file_that_is_damaged_is_refused(tmp_path):
    whole = gzip.compress(b'{"runs": [{}]}')
    for content in (whole, whole[:-9], whole[:-9] + b"x", b"", b"{}"):
        (tmp_path / "x.json.gz").write_bytes(content)
        with pytest.raises(RunError, match="restore it, delete it to repeat"):
            results.read(tmp_path, "x")
    assert results.read(tmp_path, "none") == {}


def test_entropy_is_that_of_the_last_epoch_and_of_a_choice():
    one = record(table.rows[0], "1", 1.0, entropies=((1, 0.9), (2, 0.2), (2, 0.4)))
    assert entropy(one) == pytest.approx(0.3)
    one["reports"][0]["actions"] = [1.0]
    one["reports"] = one["reports"][:1]
    assert entropy(one) is None


def test_a_mean_is_not_shown_of_a_part_of_the_runs():
    column = Column("minutes", lambda record: record.get("minutes"), ".0f")
    short = table._replace(columns=(column,), rows=table.rows[1:2])
    first, second = {"minutes": 3.0}, {"minutes": 5.0}
    for records, cell in ([first, second], "4 ± 1"), ([first, {"other": 1}], "-"):
        rows = [(short.rows[0], records)]
        shown = results.as_table(short, rows).splitlines()[-1]
        assert shown == f"| second | 2/2 | {cell} |"


def test_the_small_table_has_a_run_of_two_rows_on_little_data(tmp_path):
    small = table.smoke_version(tmp_path)
    assert [row.name for row in small.rows] == ["first", "second"]
    assert [row.seeds for row in small.rows] == [("1",), ("1",)]
    assert small.rows[1].flags == {
        "lamda": "0.5",
        "max_steps": "2",
        "data_dir": str(tmp_path),
    }
    path = str(tmp_path / "x.npz")
    data = Data(path, f"make.py --few --data_dir={tmp_path}")
    assert small.data_of(small.rows) == [data]


# The whole command


def reproduce(folder, *arguments, code=0):
    result = programs.run(folder, REPRODUCE, *arguments, timeout=500)
    assert result.code == code, result
    return result


# One for each script; the others differ in their flags alone.
@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["number_prediction", "agreement", "penn_treebank_650_jax"]
)
def test_a_table_is_made_in_small_and_once(tmp_path, name):
    small = (name, "--smoke", f"--runs_dir={tmp_path / 'runs'}")
    kinds = TABLES[name].smoke_version(tmp_path).rows
    if "jax" in TABLES[name].script:
        pytest.importorskip("jax")
        small += ("--engine=jax",)
        isolated.succeeds(isolated.start(REPRODUCE, *small))  # with Keras on JAX
    else:
        reproduce(tmp_path, *small)
    folder = tmp_path / "runs" / "smoke" / "results"
    runs = results.read(folder, name).values()
    assert [run["row"] for run in runs] == [row.name for row in kinds]
    assert all(run["result"]["scores"] and run["epochs"] for run in runs)
    assert all(run["result"]["seconds"] > 0 for run in runs)
    page = (folder / f"{name}.md").read_text()
    assert all(f"| {row.name} | 1/1 |" in page for row in kinds)
    assert "A trial of a few steps" in page
    assert ("shared a program" in page) == ("--engine=jax" in small)
    assert (folder / f"{name}.svg").stat().st_size
    # What is in the results is not done again, even if the run folders are gone.
    shutil.rmtree(folder.parent / name)
    again = reproduce(tmp_path, *small)
    assert f"{name}: 0 runs to do, {len(kinds)} done before." in again.out


def commands(folder, *arguments):
    """The commands of the runs that number prediction still needs."""
    arguments = ("number_prediction", "--dry_run", "--runs_dir=runs", *arguments)
    result = reproduce(folder, *arguments)
    return [line for line in result.out if "rl_train.py" in line]


def test_the_commands_of_a_table_or_a_part_are_printed_first_seeds_first(tmp_path):
    found = commands(tmp_path)
    seeds = [command.partition("--seed=")[2][0] for command in found]
    assert seeds == sorted(seeds)
    rows = TABLES["number_prediction"].rows
    assert len(set(found)) == len(found) == sum(len(row.seeds) for row in rows)
    assert not (tmp_path / "runs").exists()
    done = results.read(RESULTS, "number_prediction")
    missing = [
        run
        for row in rows
        for run in TABLES["number_prediction"].runs(row)
        if results.key(row.name, run.seed, run.settings) not in done
    ]
    assert len(commands(tmp_path, f"--results_dir={RESULTS}")) == len(missing)
    for row in ("10+1, DSC-LSTM", "100+1, LSTM", "100+1, credit last"):
        assert commands(tmp_path, f"--row={row}", f"--results_dir={RESULTS}") == []
    found = commands(tmp_path, "--row=20+1, LSTM", "--max_seeds=2")
    assert len(found) == 2
    assert all("--sequence_length=20 " in c and "--model=lstm" in c for c in found)


def test_a_row_needs_only_the_data_that_its_runs_read():
    digits, more = TABLES["number_prediction"], TABLES["more_numbers"]
    for made_of, n, file in (
        (digits, 0, "digits_10.npz"),
        (digits, 6, "digits_10.npz"),
        (digits, 7, "digits_20.npz"),
        (digits, -1, "digits_10_released.npz"),
        (more, -1, "numbers_below_50_50.npz"),
    ):
        (data,) = made_of.data_of([made_of.rows[n]])
        assert data.path == f"data/{file}"
    assert TABLES["agreement"].data_of(TABLES["agreement"].rows) == []


def test_own_runs_are_shown_beside_those_of_the_study(tmp_path, records):
    first, _, third = table.rows
    writer = TableWriter("name", table, tmp_path)
    writer.records = by_key(record(first, "1", 11.0), record(third, "7", 5.0))
    assert writer.beside(records).splitlines()[2:] == [
        "| first | 1/3 | 11.00 | - |",
        "| first, in results/ | 3/3 | 12.00 ± 2.00 | 2, -, 1 |",
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("table_1",), f"Give the name of one table: {', '.join(TABLES)}."),
        (("agreement", "--row=LSTM", "--row=L"), "--row: the table has no row 'L'; it"),
        (("agreement", "--smoke", "--results_dir=x"), "--smoke keeps its results in"),
        (("agreement", "--results_dir=file"), "file/agreement.json.gz cannot be read"),
        (("agreement", "--runs_dir=file"), "--runs_dir: cannot write to "),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(tmp_path, arguments, said):
    (tmp_path / "file").touch()
    result = reproduce(tmp_path, *arguments, code=1)
    assert (len(result.err), result.out) == (1, [])
    assert result.err[0].startswith(said)


def test_results_of_another_table_are_kept(tmp_path, records):
    results.write(tmp_path, "name", table, results.by_row(table, records))
    kept = (tmp_path / "name.json.gz").read_bytes()
    with pytest.raises(RunError, match=r"name.json.gz holds 4 runs that are not in"):
        TableWriter("name", TABLES["agreement"], tmp_path)
    assert (tmp_path / "name.json.gz").read_bytes() == kept


def test_two_processes_cannot_do_the_runs_of_one_folder(tmp_path):
    with exclusive(tmp_path), pytest.raises(RunError, match="another process does"):
        exclusive(tmp_path)


def test_runs_on_other_data_are_refused(tmp_path):
    kept = finished(tmp_path)
    writer = TableWriter("name", table, tmp_path)
    writer.records = by_key(kept)
    second = table.runs(table.rows[0], tmp_path)[1]
    finish(second.folder, data={"train": "another"})
    with pytest.raises(RunError, match="was trained on other data"):
        writer.add(table.rows[0], second)


def test_runs_of_two_processes_are_kept_side_by_side(tmp_path):
    alike, row = table._replace(columns=table.columns[:1]), table.rows[0]
    writers = [TableWriter("name", alike, tmp_path) for _ in range(2)]
    for writer, run in zip(writers, alike.runs(row, tmp_path), strict=False):
        finish(run.folder, about=ABOUT)
        writer.add(row, run)
    writers[0].write()
    found = results.read(tmp_path, "name")
    assert [kept["seed"] for kept in found.values()] == ["1", "2"]


# The tables


@pytest.mark.parametrize("name", TABLES)
def test_no_two_runs_share_flags_or_a_folder_and_the_script_takes_the_flags(name):
    made_of = TABLES[name]
    runs = [run for row in made_of.rows for run in made_of.runs(row)]
    assert len({run.folder for run in runs}) == len(runs)
    assert len({frozenset(run.flags) for run in runs}) == len(runs)
    grid.parsed(runs, importlib.import_module(SCRIPTS[made_of.script]).FLAGS)


@pytest.mark.parametrize("name", TABLES)
def test_the_pages_show_what_the_records_say(name, tmp_path):
    made_of = TABLES[name]
    rows = results.by_row(made_of, results.read(RESULTS, name))
    results.write(tmp_path, name, made_of, rows)
    for suffix in (".csv", ".md"):
        made_again = (tmp_path / f"{name}{suffix}").read_text(encoding="utf-8")
        assert made_again == (RESULTS / f"{name}{suffix}").read_text(encoding="utf-8")
