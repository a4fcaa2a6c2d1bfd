"""The fuzz command works, finds what it looks for, and a few of its tries of each kind find nothing."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

FEW = 4  # tries of each kind; the command itself does thousands


@pytest.fixture(scope="module")
def fuzz(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    import fuzz

    return fuzz


@pytest.fixture(scope="module")
def base(fuzz: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("fuzz") / "base"
    place.mkdir()
    fuzz.make_base(place)
    return place


@pytest.mark.parametrize("kind", range(9))
@pytest.mark.filterwarnings("ignore")
def test_a_few_tries_find_nothing(fuzz: ModuleType, base: Path, monkeypatch: pytest.MonkeyPatch, kind: int) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    name, settings = list(fuzz.attacks.KINDS)[kind], fuzz.known_settings()
    settings = {stage: known for stage, known in settings.items() if stage in ("cdc", "views", "run")}
    for number in range(kind, 9 * FEW, 9):
        begun: list[str] = []
        found = fuzz.try_once(number, name, 11, base, settings, begun.extend)
        assert found.tracebacks + found.broken == [], found
        assert begun == found.calls != []
        assert len(found.codes) == len(found.calls)


def test_a_try_can_be_repeated(fuzz: ModuleType, base: Path) -> None:
    settings = fuzz.known_settings()
    calls = [fuzz.try_once(3, "arrays", 5, base, settings, print).calls for _ in range(2)]
    assert calls[0] == calls[1] != fuzz.try_once(12, "arrays", 5, base, settings, print).calls


def test_broken_promises_are_noticed(fuzz: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fine = "coterie: photos is no folder of images: give another.\n"
    assert fuzz.promises(["fit"], 2, "", fine) == []
    assert fuzz.promises(["fit", "--json"], 0, "{}", "") == []
    for arguments, code, out, err in (
        (["fit"], 3, "", fine),
        (["fit"], 2, "half a table", fine),
        (["fit"], 2, "", "no\n"),
        (["fit"], 1, "", ""),
        (["fit", "--json"], 0, "done", ""),
        (["fit"], 0, "", "Traceback (most recent call last):\n"),
    ):
        assert fuzz.promises(arguments, code, out, err) != []
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    Path("in", "a.npy").write_text("mine")
    before = fuzz.digests(["fit", "in/a.npy"])
    Path("in", "a.npy").write_text("other")
    assert before.keys() == {"in/a.npy"}
    assert fuzz.digests(["fit", "in/a.npy"]) != before


def test_the_place_of_a_traceback_is_the_innermost_line_of_coterie(fuzz: ModuleType) -> None:
    from coterie.cli.output import percent

    with pytest.raises(ValueError) as caught:
        percent("many")  # type: ignore[arg-type]
    place, kind = fuzz.place_of(caught.value).split()
    assert place.startswith("cli/output.py:")
    assert kind == "ValueError"


def test_counts_add_up(fuzz: ModuleType) -> None:
    found = [
        fuzz.Found(0, "arrays", ["coterie fit a"], codes=[2]),
        fuzz.Found(1, "arrays", ["coterie fit b"], tracebacks=["data/arrays.py:1 ValueError"]),
        fuzz.Found(2, "labels", ["coterie fit c"], hang=True),
    ]
    said = fuzz.summary(found)
    assert said["kinds"]["arrays"]["tries"] == 2
    assert said["kinds"]["arrays"]["tracebacks"] == said["kinds"]["labels"]["hangs"] == 1
    assert said["places"]["data/arrays.py:1 ValueError"]["first_try"] == 1
