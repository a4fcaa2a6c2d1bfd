"""What the commands print and write when all is well."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

import coterie as package

COMMAND = [sys.executable, "-c", "import sys; from coterie.cli import main; sys.exit(main())"]
KEYS = {"run", "data", "method", "n", "k", "seed", "seconds", "skipped"}
METRICS = {"acc", "nmi", "ari", "ece", "confidence"}


def test_nothing_heavy_is_imported_before_a_command_needs_it():
    heavy = ("torch", "sklearn", "pyarrow", "scipy", "numpy", "PIL", "matplotlib", "timm")
    code = f"import sys, coterie, coterie.cli; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


NOWHERE = [
    *(["fit", "nowhere", "-k", "3"], ["fit", "--features", "nowhere", "-k", "3"]),
    *(["embed", "nowhere", "-o", "out"], ["choose-k", "nowhere"], ["duplicates", "nowhere"], ["supervised", "nowhere"]),
    *([name, "nowhere"] for name in ("report", "evaluate", "accept", "review", "export")),
    *(["predict", "nowhere", "nothing.npy", "-o", "out.parquet"], ["recalibrate", "nowhere", "--judged", "a.csv"]),
]


def test_what_is_not_there_is_said_before_anything_heavy_is_imported(tmp_path):
    code = (
        "import json, sys; from coterie.cli import main\n"
        "for words in json.loads(sys.argv[1]):\n"
        "    code = main(words)\n"
        "    print([name for name in ('torch', 'sklearn', 'pyarrow', 'scipy') if name in sys.modules], code)\n"
        "    print('END', file=sys.stderr)"
    )
    command = [sys.executable, "-c", code, json.dumps(NOWHERE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    *told, rest = done.stderr.split("END\n")
    assert rest == ""
    for words, found, said in zip(NOWHERE, done.stdout.splitlines(), told, strict=True):
        assert found == "[] 2", (words, said)
        assert "is no file, no folder and no named data set" in said or "so it is no run folder" in said, words


def test_a_named_set_knows_how_many_groups_the_papers_ask_for(coterie):
    assert coterie("fit", "digits", "--dry-run", "--json").object["n_clusters"] == 10
    assert coterie("fit", "digits", "-k", 7, "--dry-run", "--json").object["n_clusters"] == 7


def test_version_and_help(coterie):
    assert coterie("--version").out == f"coterie {package.__version__}\n"
    for arguments in ((), ("--help",)):
        answer = coterie(*arguments)
        assert answer.code == 0
        for command in ("demo", "fit", "predict", "evaluate", "report", "methods"):
            assert command in answer.out
    for command in ("demo", "fit", "predict", "evaluate", "report", "methods"):
        assert coterie(command, "--help").code == 0


def test_the_installed_command_prints_one_object_and_nothing_else(vectors, tmp_path):
    """Through a real process, with every warning on: progress and warnings go to standard error."""
    arguments = ["fit", str(vectors), "-k", "3", "-o", str(tmp_path / "run"), "--epochs", "2", "--json"]
    done = subprocess.run(
        [COMMAND[0], "-W", "always", *COMMAND[1:], *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout).keys() >= KEYS


def test_without_a_terminal_progress_is_plain_lines_on_standard_error(coterie, vectors, tmp_path):
    answer = coterie("fit", vectors, "-k", 3, "-o", tmp_path / "run", "--epochs", 2)
    assert answer.code == 0
    lines = answer.err.splitlines()
    assert [line for line in lines if line.startswith("cdc epoch 2/2: cluster ")]
    assert "\x1b" not in answer.err
    assert "epoch" not in answer.out
    assert "60 items in 3 groups" in answer.out
    assert str(tmp_path / "run" / "report.html") in answer.out


def test_fit_keeps_its_promises_about_the_object_and_the_folder(coterie, images, quick, tmp_path):
    run = tmp_path / "run"
    answer = coterie("fit", images, "-k", 10, "-o", run, "--seed", 3, "--json", *quick)
    assert answer.code == 0, answer.err
    found = answer.object
    assert found.keys() >= KEYS
    assert (found["run"], found["data"], found["method"]) == (str(run), "pixels", "cdc")
    assert (found["n"], found["k"], found["seed"], found["skipped"]) == (96, 10, 3, 0)
    assert found["metrics"].keys() == METRICS
    assert all(0 <= found["metrics"][name] <= 1 for name in ("acc", "nmi", "ece", "confidence"))
    assert found["heads"].keys() == {"cal", "clu"}
    assert sum(found["sizes"]) == 96
    files = {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}
    wanted = {"run.yaml", "history.jsonl", "result.parquet", "metrics.json", "report.html"}
    assert wanted | {"model/manifest.json", "model/weights.safetensors"} <= files
    assert not [name for name in files if name.endswith((".part", ".pt", ".pkl"))]
    record = yaml.safe_load((run / "run.yaml").read_text())
    assert record["status"] == "done"
    assert [stage["name"] for stage in record["stages"]] == ["moco", "cdc"]
    table = pq.read_table(run / "result.parquet").to_pydict()
    assert table["id"] == [str(row) for row in range(96)]
    assert np.bincount(table["label"], minlength=10).tolist() == found["sizes"]
    for label, confidence, row in zip(table["label"], table["confidence"], table["probabilities"], strict=True):
        assert label == int(np.argmax(row))
        assert confidence == max(row)
        assert abs(sum(row) - 1) < 1e-5


def test_embeddings_without_labels_have_no_metrics(coterie, vectors, tmp_path):
    found = coterie("fit", vectors, "-k", 3, "-o", tmp_path / "run", "--epochs", 1, "--json").object
    assert "metrics" not in found
    assert not (tmp_path / "run" / "metrics.json").exists()


def test_embeddings_are_stored_where_it_is_asked_for(coterie, vectors, tmp_path):
    words = ("fit", vectors, "-k", 3, "--epochs", 1, "--set")
    assert coterie(*words, "store_embedding=true", "-o", tmp_path / "run").code == 0
    assert "embedding" in pq.read_schema(tmp_path / "run" / "result.parquet").names
    assert coterie(*words, "store_embedding=5", "-o", tmp_path / "other").code == 2


def test_predict_gives_what_fit_gave(coterie, finished, images, tmp_path):
    out = tmp_path / "deep" / "new.parquet"
    answer = coterie("predict", finished, images, "-o", out, "--json")
    assert answer.code == 0, answer.err
    found = answer.object
    assert (found["n"], found["k"], found["skipped"], found["table"]) == (96, 10, 0, str(out))
    old, new = (pq.read_table(path) for path in (finished / "result.parquet", out))
    assert old.equals(new.drop_columns(["ood_score"]))
    said = coterie("predict", finished, images, "-o", out, "--embedding")
    assert "96 items assigned" in said.out
    assert len(pq.read_table(out)["embedding"][0]) == 32


def test_evaluate_uses_the_sources_labels_or_a_file(coterie, finished, tmp_path):
    run = shutil.copytree(finished, tmp_path / "run")
    (run / "report.html").unlink()
    answer = coterie("evaluate", run, "--json")
    assert KEYS | {"metrics"} <= answer.object.keys()
    assert answer.object["metrics"].keys() >= METRICS
    assert (run / "report.html").exists()
    labels = pq.read_table(run / "result.parquet")["label"].to_pylist()
    (tmp_path / "mine.csv").write_text("\n".join(["label", *map(str, labels)]))
    perfect = coterie("evaluate", run, "--labels", tmp_path / "mine.csv", "--json").object["metrics"]
    assert perfect["acc"] == 1
    assert "1.000" in coterie("evaluate", run, "--labels", tmp_path / "mine.csv").out


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ({3: "cat"}, "Only 1 labelled item: no number here says anything of the run"),
        ({3: "cat", 4: "dog", 5: "dog"}, "Only 3 labelled items: "),
        (dict.fromkeys(range(40), "cat"), "All labelled items are of one class: "),
        ({row: "cat" if row % 2 else "dog" for row in range(40)}, ""),
    ],
)
def test_labels_that_measure_nothing_are_said(coterie, finished, tmp_path, labels, words):
    run = shutil.copytree(finished, tmp_path / "run")
    (tmp_path / "mine.csv").write_text("id,label\n" + "".join(f"{row},{labels.get(row, '')}\n" for row in range(96)))
    said = coterie("evaluate", run, "--labels", tmp_path / "mine.csv").out
    assert words in said
    assert words or not ("Only" in said or "All labelled" in said)


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
@pytest.mark.parametrize("command", ["export", "accept"])
def test_the_groups_of_the_run_are_said_to_be_no_truth(coterie, finished, tmp_path, command, ending):
    run, table = shutil.copytree(finished, tmp_path / "run"), tmp_path / f"table{ending}"
    options = ("--to", ending[1:]) if command == "export" else ("--max-error", 0.9)
    assert coterie(command, run, *options, "-o", table).code == 0
    assert "of the truth" in coterie("evaluate", run, "--labels", table).out


def test_report_is_written_again(coterie, finished, tmp_path):
    run = shutil.copytree(finished, tmp_path / "run")
    (run / "report.html").unlink()
    assert coterie("report", run, "--json").object == {"run": str(run), "report": str(run / "report.html")}
    assert "96 images in 10 groups" in (run / "report.html").read_text()
    assert coterie("report", run).out == f"{run / 'report.html'}\n"


def test_methods_are_listed_with_their_settings(coterie):
    entries = json.loads(coterie("methods", "--json").out)
    for entry in entries:
        assert {"name", "paper", "year", "family", "stages", "settings"} <= entry.keys()
        assert entry["name"] in coterie("methods").out
    by_name = {entry["name"]: entry for entry in entries}
    assert by_name["cdc"]["stages"] == ["moco", "cdc"]
    assert by_name["cdc"]["settings"]["cells"] == 500
    assert [entry["name"] for entry in json.loads(coterie("methods", "cdc", "--json").out)] == ["cdc"]
    assert "entropy_weight" in coterie("methods", "cdc").out


def test_the_list_of_methods_is_a_table_whose_titles_stand_under_each_other(coterie):
    names = [entry["name"] for entry in json.loads(coterie("methods", "--json").out)]
    lines = coterie("methods").out.splitlines()
    assert [line.split()[0] for line in lines] == names
    begin = max(map(len, names)) + 2
    assert all(
        line[:begin] == f"{name:<{begin}}" and line[begin] != " " for name, line in zip(names, lines, strict=True)
    )


def completed(words):
    """What bash would offer for the last of these words, by the function that `--show-completion bash` prints."""
    asked = {"_COTERIE_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    done = subprocess.run(COMMAND, env=os.environ | asked, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


def test_shells_complete_commands_options_methods_and_encoders():
    assert completed("coterie rec") == ["recalibrate"]
    assert completed("coterie fit photos --pretr") == ["--pretrain", "--pretrained"]
    assert completed("coterie fit photos --method agg") == ["agglomerative"]
    assert completed("coterie embed photos --encoder dinov2-s") == ["dinov2-small"]
    assert completed("coterie methods kme") == ["kmeans"]


def test_a_dry_run_shows_the_plan_and_writes_nothing(coterie, images, quick, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answer = coterie("fit", images, "-k", 10, "-o", "run", "--dry-run", "--json", *quick)
    assert answer.code == 0, answer.err
    assert (answer.object["n"], answer.object["k"], answer.object["seed"]) == (96, 10, 0)
    assert answer.object["stages"][0]["settings"]["queue"] == 48
    assert yaml.safe_load(coterie("fit", images, "-k", 10, "--dry-run").out)["n_clusters"] == 10
    assert list(tmp_path.iterdir()) == []


def test_options_win_over_the_configuration(coterie, images, tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text("n_clusters: 5\nseed: 4\nbackbone: small-8\nmoco: {epochs: 3}\ncdc: {cells: 9, hidden: 20}\n")
    arguments = ("fit", images, "--config", config, "--dry-run", "--json")
    plan = coterie(*arguments).object
    assert (plan["k"], plan["seed"], plan["backbone"]["name"]) == (5, 4, "small-8")
    moco, cdc = plan["stages"]
    assert (moco["epochs"], cdc["settings"]["cells"], cdc["settings"]["hidden"]) == (3, 9, 20)
    options = ("-k", 6, "--seed", 1, "--epochs", 7, "--set", "method.cells=11", "--set", "views.flip=0.25")
    plan = coterie(*arguments, *options).object
    moco, cdc = plan["stages"]
    assert (plan["k"], plan["seed"], moco["epochs"], cdc["epochs"]) == (6, 1, 3, 7)
    assert (cdc["settings"]["cells"], cdc["settings"]["hidden"], plan["views"]["flip"]) == (11, 20, 0.25)


def test_the_command_line_wins_over_the_configuration_by_every_name_of_a_setting(coterie, vectors, tmp_path):
    config = tmp_path / "c.yaml"
    for written, given in (
        ("cdc: {epochs: 5}", ("--epochs", 2)),
        ("epochs: 5", ("--set", "cdc.epochs=2")),
        ("cdc: {cells: 5, epochs: 2}", ("--set", "method.cells=3")),
    ):
        config.write_text(f"n_clusters: 3\nmethod: cdc\n{written}\n")
        plan = coterie("fit", vectors, "--config", config, "--dry-run", "--json", *given).object
        assert plan["stages"][-1]["epochs"] == 2
        assert plan["stages"][-1]["settings"]["cells"] != 5


@pytest.mark.parametrize(("written", "read"), [("010", 10), ("1e1", 10), ("1_0", None), ("0x10", None), ("1:30", None)])
def test_numbers_of_settings_are_decimal(coterie, vectors, tmp_path, written, read):
    fit = ("fit", vectors, "-k", 3, "--method", "cdc", "--dry-run", "--json")
    (tmp_path / "c.yaml").write_text(f"cdc: {{hidden: {written}}}")
    for given in (("--set", f"cdc.hidden={written}"), ("--config", tmp_path / "c.yaml")):
        answer = coterie(*fit, *given)
        if read is None:
            takes = "a number in plain digits" if "_" in written else "a whole number"
            assert f"cdc.hidden is '{written}': it takes {takes}." in answer.err
        else:
            assert answer.object["stages"][-1]["settings"]["hidden"] == read


@pytest.mark.parametrize("names", [("hidden", "cdc.hidden"), ("method.hidden", "hidden")])
def test_a_setting_has_one_name_in_a_command(coterie, vectors, names):
    fit = ("fit", vectors, "-k", 3, "--method", "cdc", "--dry-run", "--json", "--set", f"{names[0]}=16", "--set")
    answer = coterie(*fit, f"{names[1]}=32")
    assert answer.code == 2
    assert f"--set {names[0]}" in answer.err
    assert coterie(*fit, f"{names[1]}=16").object["stages"][-1]["settings"]["hidden"] == 16


def test_a_run_may_start_from_another_ones_backbone(coterie, finished, images, tmp_path):
    plan = coterie("fit", images, "-k", 4, "--init", finished, "--dry-run", "--json").object
    assert [stage["name"] for stage in plan["stages"]] == ["cdc"]
    assert plan["backbone"]["name"] == "small-4"
    run = tmp_path / "run"
    answer = coterie("fit", images, "-k", 4, "--init", finished, "-o", run, "--epochs", 1, "--json")
    assert answer.object["k"] == 4


def test_the_run_to_start_from_is_known_by_its_net_wherever_it_lies(coterie, grouped, vectors, tmp_path, monkeypatch):
    shutil.copytree(grouped, tmp_path / "before")
    again = ("fit", vectors, "-k", 3, "--epochs", 1, "-o", tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    assert coterie(*again, "--init", "before").code == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert coterie(*again, "--init", "../before", "--resume").code == 0, "the same folder, typed in another one"
    shutil.move(tmp_path / "before", tmp_path / "moved")
    assert coterie(*again, "--init", "../moved", "--resume").code == 0
    shutil.rmtree(tmp_path / "moved")
    assert coterie("fit", vectors, "-k", 3, "--epochs", 1, "--seed", 5, "-o", "../moved").code == 0
    answer = coterie(*again, "--init", "../moved", "--resume")
    assert answer.code == 2
    assert f"was begun with --init = '{tmp_path}/moved, sha256 " in answer.err


def test_a_run_goes_on_without_the_run_that_it_started_from(coterie, grouped, vectors, tmp_path):
    before, run, whole = (tmp_path / name for name in ("before", "run", "whole"))
    shutil.copytree(grouped, before)
    fit = ("fit", vectors, "-k", 3, "--epochs", 2, "--init")
    assert coterie(*fit, before, "-o", run).code == 0
    shutil.copytree(run, whole)
    shutil.rmtree(before)
    for file in (run / "checkpoints").glob("*.safetensors"):
        file.unlink()  # as after a kill in the first minute
    answer = coterie(*fit, before, "-o", run, "--resume")
    assert answer.code == 0, answer.err
    assert f"{before} is not there any more: the run goes on with the model that it kept of it." in answer.err
    found = [pq.read_table(one / "result.parquet")["label"].to_pylist() for one in (run, whole)]
    assert found[0] == found[1]
    other = coterie(*fit, tmp_path / "mistyped", "-o", run, "--resume")
    assert other.code == 2
    assert "There is no model at" in other.err
    assert coterie(*fit, before, "-o", tmp_path / "new").code == 2


def test_a_finished_run_may_be_resumed_and_stays_the_same(coterie, finished, images, quick, tmp_path):
    run = shutil.copytree(finished, tmp_path / "run")
    answer = coterie("fit", images, "-k", 10, "-o", run, "--resume", "--json", *quick)
    assert answer.code == 0, answer.err
    assert pq.read_table(run / "result.parquet").equals(pq.read_table(finished / "result.parquet"))
    assert (run / "history.jsonl").read_text() == (finished / "history.jsonl").read_text()


def test_without_an_output_folder_each_run_gets_its_own(coterie, vectors, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs = [coterie("fit", vectors, "-k", 3, "--epochs", 0, "--json").object["run"] for _ in range(2)]
    assert runs == ["runs/vectors-cdc", "runs/vectors-cdc-2"]
    assert all(Path(run, "report.html").exists() for run in runs)


@pytest.mark.parametrize("form", ["csv", "npy", "json"])
def test_labels_of_the_user_are_used_only_afterwards(coterie, vectors, tmp_path, form):
    truth, path = np.arange(60) % 3, tmp_path / f"labels.{form}"
    if form == "csv":
        path.write_text("id,label\n" + "".join(f"{row},{label}\n" for row, label in enumerate(truth)))
    elif form == "npy":
        np.save(path, truth)
    else:
        path.write_text(json.dumps(truth.tolist()))
    arguments = ("fit", vectors, "-k", 3, "--epochs", 1, "--json")
    answer = coterie(*arguments, "-o", tmp_path / "with", "--labels", path)
    assert answer.object["metrics"].keys() == METRICS
    coterie(*arguments, "-o", tmp_path / "without")
    tables = [pq.read_table(tmp_path / name / "result.parquet") for name in ("with", "without")]
    assert tables[0].equals(tables[1])


@pytest.mark.parametrize(
    "given",
    [
        ("fit", "vectors", "-k", "3", "-o", ""),
        ("fit", "vectors", "-k", "3", "--output="),
        ("fit", "vectors", "-k", "3", "--labels", ""),
        ("predict", "run", "vectors", "-o", ""),
        ("accept", "run", "--judged", ""),
    ],
)
def test_an_empty_value_is_not_the_working_directory(coterie, tmp_path, monkeypatch, given):
    monkeypatch.chdir(tmp_path)
    answer = coterie(*given)
    assert answer.code == 2
    assert "has an empty value: is a variable of the shell not set?" in answer.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b"no picture"])
def test_one_picture_that_cannot_be_read_is_named(coterie, finished, tmp_path, content):
    (tmp_path / "one.png").write_bytes(content)
    answer = coterie("predict", finished, tmp_path / "one.png", "-o", tmp_path / "p.parquet")
    assert answer.code == 2
    assert "The picture one.png cannot be read (" in answer.err
    assert "max_skipped" not in answer.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("fit", "digits", "-k", "3", "--n-clusters=4"), "--n-clusters is given twice, as 3 and 4: leave one out."),
        (("fit", "digits", "-o", "a", "-k", "3", "--output", "b"), "--output is given twice, as a and b"),
        (("fit", "digits", "--calibrate", "--no-calibrate"), "--calibrate and --no-calibrate are both given"),
        (("fit", "digits", "--set", "cdc.cells=1", "--set", "cdc.cells=2"), "--set cdc.cells is given twice"),
        (("export", "run", "--to", "csv", "--to", "hf", "-o", "x"), "--to is given twice, as csv and hf"),
        (("fit", "digits", "-k", "1_0"), "-k (n_clusters) is '1_0': it takes a number in plain digits"),
        (("fit", "digits", "-k", "3", "--seed", "1_0"), "--seed is '1_0': it takes a whole number."),
        (("fit", "digits", "-k", "3", "--seed", "1.5"), "--seed is '1.5': it takes a whole number."),
        (("choose-k", "digits", "--most", "١٢"), "--most is '١٢': it takes a whole number."),
        (("accept", "run", "--max-error", "0.0_5"), "--max-error is '0.0_5': it takes a number."),
        (("fit", "digits", "-o", "-"), "-o - names no file"),
        (("compare", "a", "b", "--output=-"), "-o - names no file"),
    ],
)
def test_values_that_would_be_taken_for_others_are_refused(coterie, arguments, says):
    answer = coterie(*arguments)
    assert answer.code == 2
    assert says in answer.err


def test_an_option_may_be_repeated_with_the_same_value_and_a_list_with_others(coterie, vectors):
    same = ("-k", 3, "--n-clusters", "3", "--set", "kmeans.restarts=2", "--set", "kmeans.restarts=2", "-q", "--quiet")
    assert coterie("fit", vectors, "--method", "kmeans", *same, "--set", "views.vector_mix=0.2", "--dry-run").code == 0
