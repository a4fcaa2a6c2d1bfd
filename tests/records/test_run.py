"""`run.yaml`, doctored in many ways: one sentence that names the file and the entry, with little memory."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from coterie.cli import main
from coterie.records import read_record
from coterie.records.files import parse_yaml, yaml_of
from coterie.types import InputError

MakeFolder = Callable[..., Path]


def changed(run: Path, path: str, value: Any) -> None:
    """Put `value` in the place of an entry, given as "source.n" or "stages.0.name"."""
    content = yaml.safe_load((run / "run.yaml").read_text())
    *above, last = path.split(".")
    inside = content
    for part in above:
        inside = inside[int(part)] if isinstance(inside, list) else inside[part]
    if isinstance(inside, list):
        inside[int(last)] = value
    else:
        inside[last] = value
    (run / "run.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def test_what_a_run_writes_is_read_as_it_is(folder: MakeFolder) -> None:
    run = folder()
    assert read_record(run) == yaml.safe_load((run / "run.yaml").read_text())


TEXTS = st.text(st.one_of(st.characters(), st.characters(categories=["Cs"]), st.sampled_from(" '\"#:-\n\t\x00\x85")))


@given(st.dictionaries(TEXTS, st.one_of(TEXTS, st.none(), st.booleans(), st.integers(), st.lists(TEXTS)), max_size=4))
def test_any_text_is_written_as_it_is_read(record: dict[str, Any]) -> None:
    """With half a character too, which libyaml does not write."""
    assert parse_yaml(yaml_of(record), "run.yaml") == record


def test_what_a_user_wrote_is_shown_as_it_was_written() -> None:
    assert yaml_of({"name": "caf\xe9 \U0001f408"}) == "name: caf\xe9 \U0001f408\n"
    long = {"command": "coterie fit " + "photos " * 60, "notes": ["a: b", "2024-01-01", "no", "1.0"], "n": None}
    assert yaml_of(long) == yaml.safe_dump(long, sort_keys=False, allow_unicode=True, width=120)


def test_entries_of_a_newer_version_stay_and_are_not_misread(folder: MakeFolder) -> None:
    run = folder(columns=["a", "b"], day="2024-05-01", source={"n": 12, "scale": {"low": 0.5}})
    (run / "run.yaml").write_text((run / "run.yaml").read_text() + "begun: 2024-05-01\nshare: 1_000\n")
    found = read_record(run)
    assert (found["columns"], found["day"], found["begun"]) == (["a", "b"], "2024-05-01", "2024-05-01")
    assert found["source"]["scale"] == {"low": 0.5}
    assert found["share"] == 1000


def test_a_name_that_is_no_utf8_comes_back(folder: MakeFolder) -> None:
    name = os.fsdecode(b"photos-\xff\xfe/")
    run = folder(command=f"coterie fit {name}", source={"n": 12, "origin": name})
    assert read_record(run)["source"]["origin"] == name


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("source", None),
        ("source", [1]),
        ("source.n", -1),
        ("source.n", 12.0),
        ("source.n", True),
        ("source.spec", "images"),
        ("source.spec.kind", "sounds"),
        ("source.spec.width", 10**15),
        ("source.spec.low", float("nan")),
        ("source.skipped", {"id": "x"}),
        ("source.skipped.0", "7"),
        ("source.skipped.0", {"id": 7, "reason": "?"}),
        ("source.skipped.0", {"id": "7"}),
        ("source.notes", "all fine"),
        ("n_clusters", 10**9),
        ("n_clusters", 13),
        ("n_clusters", 0),
        ("n_clusters", "many"),
        ("n_clusters", [3]),
        ("seed", 2.5),
        ("seed", 10**30),
        ("seconds", "x"),
        ("seconds", -1.0),
        ("seconds", float("inf")),
        ("stages", None),
        ("stages", [1]),
        ("stages", {"name": "cdc"}),
        ("stages.0.name", None),
        ("stages.0.epochs", "two"),
        ("stages.0.settings", ["cells"]),
        ("warnings", 5),
        ("warnings", [5]),
        ("notes", "x"),
        ("status", ["done"]),
        ("status", True),
        ("settings", "all"),
        ("backbone", "mlp"),
        ("backbone.name", 5),
        ("failure", "it broke"),
        ("versions", [1]),
        ("labels_used", {"judged": "many"}),
        ("labels_used", {"merges": 2, "rows": 5}),
        ("command", ["fit"]),
    ],
)
def test_an_entry_of_another_kind_is_named(folder: MakeFolder, entry: str, value: Any) -> None:
    run = folder()
    changed(run, entry, value)
    with pytest.raises(InputError) as caught:
        read_record(run)
    said = str(caught.value)
    assert str(run / "run.yaml") in said
    assert entry in said
    assert "\n" not in said
    assert len(said) < 600


NESTED = "a: " + "[" * 5000 + "]" * 5000
BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12)
)
MERGES = "a0: &a0 {x: 1}\n" + "".join(f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}\n" for i in range(1, 40))
DEEP_ALIASES = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 100))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no mapping"),
        (b"\x00\x01\x02\xff" * 50, "UTF-8"),
        (b"just a text", "no mapping"),
        (b"- a\n- b", "no mapping"),
        (b"a: [1", "line 2|line 1"),
        ("source: {name: Süden}".encode("latin-1"), "UTF-8"),
        ("status: done".encode("utf-16"), "UTF-8"),
        (b"status: done\n\x00\x00\x00", "no YAML"),
        (b"a: &x [*x]", "alias"),
        (NESTED.encode(), "deep|depth"),
        (BOMB.encode(), "aliases written out"),
        (MERGES.encode(), "aliases written out"),
        (DEEP_ALIASES.encode(), "deep"),
        (b"a: !!python/object/apply:os.system ['touch pwned']", "no YAML"),
        (b"a: !!timestamp later", "no YAML"),
        (b'a: !!int ""', "no YAML"),
        (b"seed: 1" + b"1" * 5000, "no YAML"),
        (b"? [1, 2]\n: 3", "no YAML"),
        (b"1: x", "no text"),
        (b"source: {2: x}", "source has 2 for a name"),
        (b"a: !!binary aGFsbG8=", "bytes"),
        (b"a: !!set {x}", "set"),
        (b'command: "\\ud800"', "half a character"),
    ],
)
def test_what_is_no_record_is_said_without_much_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_bytes(content)
    with pytest.raises(InputError, match=r"run.yaml"):
        read_record(tmp_path)
    tracemalloc.start()
    with pytest.raises(InputError, match=words):
        read_record(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20
    assert not (tmp_path / "pwned").exists()


def test_a_record_that_is_cut_off_is_no_record(folder: MakeFolder) -> None:
    """Half of it was a record of a run that was neither calibrated nor taught by judgements."""
    path = folder() / "run.yaml"
    lines = yaml_of(read_record(path.parent)).splitlines(keepends=True)
    assert [line.split(":")[0] for line in (*lines[:2], lines[-1])] == ["status", "command", "seconds"]
    for left in range(2, len(lines)):
        path.write_text("".join(lines[:left]))
        with pytest.raises(InputError, match=r"run.yaml (is cut off|is no YAML|is damaged)"):
            read_record(path.parent)
        path.write_text("".join(lines[: left + 1])[:-2])
        with pytest.raises(InputError, match=r"run.yaml (is cut off|is no YAML|is damaged)"):
            read_record(path.parent)


def test_a_few_aliases_are_plain_yaml(tmp_path: Path) -> None:
    shared = ["x"]
    (tmp_path / "run.yaml").write_text(yaml.safe_dump({"status": "done", "notes": shared, "warnings": shared}))
    assert read_record(tmp_path)["warnings"] == ["x"]


@pytest.mark.parametrize("kind", ["folder", "pipe", "link to a pipe", "link to nothing", "huge", "device"])
@pytest.mark.parametrize("command", ["report", "evaluate", "accept", "compare", "predict"])
def test_what_is_no_file_is_said_by_every_command_and_not_waited_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, command: str
) -> None:
    path = tmp_path / "run.yaml"
    if kind == "folder":
        path.mkdir()
    elif kind.endswith("pipe"):
        os.mkfifo(tmp_path / "pipe")
        path.symlink_to("pipe")
    elif kind == "link to nothing":
        path.symlink_to("nowhere")
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        with path.open("wb") as file:
            file.truncate(1 << 30)
    more = ["digits", "-o", str(tmp_path / "x.parquet")] if command == "predict" else []
    assert main([command, str(tmp_path), *more]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert "run.yaml" in line


def test_every_command_reads_the_record_the_same(folder: MakeFolder, capsys: pytest.CaptureFixture[str]) -> None:
    run = folder()
    changed(run, "seconds", "x")
    said = set()
    for command in ("report", "evaluate", "accept"):
        assert main([command, str(run)]) == 2
        said.add(capsys.readouterr().err)
    (line,) = said
    assert "seconds cannot be 'x'" in line
