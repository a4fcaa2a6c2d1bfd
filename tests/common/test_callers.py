"""Messages advise options at the command line, and arguments to Python's callers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

from coterie import Clusterer, supervised
from coterie.cli.commands import app
from coterie.common.callers import COMMANDS, FLAGS, VALUED, as_written, in_python, worded
from coterie.types import InputError

X = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("Give a number of groups with -k.", "Give a number of groups with n_clusters."),
        ("say -k auto, or -k 10.", 'say n_clusters="auto", or n_clusters=10.'),
        ("smaller images by --image-size 64.", "smaller images by image_size=64."),
        ("leave --pretrained out", "leave pretrained out"),
        ("begin with --backbone resnet18 --pretrained", 'begin with backbone="resnet18" pretrained=True'),
        ("--weights FILE or --init RUN", "weights=FILE or init=RUN"),
        ("fit it with --set store_embedding=true.", 'fit it with settings={"store_embedding": True}.'),
        ("Lower --set cdc.head_rate.", 'Lower settings["cdc.head_rate"].'),
        ("Choose them by --columns 'f0..f5'.", 'Choose them by columns="f0..f5".'),
        ("--seed is none", "random_state is none"),
        ("choose another folder with -o.", "choose another folder with output."),
        ("go on with --resume, or", "go on with coterie fit --resume, or"),
        ("finish it with coterie fit X --init A --resume.", "finish it with coterie fit X --init A --resume."),
        ("the one that `coterie fit -o` wrote: or -o", "the one that `coterie fit -o` wrote: or output"),
        ("a top-k of --unknown 3 - or--backbone", "a top-k of --unknown 3 - or--backbone"),
    ],
)
def test_options_become_arguments_and_commands_stay(written: str, said: str) -> None:
    assert in_python(written) == said
    assert in_python(said) == said
    with as_written():
        assert worded(written) == written
    assert worded(written) == said


def test_every_name_is_one_of_the_command_line() -> None:
    commands: Any = typer.main.get_command(app)
    assert set(COMMANDS) == set(commands.commands)
    options = {option for one in commands.commands.values() for param in one.params for option in param.opts}
    assert {f"--{name}" for name in (*FLAGS, *VALUED)} <= options


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"n_clusters": 70}, "n_clusters is 70, but .* use a smaller one"),
        ({"pretrained": True}, "leave pretrained out"),
        ({"method": "kmeans", "settings": {"seed": 3}}, "give it as random_state"),
        ({"encoder": "efficientnet-lite0", "init": "x", "method": "cdc"}, "encoder.* and init each choose a network"),
    ],
)
def test_a_refusal_in_python_names_arguments(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says) as refused:
        Clusterer(**{"n_clusters": 3, **arguments}).fit(X)
    assert "--" not in str(refused.value)


def test_the_command_line_names_options(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from coterie.cli import main

    np.save(tmp_path / "x.npy", X)
    assert main(["fit", str(tmp_path / "x.npy"), "-k", "70", "--dry-run"]) == 2
    assert "-k is 70, but the source has only 60 items: use a smaller one." in capsys.readouterr().err
    assert main(["fit", str(tmp_path / "x.npy"), "-k", "3", "--pretrained", "--dry-run"]) == 2
    assert "leave --pretrained out" in capsys.readouterr().err


def test_notes_in_python_name_arguments() -> None:
    letters = np.zeros((60, 12, 12), np.uint8)
    letters[::2, 2:10, 5:7] = 255
    letters[1::2, 5:7, 2:10] = 255
    with pytest.warns(UserWarning, match="a smaller n_clusters") as told:
        Clusterer(5, "kmeans", calibrate=False, random_state=0).fit(letters)
    said = [str(one.message) for one in told]
    assert not [text for text in said if " -k" in text or "--" in text]
    found = supervised(letters, ["a", "b"] * 30, settings={"epochs": 1})
    assert not [note for note in found.notes if "--" in note]


def test_a_refused_place_has_the_name_that_the_function_gives_it(tmp_path: Path) -> None:
    model = Clusterer(3, "kmeans", calibrate=False, random_state=0).fit(X)
    with pytest.raises(InputError, match=r'^csv is one file: out="\S+/x\.txt" must end in \.csv\.$'):
        model.export("csv", tmp_path / "x.txt")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("x")
    with pytest.raises(InputError) as refused:
        model.save(tmp_path / "full" / "mine.txt")
    assert "output" not in str(refused.value)
