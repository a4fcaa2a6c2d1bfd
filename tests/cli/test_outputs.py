"""Every command that writes leaves what is not its own."""

from __future__ import annotations

import multiprocessing
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from coterie import Clusterer, load
from coterie.cli.folders import new_folder
from coterie.training.runfolder import RunFolder
from coterie.types import InputError
from helpers import forked


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vectors: Path) -> Path:
    """A working directory with a user's table of embeddings and labels."""
    monkeypatch.chdir(tmp_path)
    rows = np.load(vectors)
    pq.write_table(pa.table({"id": [f"p{i}" for i in range(60)], "embedding": list(rows)}), "mine.parquet")
    Path("labels.csv").write_text("id,label\n" + "".join(f"p{i},{i % 3}\n" for i in range(60)))
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize(
    "command",
    [
        ("predict", "RUN", "mine.parquet", "-o", "mine.parquet"),
        ("predict", "RUN", "mine.parquet", "-o", "./x/../link.parquet"),
        ("predict", "RUN", "mine.parquet", "-o", "RUN/result.parquet"),
        ("predict", "RUN", "mine.parquet", "-o", "RUN/model/new.parquet"),
        ("predict", "RUN", "mine.parquet", "-o", "other.parquet"),
        ("accept", "RUN", "-o", "RUN/result.parquet"),
        ("accept", "RUN", "-o", "other.parquet"),
        ("accept", "RUN", "-o", "labels.csv"),
        ("accept", "RUN", "--draw", "5", "-o", "RUN/result.parquet"),
        ("compare", "RUN", "-o", "RUN/report.html"),
        ("compare", "RUN", "-o", "notes.html"),
        ("evaluate", "RUN", "--labels", "RUN/metrics.json"),
        ("fit", "mine.parquet", "-k", "3", "-o", "RUN", "--init", "RUN", "--resume"),
        ("fit", "mine.parquet", "-k", "3", "-o", "RUN/model"),
        ("fit", "mine.parquet", "-k", "3", "-o", "RUN"),
        ("fit", "mine.parquet", "-k", "3", "-o", "."),
        ("fit", "mine.parquet", "-k", "3", "-o", "mine.parquet"),
    ],
)
def test_nothing_is_replaced_that_is_not_to_be(coterie, here, grouped, command):
    Path("x").mkdir()
    Path("link.parquet").symlink_to("mine.parquet")
    Path("notes.html").write_text("<html>mine</html>")
    pq.write_table(pa.table({"id": ["a"], "label": [1], "confidence": [0.5]}), "other.parquet")
    before = contents(here), contents(grouped)
    answer = coterie(*(word.replace("RUN", str(grouped)) for word in command))
    assert answer.code == 2, answer
    assert answer.out == ""
    (line,) = answer.err.splitlines()
    assert line.startswith("coterie: ")
    assert (contents(here), contents(grouped)) == before


def test_a_tilde_is_the_home_of_the_user_wherever_a_shell_leaves_it(coterie, grouped, tmp_path, monkeypatch):
    """`--output=~/x` made a folder called ~ where one was."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    shutil.copytree(grouped, tmp_path / "home" / "run")
    for number, words in enumerate((["-o", "~/0.csv"], ["--output=~/1.csv"], ["-o~/2.csv"])):
        answer = coterie("accept", "~/run", "--draw", 5, *words)
        assert answer.code == 0, answer.err
        assert (tmp_path / "home" / f"{number}.csv").is_file()
    load(load("~/run").save("~/saved"))
    assert (tmp_path / "home" / "saved" / "model").is_dir()
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_what_coterie_wrote_may_be_written_again(coterie, here, grouped):
    for _ in range(2):
        assert coterie("predict", grouped, "mine.parquet", "-o", "new.parquet").code == 0
        assert coterie("accept", grouped, "-o", "new.csv").code == 0
        assert coterie("accept", grouped, "-o", "accepted.parquet").code == 0
        assert coterie("compare", grouped, "-o", "new.html").code == 0
    Path("new.csv").write_text(Path("new.csv").read_text().replace(",0,", ",1,") + "x,0,0.5\n")
    refused = coterie("accept", grouped, "-o", "new.csv")
    assert "coterie did not write it" in refused.err
    table = pq.read_table("new.parquet")
    pq.write_table(table.append_column("mine", table["label"]), "new.parquet")
    assert coterie("predict", grouped, "mine.parquet", "-o", "new.parquet").code == 2
    assert "mine" in pq.read_schema("new.parquet").names


def test_a_command_that_was_killed_goes_on_and_nothing_of_it_stays(coterie, here, grouped):
    """Each flush is that of a file; the table of `duplicates` is the last, for one that is there would be refused."""
    shutil.copytree(grouped, "run")
    for command, flushes in ((("accept", "run", "-o", "sure.csv"), 1), (("duplicates", "run", "-o", "two.csv"), 3)):
        for flush in range(1, flushes + 1):
            assert forked.run(forked.SELF_KILLER, flush, *command).returncode < 0
        assert list(here.glob(".*.part"))
        assert coterie(*command).code == 0
        assert not list(here.glob(".*.part"))


def test_a_table_to_judge_is_no_table_of_coteries_any_more(coterie, here, grouped):
    assert coterie("accept", grouped, "--draw", 5, "-o", "judge.parquet").code == 0
    assert coterie("accept", grouped, "-o", "judge.parquet").code == 2
    assert "right" in pq.read_schema("judge.parquet").names


def test_the_report_of_someone_else_stays(coterie, here):
    Clusterer(3, epochs=1, random_state=0, output="run").fit(rows())
    Path("run/report.html").write_text("my notes")
    answer = coterie("report", "run")
    assert answer.code == 2
    assert Path("run/report.html").read_text() == "my notes"


def rows(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(40, 6)).astype(np.float32)


def test_a_model_is_saved_twice_but_not_over_another(here):
    one = Clusterer(3, epochs=1, random_state=0, output="run").fit(rows())
    other = Clusterer(2, epochs=1, random_state=0).fit(rows(1))
    assert one.save("saved") == one.save("saved") == Path("saved")
    one.save("run")  # its own
    Path("notes").mkdir()
    Path("notes/mine.txt").write_text("precious")
    before = contents(here)
    for folder in ("run", "saved", "notes", "labels.csv"):
        with pytest.raises(InputError):
            other.save(folder)
    assert contents(here) == before


def test_a_folder_is_held_while_a_run_writes_to_it(tmp_path):
    first = RunFolder(tmp_path / "run")
    first.prepare(resume=False)
    with pytest.raises(InputError, match="Another run is being written"):
        RunFolder(tmp_path / "run").prepare(resume=False)
    first.release()
    RunFolder(tmp_path / "run").prepare(resume=False)


def test_a_killed_run_holds_nothing(tmp_path):
    hold = "import sys, os, signal; from pathlib import Path; from coterie.training.runfolder import RunFolder\n"
    hold += "RunFolder(Path(sys.argv[1])).prepare(resume=False); os.kill(os.getpid(), signal.SIGKILL)"
    assert forked.run(hold, tmp_path).returncode < 0
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "images-ab.u8").write_bytes(b"")  # all that a run leaves that was killed early
    RunFolder(tmp_path).prepare(resume=False)


# Each lock is let go of late in the forked process: the other need not wait for that.
FORKED_HOLDER = """
import os, sys, time
from pathlib import Path
from coterie.common import locks
from coterie.export.writing import new_tree
from coterie.review.log import Lock
from coterie.training.runfolder import RunFolder
run = Path(sys.argv[1])
holder, close = os.getpid(), locks.Lock.close
locks.Lock.close = lambda lock: (os.getpid() == holder or time.sleep(0.2), close(lock))
folder, done, go = RunFolder(run), *os.pipe()
folder.prepare(resume=False)
review, tree = Lock(run), new_tree(run.parent / "tree", {"coterie": "export"})
tree.__enter__()
if not (child := os.fork()):
    os.close(go)
    os.read(done, 1)
    os._exit(folder.held.descriptor != -1)
folder.release(), review.release(), tree.__exit__(None, None, None)
(run / "run.yaml").write_text("status: done")
RunFolder(run).prepare(resume=True), Lock(run)
os.close(go)
assert os.waitpid(child, 0)[1] == 0
"""


def test_a_process_forked_from_one_that_holds_a_run_holds_nothing(tmp_path):
    answer = forked.run(FORKED_HOLDER, tmp_path / "run")
    assert answer.returncode == 0, answer.stderr


def name_one(parent: str) -> str:
    return str(new_folder(Path(parent), "photos-cdc"))


def test_starts_at_the_same_moment_get_folders_of_their_own(tmp_path):
    with multiprocessing.get_context("fork").Pool(4) as pool:
        found = pool.map(name_one, [str(tmp_path / "runs")] * 12, chunksize=1)
    assert len(set(found)) == 12
    assert sorted(found) == sorted(str(path) for path in (tmp_path / "runs").iterdir())


def test_a_refused_run_leaves_no_folder(coterie, here):
    Path("bad.npy").write_bytes(b"no array")
    assert coterie("fit", "bad.npy", "-k", 3).code == 2
    assert coterie("fit", "bad.npy", "-k", 3, "-o", "a/b").code == 2
    assert not Path("runs").exists()
    assert not Path("a").exists()


def test_no_table_is_written_into_a_source_that_is_a_folder_of_tables(coterie, here, grouped):
    (here / "parts").mkdir()
    pq.write_table(pa.table({"embedding": list(np.eye(8, dtype=np.float32))}), here / "parts" / "a.parquet")
    for out in ("parts/new.parquet", "parts/new"):
        answer = coterie("predict", grouped, "parts", "-o", out)
        assert answer.code == 2
        assert "would be read as a part of the table parts" in answer.err
    assert coterie("duplicates", "parts", "-o", "parts/sets.parquet").code == 2
    assert [path.name for path in (here / "parts").iterdir()] == ["a.parquet"]
