"""`coterie fit --runs`: several seeds, one table, and which to trust."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, fields, replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from coterie import Clusterer, load
from coterie.cli import several as cli_several
from coterie.cli.folders import run_folder
from coterie.cli.several import NOT_COMPARED, check_alike, first_begun
from coterie.pipeline import run
from coterie.prediction.results import read_result
from coterie.records import read_record
from coterie.running.prepared import plain, plain_settings
from coterie.several import check_folder_of_runs, fit_each
from coterie.training.plan import RunSettings
from coterie.training.runfolder import Done, Held
from coterie.types import Encoding, InputError, ItemSpec, RunFailed
from helpers import forked

QUICK = ("--method", "ae", "--epochs", 1, "--no-calibrate", "-q")


def test_several_seeds_are_matched(coterie, vectors, tmp_path):
    out = tmp_path / "out"
    answer = coterie("fit", vectors, "-k", 3, "--runs", 3, "-o", out, *QUICK)
    assert answer.code == 0, answer.err
    assert "The answer:" in answer.out
    found = json.loads((out / "ensemble.json").read_text())
    assert found["runs"] == ["seed-0", "seed-1", "seed-2"]
    assert found["trust"]["bound"] <= 1
    assert "Which to trust" in (out / "compare.html").read_text()
    table, own = read_result(out / "ensemble.parquet"), read_result(out / found["medoid"] / "result.parquet")
    assert (table.labels == own.labels).all()
    runs = [read_result(out / name / "result.parquet") for name in found["runs"]]
    # Every group is clear here, so the confidence is the mean of the runs'.
    if all((np.bincount(run.labels) == np.bincount(runs[0].labels)).all() for run in runs):
        assert table.confidence.mean() <= max(run.confidence.mean() for run in runs) + 1e-3
    assert pq.read_table(out / "ensemble.parquet").column_names[:3] == ["id", "label", "confidence"]
    for command, *more in (("review",), ("report",), ("predict", vectors, "-o", tmp_path / "x.parquet")):
        answer = coterie(command, out, *more)
        assert answer.code == 2
        assert f"{out} holds runs and is none itself: give one of them, such as {out / 'seed-0'}." in answer.err
    for command, *more in (("choose-k",), ("duplicates",), ("fit", "-k", 3)):  # their ensemble is no table of items
        answer = coterie(command, out, *more)
        assert answer.code == 2
        assert f"{out} holds runs and no items: give the source that they were fitted on; or one of them" in answer.err
    again = coterie("fit", vectors, "-k", 3, "--runs", 3, "-o", out, *QUICK)
    assert again.code == 2
    assert "already holds runs" in again.err
    (out / "seed-1" / "result.parquet").unlink()  # a run without its answers, or its model, is not done
    (out / "seed-0" / "model" / "weights.safetensors").unlink()
    (tmp_path / "y.csv").write_text("id,kind\n3,a\n4,b\n")
    labels = ("--labels", tmp_path / "y.csv")
    resumed = coterie("fit", vectors, "-k", 3, "--runs", 3, "-o", out, "--resume", "--json", *labels, *QUICK)
    assert resumed.object["medoid"] == found["medoid"]
    said = resumed.object["labels"]  # as of a single fit
    assert said.startswith("column kind of y.csv")
    assert said.endswith("Only 2 labelled items: no number here says anything of the run")
    assert json.loads((out / "ensemble.json").read_text())["labels"] == said
    assert read_result(out / "seed-1" / "result.parquet").labels.tolist() == runs[1].labels.tolist()
    assert (out / "seed-0" / "model" / "weights.safetensors").exists()


def test_two_processes_share_the_seeds_and_none_is_fitted_twice(coterie, vectors, tmp_path):
    words = ("fit", vectors, "-k", 3, "--runs", 2, *QUICK, "--device", "cpu", "--resume")
    both = [forked.start(forked.COTERIE, *words, "-o", tmp_path / "both") for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0], [process.output(2) for process in both]
    assert coterie(*words, "-o", tmp_path / "one").code == 0
    for seed in range(2):
        one, other = (tmp_path / name / f"seed-{seed}" for name in ("one", "both"))
        assert (one / "result.parquet").read_bytes() == (other / "result.parquet").read_bytes()
        # A stage that was trained again would have told its epoch again.
        assert len((one / "history.jsonl").read_text().splitlines()) == len(
            (other / "history.jsonl").read_text().splitlines()
        )
    assert (tmp_path / "one" / "ensemble.parquet").read_bytes() == (tmp_path / "both" / "ensemble.parquet").read_bytes()
    changed = coterie(*words[:-1], "--set", "ae.batch_size=64", "--resume", "-o", tmp_path / "both")
    assert changed.code == 2
    assert "was begun with overrides" in changed.err


def test_a_run_that_another_process_has_just_finished_is_left_as_it_is(grouped, vectors):
    """Between a look at the record and the lock: resumed again, it would be `running` while others read its result."""
    before = {path: path.read_bytes() for path in grouped.rglob("*") if path.is_file()}
    with pytest.raises(Done, match="is done"):
        run(str(vectors), RunSettings(n_clusters=3, epochs=1), grouped, resume="unfinished")
    assert {path: path.read_bytes() for path in grouped.rglob("*") if path.is_file()} == before


def test_a_run_that_another_process_has_is_asked_for_last(tmp_path, monkeypatch):
    monkeypatch.setattr("coterie.several.PATIENCE", 0.0)
    busy, asked, waited = {0: 2, 1: 1}, [], []

    def fit(seed, n_clusters, folder):
        asked.append((seed, n_clusters))
        if busy.get(seed, 0) > 0:
            busy[seed] -= 1
            raise Held("another has it")
        return 4

    fit_each(range(3), 4, fit, tmp_path, waited.append)
    assert [seed for seed, _ in asked] == [0, 1, 2, 0, 1, 0]
    assert waited == []
    busy, asked = {0: 2}, []
    fit_each(range(2), "auto", fit, tmp_path, waited.append)  # nobody but the first run looks for their number
    assert asked == [(0, "auto"), (0, "auto"), (0, "auto"), (1, 4)]
    assert waited == [["seed-0", "seed-1"]]


def test_a_run_that_fails_is_named_by_its_seed_and_what_is_done_stays(tmp_path):
    def fit(seed, n_clusters, folder):
        if seed == 5:
            raise RunFailed("The run collapsed.", "Try less.")
        return 3

    with pytest.raises(RunFailed) as failed:
        fit_each(range(3, 8), 3, fit, tmp_path)
    kept = f"{tmp_path / 'seed-3'} and {tmp_path / 'seed-4'} are done and kept."
    assert str(failed.value) == f"Seed 5: The run collapsed. Try less. {kept}"
    with pytest.raises(RunFailed, match=r"^Seed 5: The run collapsed\. Try less\.$"):
        fit_each(range(5, 7), 3, fit)


def test_seeds_whose_run_fails_are_left_out_where_one_says_so(coterie, vectors, tmp_path, monkeypatch):
    """A seed that fails each time kept all others from being fitted, and those that were from being compared."""
    broken, whole = {1}, cli_several.fit_run

    def fit_run(request):
        if request.settings["seed"] in broken:
            raise RunFailed("The run collapsed.", "Try less.")
        return whole(request)

    monkeypatch.setattr(cli_several, "fit_run", fit_run)
    out, words = tmp_path / "out", ("-k", 3, "--runs", 4, *QUICK)
    answer = coterie("fit", vectors, *words, "-o", out)
    assert answer.code == 1
    kept = f"{out / 'seed-0'} is done and kept."
    assert f"Seed 1: The run collapsed. Try less. {kept} --resume --skip-failed goes on without" in answer.err
    answer = coterie("fit", vectors, *words, "-o", out, "--resume", "--skip-failed", "--json")
    assert answer.code == 0, answer.err
    assert answer.object["runs"] == ["seed-0", "seed-2", "seed-3"]
    assert answer.object["failed"] == {"seed-1": "The run collapsed."}
    assert answer.object["notes"] == ["seed-1 is left out, for its run failed: The run collapsed."]
    assert json.loads((out / "ensemble.json").read_text())["failed"] == answer.object["failed"]
    broken |= {0, 2}
    answer = coterie("fit", vectors, *words, "-o", tmp_path / "none", "--skip-failed")
    assert answer.code == 1
    assert "3 of 4 runs failed, so there are no two to compare: The run collapsed." in answer.err
    broken.clear()
    answer = coterie("fit", vectors, *words, "-o", out, "--resume", "--skip-failed", "--json")
    assert len(answer.object["runs"]) == 4
    assert "failed" not in answer.object
    assert "with --runs" in coterie("fit", vectors, "-k", 3, "-o", tmp_path / "x", "--skip-failed").err


@pytest.mark.parametrize(("refusal", "stays"), [(Held, True), (InputError, False)])
def test_a_folder_that_another_process_made_meanwhile_stays(tmp_path, refusal, stays):
    def begin():
        with run_folder(tmp_path / "run", "x") as folder:
            folder.mkdir()
            raise refusal("no")

    with pytest.raises(refusal):
        begin()
    assert (tmp_path / "run").is_dir() is stays


def test_several_runs_need_a_number_and_a_folder_of_their_own(coterie, vectors, tmp_path):
    assert "The number of runs is 0" in coterie("fit", vectors, "-k", 3, "--runs", 0, "-o", tmp_path / "x").err
    assert "give it with -o" in coterie("fit", vectors, "-k", 3, "--runs", 2).err
    (tmp_path / "mine.txt").write_text("mine")
    answer = coterie("fit", vectors, "-k", 3, "--runs", 2, "-o", tmp_path)
    assert answer.code == 2
    assert "holds other files" in answer.err
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".ensemble.json.123.part").write_text("half")  # what a killed command left is no run
    check_folder_of_runs(tmp_path / "out", ["seed-0", "seed-1"])
    (tmp_path / "out" / "seed-0").mkdir()
    with pytest.raises(InputError, match="already holds runs"):
        check_folder_of_runs(tmp_path / "out", ["seed-0", "seed-1"])


def test_the_same_as_on_the_command_line(coterie, vectors, tmp_path):
    asked = ("-k", 3, "--seed", 1, "--runs", 2, *QUICK)
    answer = coterie("fit", vectors, "-o", tmp_path / "cli", "--json", *asked)
    found = answer.object
    assert found["runs"] == ["seed-1", "seed-2"]  # one object for all, and nothing beside it
    middle = read_record(tmp_path / "cli" / found["medoid"])
    assert (found["run"], found["data"], found["method"]) == (str(tmp_path / "cli"), "vectors", "ae")
    assert (found["n"], found["k"], found["seed"], found["skipped"]) == (60, 3, middle["seed"], 0)
    assert found["seconds"] >= middle["seconds"]
    assert "Which to trust" in (tmp_path / "cli" / "compare.html").read_text()  # with --json, too
    same = {"method": "ae", "epochs": 1, "calibrate": False}
    model = Clusterer(3, random_state=1, runs=2, output=tmp_path / "python", **same).fit(vectors)
    said, own = (json.loads((tmp_path / name / "ensemble.json").read_text()) for name in ("cli", "python"))
    assert said == own == json.loads(json.dumps(model.runs_))
    tables = [read_result(tmp_path / name / "ensemble.parquet") for name in ("cli", "python")]
    np.testing.assert_array_equal(tables[0].confidence, tables[1].confidence)
    np.testing.assert_array_equal(tables[1].labels, model.labels_)
    kept = load(tmp_path / "python" / own["medoid"])
    np.testing.assert_array_equal(kept.predict(np.load(vectors)), model.labels_)
    with pytest.raises(InputError, match="already holds runs"):
        Clusterer(3, random_state=1, runs=2, output=tmp_path / "python", **same).fit(vectors)


def test_runs_of_other_data_or_settings_are_not_put_together(coterie, vectors, tmp_path):
    """The ids of an array are its rows: those of other data were averaged with them, without a word."""
    source, asked = tmp_path / "v.npy", ("-k", 3, *QUICK, "-o", tmp_path / "runs", "--resume")
    np.save(source, np.load(vectors))
    assert coterie("fit", source, "--runs", 2, *asked).code == 0
    for other, said in [
        (("-k", 4), "n_clusters = 3, not 4"),
        (("--calibrate",), "calibrate = False, not True"),
        (("--precision", "bf16"), "precision = auto, not bf16"),
    ]:
        given = [word for word in asked if word != "--no-calibrate"] if "--calibrate" in other else [*asked]
        given = given[2:] if "-k" in other else given
        answer = coterie("fit", source, "--runs", 3, *given, *other)
        assert answer.code == 2, other
        assert said in answer.err
    np.save(source, np.load(vectors)[::-1].copy())
    answer = coterie("fit", source, "--runs", 3, *asked)
    assert answer.code == 2
    assert "The data have changed since the runs beside" in answer.err
    assert (
        coterie("fit", source, "-k", 3, "--seed", 2, *QUICK, "-o", tmp_path / "runs" / "seed-2", "--resume").code == 0
    )
    answer = coterie("fit", source, "--runs", 3, *asked)
    assert answer.code == 2
    assert "are over different data" in answer.err


OTHERS = {  # another value of each setting
    "n_clusters": 4,
    "method": "kmeans",
    "by_items": True,
    "trained_by": ("--epochs",),
    "seed": 1,
    "epochs": 2,
    "preset": "paper",
    "init": "before",
    "finetune": True,
    "encoder": "photo",
    "pretrain": "moco",
    "backbone": "mlp",
    "pretrained": True,
    "weights": "w.pt",
    "device": "cuda",
    "precision": "bf16",
    "image_size": 32,
    "family": "photo",
    "columns": ("a", "b"),
    "overrides": {"ae.batch_size": 9},
    "max_skipped": 0.5,
    "calibrate": True,
    "judged": "judged.csv",
    "store_embedding": True,
    "checkpoint_seconds": 1.0,
}


@pytest.mark.parametrize("name", [setting.name for setting in fields(RunSettings)])
def test_another_value_of_any_setting_is_another_run(name, tmp_path):
    """A new setting is compared unless somebody says why not: of a list of those that are, it could be missing."""
    before = RunSettings(3, "ae", encoder="none")
    (tmp_path / "run.yaml").write_text(json.dumps({"status": "done", "settings": plain_settings(before)}))
    check_alike(tmp_path, before)
    now = replace(before, **{name: OTHERS[name]})
    if name in NOT_COMPARED:
        check_alike(tmp_path, now)
    else:
        with pytest.raises(InputError, match=f"begun with {name} = "):
            check_alike(tmp_path, now)


def test_the_folder_of_an_encoder_is_the_same_however_it_was_typed(tmp_path, monkeypatch):
    """The same command from another folder was said to have another encoder."""
    for name in ("encoder", "other"):
        (tmp_path / name).mkdir()
    before = RunSettings(3, "ae", encoder="./encoder")
    made = Encoding("./encoder", "test_vit", "0" * 64, "", "", 160, origin=str(tmp_path / "encoder"))
    source = {"spec": plain(asdict(ItemSpec("embeddings", dim=4, encoding=made)))}
    record = {"status": "done", "settings": plain_settings(before), "source": source}
    (tmp_path / "run.yaml").write_text(json.dumps(record))
    monkeypatch.chdir(tmp_path / "other")
    check_alike(tmp_path, replace(before, encoder="../encoder"))
    with pytest.raises(InputError, match=r"begun with encoder = \./encoder, not \.\./other"):
        check_alike(tmp_path, replace(before, encoder="../other"))


def test_runs_of_one_source_in_another_form_are_not_put_together(tmp_path):
    """One fingerprint, two forms: pictures through other weights of the encoder, or of another size."""
    for seed, size in enumerate((8, 16)):
        spec = {"kind": "images", "height": size}
        (tmp_path / f"seed-{seed}").mkdir()
        entries = {"status": "done", "source": {"fingerprint": "f", "spec": spec}}
        (tmp_path / f"seed-{seed}" / "run.yaml").write_text(json.dumps(entries))
    with pytest.raises(InputError, match="are over different data"):
        first_begun([tmp_path / "seed-0", tmp_path / "seed-1"])


def test_runs_by_the_method_that_auto_comes_to_are_not_put_beside_others(coterie, tmp_path):
    """The method of `auto` is known when the items are read: three runs were put together, two of k-means."""
    source, out = tmp_path / "v.npy", tmp_path / "runs"
    np.save(source, np.random.default_rng(0).normal(size=(120, 4)).astype(np.float32))
    asked = ("-k", 3, "--encoder", "auto", "--no-calibrate", "-o", out)
    assert coterie("fit", source, "--method", "kmeans", "--runs", 2, *asked).code == 0
    answer = coterie("fit", source, "--runs", 3, *asked, "--resume")
    assert answer.code == 2
    assert "begun with --method kmeans, and --method auto comes to spectral" in answer.err
    assert coterie("fit", source, "-k", 3, "--seed", 2, "--no-calibrate", "-o", out / "seed-2").code == 0
    answer = coterie("fit", source, "--runs", 3, *asked, "--resume")
    assert answer.code == 2
    assert "seed-0 is grouped by kmeans, and" in answer.err


def test_runs_go_on_without_the_run_that_they_started_from(coterie, grouped, vectors, tmp_path):
    before, out = shutil.copytree(grouped, tmp_path / "before"), tmp_path / "runs"
    fit = ("fit", vectors, "-k", 3, "--epochs", 1, "--init", before, "--runs", 2, "-o", out)
    assert coterie(*fit).code == 0
    whole = pq.read_table(out / "seed-1" / "result.parquet")["label"].to_pylist()
    shutil.rmtree(before)
    for file in ("run.yaml", "ensemble.json"):
        (out / file).unlink(missing_ok=True)
    record = out / "seed-1" / "run.yaml"
    record.write_text(record.read_text().replace("status: done", "status: stopped"))
    for file in (out / "seed-1" / "checkpoints").glob("*.safetensors"):
        file.unlink()
    answer = coterie(*fit, "--resume")
    assert answer.code == 0, answer.err
    assert pq.read_table(out / "seed-1" / "result.parquet")["label"].to_pylist() == whole
