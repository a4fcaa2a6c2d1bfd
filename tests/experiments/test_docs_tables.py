"""Numbers in docs/: every generated part is what the records say, and no measured table stands outside one."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
EXPERIMENTS = ROOT / "experiments"
RECORDS = sorted([*(EXPERIMENTS / "results").glob("*.json"), *(ROOT / "benchmarks" / "results").glob("*.json")])
MEASURES = {"ACC", "NMI", "ARI", "ECE", "AUROC"}
PAPERS_OWN = {"## Ablations of the paper"}  # sections whose tables have the papers' numbers and none of ours


def test_every_generated_part_is_what_its_records_say() -> None:
    import docs_tables

    assert [str(page) for page, _ in docs_tables.changed()] == []
    assert docs_tables.main(["--check"]) == 0


def test_every_part_stands_on_a_page_and_every_marker_has_its_end() -> None:
    import docs_tables

    found = []
    for page in docs_tables.pages():
        text = page.read_text(encoding="utf-8")
        names = re.findall(r"^<!-- generated (\S+) -->", text, re.MULTILINE)
        ends = re.findall(r"^<!-- end of (\S+) -->", text, re.MULTILINE)
        assert names == ends == [mark[1] for mark in docs_tables.MARKED.finditer(text)]
        found += names
    assert sorted(found) == sorted(docs_tables.BLOCKS)


def test_a_number_that_was_changed_by_hand_is_found() -> None:
    import docs_tables

    page = ROOT / "docs" / "methods" / "cdc.md"
    text = page.read_text(encoding="utf-8")
    (first, *_) = docs_tables.MARKED.finditer(text)
    number = re.search(r"\d+\.\d", first[2])
    assert number is not None
    at = first.start(2) + number.start()
    wrong = text[:at] + ("8" if text[at] != "8" else "7") + text[at + 1 :]
    assert docs_tables.generated(wrong) == text


def test_whether_a_claim_holds_follows_from_the_records(monkeypatch: pytest.MonkeyPatch) -> None:
    from _docs import cdc, records

    def others(name: str) -> dict[str, Any]:
        """The records, as if CDC-Cal had been right about nine in ten."""
        found = records(name)
        for row in found["rows"]:
            if row["title"] == "CDC-Cal":
                for one in row["records"]:
                    cdc.scored(row, one)["acc"] = 0.9
        return found

    def verdicts() -> dict[str, str]:
        return {claim: holds for claim, _, holds in cdc.on_heads(cdc.TableRows("table2"))}

    assert (verdicts()["two heads beat one"], verdicts()["the stop-gradient matters"]) == ("**no**", "a little")
    monkeypatch.setattr(cdc, "records", others)
    assert (verdicts()["two heads beat one"], verdicts()["the stop-gradient matters"]) == ("yes", "yes")


def test_the_places_on_the_pages_of_methods_follow_the_accuracies_of_the_boards() -> None:
    from _docs import rivals

    boards: dict[str, list[tuple[int, float]]] = {}
    for block in rivals.BLOCKS.values():
        for line in re.findall(r"^\| (.+, .+?) \| .+? \| ([\d.]+)(?: ± \S+)? \| .+ \| (\d+) of \d+ \|$", block(), re.M):
            boards.setdefault(line[0], []).append((int(line[2]), float(line[1])))
    assert max(map(len, boards.values())) == 18
    for lines in boards.values():
        assert min(lines)[0] == 1
        accuracies = [accuracy for _, accuracy in sorted(lines)]
        assert accuracies == sorted(accuracies, reverse=True)


def test_no_measured_table_stands_outside_a_generated_part() -> None:
    import docs_tables

    for page in docs_tables.pages():
        section, head = "", False
        for line in docs_tables.MARKED.sub("", page.read_text(encoding="utf-8")).split("\n"):
            if line.startswith("#"):
                section = line
            begins = line.startswith("|") and not head
            head = line.startswith("|")
            if section in PAPERS_OWN:
                continue
            assert not (head and re.search(r"\d ± \d", line)), f"{page.name}, {section}: {line}"
            names = {cell.strip().split(",")[0] for cell in line.split("|")} if begins else set()
            assert not names & MEASURES, f"{page.name}, {section}: {line}"


def has_options(script: Path, command: str) -> bool:
    told = script.read_text(encoding="utf-8") + (EXPERIMENTS / "_runs.py").read_text(encoding="utf-8")
    return all(f'"{name}"' in told or f'"{name[2:]}"' in told for name in re.findall(r" (--[\w-]+)", command))


def test_every_command_of_a_page_is_there_with_its_options() -> None:
    import docs_tables

    commands = re.compile(r"`(?:\w+=\S+ )*python ((?:experiments|benchmarks)/\w+\.py)([^`]*)`")
    found = [(page.name, *match) for page in docs_tables.pages() for match in commands.findall(page.read_text("utf-8"))]
    assert len(found) > 100
    assert [one for one in found if not (ROOT / one[1]).is_file() or not has_options(ROOT / one[1], one[2])] == []


@pytest.mark.parametrize("file", RECORDS, ids=lambda file: file.stem)
def test_every_record_names_a_command_that_there_is(file: Path) -> None:
    content = json.loads(file.read_text(encoding="utf-8"))
    # One command for the file, or one for each record where they were made one by one.
    for command in [content["command"]] if "command" in content else [one["command"] for one in content["records"]]:
        script = ROOT / re.fullmatch(r"(?:\w+=\S+ )*python (\S+\.py).*", command)[1]  # type: ignore[index]
        assert script.parent.name == file.parents[1].name
        assert has_options(script, command), f"{file.name}: {script.name} has not all options of {command}"
