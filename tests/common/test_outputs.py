"""No output takes the place of what is not coterie's own."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from coterie.common.outputs import (
    NO_ROOM,
    check_folder,
    check_output,
    not_written,
    printable,
    remove_parts,
    write_atomically,
)
from coterie.types import InputError


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of the user's, in a working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / "mine.parquet"
    path.write_bytes(b"precious")
    return path


def by_link(path: Path) -> Path:
    Path("link.parquet").symlink_to(path)
    return Path("link.parquet")


def by_hard_link(path: Path) -> Path:
    os.link(path, "hard.parquet")
    return Path("hard.parquet")


def by_linked_folder(path: Path) -> Path:
    Path("folder").symlink_to(path.parent)
    return Path("folder") / path.name


WAYS = {
    "itself": lambda path: path,
    "relative": lambda path: Path("data/mine.parquet"),
    "round about": lambda path: Path("data/../data/./mine.parquet"),
    "link": by_link,
    "hard link": by_hard_link,
    "linked folder": by_linked_folder,
}


@pytest.mark.parametrize("way", WAYS)
def test_an_input_is_known_by_every_name(mine: Path, way: str) -> None:
    out = WAYS[way](mine)
    with pytest.raises(InputError, match="which this command reads"):
        check_output(out, [None, mine], ours=lambda path: True)
    with pytest.raises(InputError, match="is there already: give another name, or move it away"):
        check_output(out)
    with pytest.raises(InputError, match="is there already and coterie did not write it"):
        check_output(out, ours=lambda path: False)
    assert mine.read_bytes() == b"precious"


def test_a_new_name_a_link_to_nothing_and_a_file_of_coterie_are_taken(mine: Path) -> None:
    assert check_output(Path("new/deeper.parquet"), [mine]) == mine.parents[1] / "new" / "deeper.parquet"
    Path("link").symlink_to("target.parquet")
    assert check_output(Path("link")).name == "target.parquet"
    assert check_output(mine, ["data"], ours=lambda path: path == mine) == mine


@pytest.mark.parametrize(
    "name",
    [
        *("result.parquet", "report.html", "Metrics.json", "model/x.parquet", "cache/new", "checkpoints/a/b.csv"),
        *("result.recalibrated.parquet", "recalibration.json", "duplicates.json", "choose_k.json"),
    ],
)
def test_the_places_of_a_runs_files_are_its_own(tmp_path: Path, name: str) -> None:
    (tmp_path / "run.yaml").write_text("status: running")
    (tmp_path / "elsewhere").symlink_to(tmp_path)
    for run in (tmp_path, tmp_path / "elsewhere"):
        with pytest.raises(InputError, match="is the place of a file of the run in"):
            check_output(run / name, ours=lambda path: True)
    assert check_output(tmp_path / "new.parquet") == tmp_path / "new.parquet"
    with pytest.raises(InputError, match="a place of the run"):
        check_folder(tmp_path / "model", [])


def test_the_table_of_several_runs_is_theirs(tmp_path: Path) -> None:
    place = tmp_path / "ensemble.parquet"
    place.write_text("of someone")
    assert check_output(place, ours=lambda path: True) == place
    (tmp_path / "ensemble.json").write_text("{}")
    with pytest.raises(InputError, match="is the place of a file of the run in"):
        check_output(place, ours=lambda path: True)


def test_the_advice_is_what_helps(tmp_path: Path) -> None:
    """`ulimit -f` is no full disk."""
    told = {number: str(not_written(tmp_path, OSError(number, os.strerror(number)))) for number in (*NO_ROOM, 13, 5)}
    assert "allow larger files (ulimit -f) or take another place." in told[errno.EFBIG]
    assert "free some space or take another place." in told[errno.ENOSPC]
    assert "free some space or take another place." in told[errno.EDQUOT]
    assert "change its rights or take another place." in told[errno.EACCES]
    assert told[errno.EIO].endswith(": take another place.")


def test_what_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "text").write_text("")
    for name, reason in [
        ("pipe", "no regular file"),
        ("text/new", "is a file"),
        ("", "is a folder"),
        ("x" * 300, "cannot be looked up"),
        ("a\0b", "cannot be looked up"),
    ]:
        with pytest.raises(InputError, match=reason):
            check_output(tmp_path / name, ours=lambda path: True)


def test_a_run_does_not_replace_what_it_reads(tmp_path: Path) -> None:
    run, labels = tmp_path / "run", tmp_path / "run" / "mine.csv"
    (run / "model").mkdir(parents=True)
    labels.write_text("id,label")
    (run / "model" / "weights.safetensors").write_text("")
    check_folder(run, [labels, None, "digits", tmp_path])
    check_folder(None, [labels])
    for read in (run, run / "model" / "weights.safetensors", tmp_path / "x" / ".." / "run"):
        with pytest.raises(InputError, match="would replace it"):
            check_folder(run, [read])


def test_unfinished_files_of_dead_processes_go(tmp_path: Path) -> None:
    dead = int(subprocess.check_output([sys.executable, "-c", "import os; print(os.getpid())"]))
    kept = [f".a.parquet.{os.getppid()}.part", "notes.part", "a.12x.part", "12.part", ".hidden"]
    kept.append(f"film.{dead}.part")  # somebody's download
    gone = [f".a.parquet.{dead}.part", f".images-ab.u8.{dead}.part", f"cache/.images-ab.u8.{dead}.part"]
    (tmp_path / "cache").mkdir()
    for name in kept + gone:
        (tmp_path / name).write_text("")
    remove_parts(tmp_path, "b.parquet")
    assert all((tmp_path / name).exists() for name in kept + gone)
    remove_parts(tmp_path, "a.parquet")
    assert [name for name in gone if (tmp_path / name).exists()] == gone[1:]
    remove_parts(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*kept, "cache"])
    assert not list((tmp_path / "cache").iterdir())


@pytest.mark.parametrize("name", ["x" * 255, "é" * 120, "short"])
def test_every_name_that_a_file_can_have_can_be_written(tmp_path: Path, name: str) -> None:
    write_atomically(tmp_path / name, "text")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_text_that_is_in_no_encoding_is_written_as_an_escape(tmp_path: Path) -> None:
    assert printable("größer 壊") == "größer 壊"
    assert printable(os.fsdecode(b"caf\xe9 ") + "é") == "caf\\xe9 é"
    assert printable("half \ud83d of a pair") == "half \\ud83d of a pair"
    write_atomically(tmp_path / "text", "caf\udce9")
    assert (tmp_path / "text").read_bytes() == b"caf\\xe9"
