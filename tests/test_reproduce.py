"""The study: its tables are made of their runs, and the README shows what they say."""

import csv
import json
import statistics

import processes
import pytest
import reproduce_results
from reproduce_tables import TABLES, Column, Data, Row, Table, entropy, epochs_to, score
from test_runs import EPOCH, REPORT, made

REPRODUCE = processes.ROOT / "scripts" / "reproduce.py"
RESULTS = processes.ROOT / "results"
README = processes.ROOT / "README.md"
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
        Column("reached", epochs_to(0.5), "d", apart=True),
    ),
    (Data("data/x.npz", "make.py", "--few"), Data("data/y", "fetch.py")),
    {"max_steps": "2"},
)


def record(row, seed, perplexity, accuracies=(), entropies=((1, 0.5),)):
    run = table.runs(row)[row.seeds.index(seed)]
    return {
        "row": row.name,
        "seed": seed,
        "command": reproduce_results.command(TRAIN, run),
        "scores": {"test perplexity": perplexity},
        "epochs": [
            {"epoch": i, "valid accuracy (greedy)": a}
            for i, a in enumerate(accuracies, 1)
        ],
        "reports": [
            {"epoch": epoch, "entropy": e, "actions": [0.5, 0.5]}
            for epoch, e in entropies
        ],
        "config": {
            "about": {
                "machine": "a machine",
                "versions": {"keras": "3"},
                "git_commit": "abc",
            }
        },
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
    return {r["command"]: r for r in found}


def test_a_command_is_one_that_others_can_type():
    run = table.runs(table.rows[1])[1]
    assert reproduce_results.command(TRAIN, run) == (
        f"python {TRAIN} --max_epochs=3 --lamda=0.5 --seed=2"
    )


def finished(tmp_path, output):
    """What is kept of a run that printed this."""
    row, report = table.rows[0], {**REPORT, "nll": 2.123456789, "grad_norm": 4.0}
    (run,) = table.runs(row, tmp_path)[:1]
    run.folder.parent.mkdir(parents=True)
    made(run.folder, [report, {**EPOCH, "valid last actions by index": [[1]]}])
    (run.folder / "output.txt").write_text(output)
    return reproduce_results.record(row, run, TRAIN, {"test perplexity": 3.0})


def test_of_a_run_is_kept_what_others_can_compare(tmp_path):
    output = "epoch 1 done in 0:50: x = 1\nnoise\nepoch 2 done in 1:02:03: x = 2\n"
    kept = finished(tmp_path, output)
    assert kept["seconds"] == 50 + 3600 + 2 * 60 + 3
    assert kept["epochs"] == [EPOCH]
    (report,) = kept["reports"]
    assert report["nll"] == 2.1235
    assert report["actions"] == REPORT["actions"]
    assert "grad_norm" not in report
    assert kept["config"]["about"] == {"corpus": "x"}
    assert "train_dir" not in kept["config"]


def test_the_time_of_an_interrupted_run_is_not_known(tmp_path):
    output = "epoch 1 done in 0:50: x\nGoing on after step 9, from x.\n"
    assert finished(tmp_path, output + "epoch 2 done in 0:10: x\n")["seconds"] is None


def test_the_table_has_means_deviations_and_what_is_missing(records):
    rows = reproduce_results.by_row(table, records)
    assert reproduce_results.as_table(table, rows).splitlines() == [
        "|  | seeds | test | reached |",
        "| --- | --- | --- | --- |",
        "| first | 3/3 | 12.00 ± 2.00 | 2, -, 1 |",
        "| second | 1/2 | 8.00 | - |",
        "",
        "Still to be run: third.",
    ]


def test_the_files_hold_every_run_and_are_read_again(tmp_path, records):
    rows = reproduce_results.by_row(table, records)
    reproduce_results.write(tmp_path, "name", table, rows)
    assert reproduce_results.read(tmp_path / "name.json") == records
    with open(tmp_path / "name.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["test"] for line in lines] == ["10.0", "12.0", "14.0", "8.0"]
    assert [line["command"] for line in lines] == list(records)
    page = (tmp_path / "name.md").read_text()
    assert page.count("\n    python language_modeling/rl_train.py") == len(records)
    assert "- a machine; keras 3; commit abc\n" in page


def test_a_run_with_other_flags_is_no_run_of_the_table(records):
    other = table._replace(flags={"max_epochs": "4"})
    rows = reproduce_results.by_row(other, records)
    assert [found for _, found in rows] == [[None] * 3, [None] * 2, [None]]


def test_a_results_file_that_is_damaged_is_refused(tmp_path):
    (tmp_path / "x.json").write_text('{"runs": [{}]}')
    with pytest.raises(reproduce_results.RunError, match="restore it, or delete it"):
        reproduce_results.read(tmp_path / "x.json")
    assert reproduce_results.read(tmp_path / "none.json") == {}


def test_entropy_is_that_of_the_last_epoch_and_of_a_choice():
    one = record(table.rows[0], "1", 1.0, entropies=((1, 0.9), (2, 0.2), (2, 0.4)))
    assert entropy(one) == pytest.approx(0.3)
    one["reports"][0]["actions"] = [1.0]
    one["reports"] = one["reports"][:1]
    assert entropy(one) is None


def test_a_table_is_put_between_its_comments_and_nowhere_else(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- x -->\nold\n<!-- end of x -->\nb <!-- xy -->\n")
    reproduce_results.show(page, "x", "new")
    reproduce_results.show(page, "y", "other")
    expected = "a\n<!-- x -->\n\nnew\n\n<!-- end of x -->\nb <!-- xy -->\n"
    assert page.read_text() == expected


def test_the_small_table_has_a_run_of_two_rows_on_little_data(tmp_path):
    small = table.as_smoke(tmp_path)
    assert [row.name for row in small.rows] == ["first", "second"]
    assert [row.seeds for row in small.rows] == [("1",), ("1",)]
    assert small.rows[1].flags == {
        "lamda": "0.5",
        "max_steps": "2",
        "data_dir": str(tmp_path),
    }
    path = str(tmp_path / "x.npz")
    assert small.data == (Data(path, f"make.py --few --data_dir={tmp_path}"),)


# The whole command


def reproduce(folder, *arguments, code=0):
    result = processes.run(folder, REPRODUCE, *arguments, timeout=500)
    assert result.code == code, result
    return result


@pytest.mark.parametrize("name", TABLES)
def test_every_table_is_made_in_small_and_once(tmp_path, name):
    small = (name, "--smoke", "--runs_dir=runs")
    reproduce(tmp_path, *small)
    folder = tmp_path / "runs" / "smoke" / "results"
    kinds = TABLES[name].as_smoke(tmp_path).rows
    runs = json.loads((folder / f"{name}.json").read_text())["runs"]
    assert [run["row"] for run in runs] == [row.name for row in kinds]
    assert all(run["scores"] and run["epochs"] for run in runs)
    page = (folder / f"{name}.md").read_text()
    assert all(f"| {row.name} | 1/1 |" in page for row in kinds)
    assert (folder / f"{name}.svg").stat().st_size
    # What is in the results is not done again, even where the runs are gone.
    again = reproduce(tmp_path, *small, "--runs_dir=gone", f"--results_dir={folder}")
    assert f"{name}: 0 runs to do, {len(kinds)} done before." in again.out
    assert not list((tmp_path / "gone").glob("smoke/*/*/*"))


def commands(folder, *arguments):
    """The commands of the runs that number prediction still needs, with no results."""
    arguments = ("number_prediction", "--dry_run", "--results_dir=none", *arguments)
    result = reproduce(folder, *arguments)
    return [line for line in result.out if "rl_train.py" in line]


def test_the_commands_are_printed_the_first_seeds_first(tmp_path):
    found = commands(tmp_path)
    seeds = [command.partition("--seed=")[2][0] for command in found]
    assert seeds == sorted(seeds)
    rows = TABLES["number_prediction"].rows
    assert len(set(found)) == len(found) == sum(len(row.seeds) for row in rows)
    assert not list(tmp_path.glob("cv-study"))


def test_a_user_may_do_a_part_of_a_table(tmp_path):
    found = commands(tmp_path, "--rows=20+1, LSTM", "--max_seeds=2")
    assert len(found) == 2
    assert all("--sequence_length=20 " in c and "--model=lstm" in c for c in found)


def test_a_table_that_is_none_is_refused_with_those_that_are(tmp_path):
    result = reproduce(tmp_path, "table_1", code=1)
    assert result.err == [f"Give the name of one table: {', '.join(TABLES)}."]


# What is committed


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda p: p.stem)
def test_the_readme_shows_what_the_results_say(path, tmp_path):
    made_of = TABLES[path.stem]
    rows = reproduce_results.by_row(made_of, reproduce_results.read(path))
    reproduce_results.write(tmp_path, path.stem, made_of, rows)
    for suffix in ("json", "csv", "md"):
        made = (tmp_path / f"{path.stem}.{suffix}").read_text(encoding="utf-8")
        assert made == path.with_suffix(f".{suffix}").read_text(encoding="utf-8")
    shown = reproduce_results.as_table(made_of, rows)
    assert f"<!-- {path.stem} -->\n\n{shown}\n\n<!--" in README.read_text("utf-8")


def test_number_prediction_makes_no_mistakes_at_any_length():
    path = RESULTS / "number_prediction.json"
    made_of = TABLES[path.stem]
    rows = reproduce_results.by_row(made_of, reproduce_results.read(path))
    for row, found in rows:
        if row.name.endswith(", DSC-LSTM"):
            greedy = [made_of.columns[0].value(record) for record in found]
            assert min(greedy) >= 99.95
            assert statistics.fmean(greedy) == pytest.approx(100, abs=0.05)
