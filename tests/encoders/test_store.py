"""A folder of embeddings that is stopped, damaged, full, or of somebody else, and what it keeps."""

from __future__ import annotations

import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from coterie import embed
from coterie.data import open_source
from coterie.embedder import How, embedded
from coterie.encoders import store
from coterie.encoders.loading import Encoder
from coterie.types import InputError
from helpers import forked
from helpers.disks import fill, small_disk
from helpers.forked import COTERIE, SELF_KILLER

SMALL = "test_vit"


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


class Killed(BaseException):
    """What no code catches."""


def test_stopped_anywhere_and_gone_on_with_is_the_same_file(many, weights, tmp_path):
    """A part is written whole or not at all; here the run ends just before and just after each is."""
    embed(many, SMALL, weights=weights, output=tmp_path / "whole")
    stop_at = iter([0, 1, store.CHUNK, store.CHUNK + 8, 2 * store.CHUNK, 2 * store.CHUNK + 1])
    for done in stop_at:

        def progress(doing: str, at: int, total: int, done: int = done) -> None:
            if doing == "embedding" and at > done:
                raise Killed

        how, out = How(SMALL, weights, device="cpu"), tmp_path / "cut"
        with pytest.raises(Killed):
            embedded(many, how, out, max_skipped=0.0, progress=progress)
        assert not (tmp_path / "cut" / "features.json").exists()
    assert len(list((tmp_path / "cut" / "parts").iterdir())) == 2
    unfinished = tmp_path / "cut" / "parts" / f".{next((tmp_path / 'cut' / 'parts').iterdir()).name}.{2**22 + 1}.part"
    unfinished.write_bytes(b"of a process that was killed")
    embed(many, SMALL, weights=weights, output=tmp_path / "cut")
    assert files_of(tmp_path / "cut") == files_of(tmp_path / "whole")
    assert not (tmp_path / "cut" / "parts").exists()


def test_a_damaged_part_is_made_again(many, weights, tmp_path):
    embed(many, SMALL, weights=weights, output=tmp_path / "whole")

    def progress(doing: str, at: int, total: int) -> None:
        if doing == "embedding" and at > store.CHUNK:
            raise Killed

    how, out = How(SMALL, weights, device="cpu"), tmp_path / "cut"
    with pytest.raises(Killed):
        embedded(many, how, out, max_skipped=0.0, progress=progress)
    part, *_ = (tmp_path / "cut" / "parts").iterdir()
    part.write_bytes(part.read_bytes()[:1000])
    embed(many, SMALL, weights=weights, output=tmp_path / "cut")
    assert files_of(tmp_path / "cut") == files_of(tmp_path / "whole")


def test_pictures_that_were_away_while_others_were_embedded_are_seen_when_they_are_back(
    photos, weights, tmp_path, monkeypatch
):
    """A part said for ever that they cannot be read: its folder looked as it had before."""
    monkeypatch.setattr(store, "CHUNK", 16)
    (photos / "05.jpg").write_bytes(b"no picture")
    how, out, away = How(SMALL, weights, device="cpu"), tmp_path / "cut", tmp_path / "away"
    embedded(photos, how, tmp_path / "whole", max_skipped=0.1)

    def progress(doing: str, at: int, total: int) -> None:
        if at == total and not away.exists():  # the first pass, over their heads, has ended
            assert doing != "embedding"
            (photos / "b").rename(away)

    with pytest.raises(InputError, match=r"10 of the 40 images .* cannot be read"):
        embedded(photos, how, out, max_skipped=0.1, progress=progress)
    away.rename(photos / "b")
    seen = counted(monkeypatch)
    embedded(photos, how, out, max_skipped=0.1)
    assert sum(seen) == 40 - 16
    whole, cut = (files_of(folder)["features.npy"] for folder in (tmp_path / "whole", out))
    assert whole == cut


def test_a_disk_that_fills_at_the_end_is_said_and_loses_nothing(photos, weights, tmp_path):
    embed(photos, SMALL, weights=weights, output=tmp_path / "whole")
    with small_disk(tmp_path / "disk", "1m") as disk:
        out = disk / "features"
        command = ["embed", photos, "--encoder", SMALL, "--weights", weights, "-o", out, "-q"]
        assert forked.run(SELF_KILLER, 2, *command).returncode == -signal.SIGKILL  # all parts are there, and no more
        for unfinished in out.glob(".*.part"):
            unfinished.unlink()
        filler = fill(disk)
        answer = forked.run(COTERIE, *command)
        assert answer.returncode == 2
        assert b"features.npy could not be written (No space left on device)" in answer.stderr
        assert [path.name for path in out.iterdir()] == ["parts"]
        filler.unlink()
        assert forked.run(COTERIE, *command).returncode == 0
        assert files_of(out) == files_of(tmp_path / "whole")


@pytest.mark.slow
def test_killed_and_gone_on_with_is_the_same_file(photos, weights, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "CHUNK", 16)
    embed(photos, SMALL, weights=weights, output=tmp_path / "whole")
    killer = f"from coterie.encoders import store; store.CHUNK = {store.CHUNK}{SELF_KILLER}"
    command = ["embed", photos, "--encoder", SMALL, "--weights", weights, "-o", tmp_path / "cut", "-q"]
    for parts in (1, 2):
        assert forked.run(killer, 2, *command).returncode == -signal.SIGKILL
        assert len(list((tmp_path / "cut" / "parts").glob("*.npz"))) == parts
    assert forked.run(killer, 0, *command).returncode == 0
    whole, cut = (files_of(tmp_path / name)["features.npy"] for name in ("whole", "cut"))
    assert whole == cut


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pictures each call of an encoder had to look at, without those that fill the batch."""
    seen: list[int] = []
    plain = Encoder.__call__

    def call(self, pixels):
        seen.append(int(pixels.flatten(1).any(1).sum()))
        return plain(self, pixels)

    monkeypatch.setattr(Encoder, "__call__", call)
    return seen


def test_new_pictures_of_a_folder_are_embedded_alone(photos, weights, tmp_path, monkeypatch):
    out = tmp_path / "features"
    before = embed(photos, SMALL, weights=weights, output=out)
    Image.new("RGB", (40, 40), (200, 30, 30)).save(photos / "00-new.jpg")
    (photos / "07.jpg").rename(photos / "zz.jpg")  # the same content elsewhere
    (photos / "08.jpg").unlink()
    seen = counted(monkeypatch)
    after = embed(photos, SMALL, weights=weights, output=out)
    assert sum(seen) == 1
    assert len(after) == 40
    ids = open_source(out).ids
    assert ids[0] == "00-new.jpg"
    np.testing.assert_array_equal(after[ids.index("zz.jpg")], before[7])
    assert "08.jpg" not in ids
    seen.clear()
    np.testing.assert_array_equal(embed(photos, SMALL, weights=weights, output=out), after)
    assert sum(seen) == 0


def test_what_was_embedded_of_a_folder_that_has_changed_since_is_not_lost(many, weights, tmp_path, monkeypatch):
    """Killed, then a picture is added: the parts of the run before are of another source, but of the same pictures."""

    def progress(doing: str, at: int, total: int) -> None:
        if doing == "embedding" and at > 2 * store.CHUNK:
            raise Killed

    how, out = How(SMALL, weights, device="cpu"), tmp_path / "features"
    with pytest.raises(Killed):
        embedded(many, how, out, max_skipped=0.0, progress=progress)
    more = np.concatenate([np.full((1, 6, 6, 3), 77, np.uint8), many])
    seen = counted(monkeypatch)
    embed(more, SMALL, weights=weights, output=tmp_path / "features")
    assert sum(seen) <= 1 + len(many) - store.CHUNK


def test_a_folder_of_other_embeddings_is_not_written_over(photos, weights, tmp_path):
    out = tmp_path / "features"
    embed(photos, SMALL, weights=weights, output=out)
    with pytest.raises(InputError, match=r"made otherwise than asked.*pooling own, not cls"):
        embed(photos, SMALL, weights=weights, pooling="cls", output=out)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds 'letter.txt', which is no embedding"):
        embed(photos, SMALL, weights=weights, output=tmp_path / "other")
    for name in ("features.npy", "items.parquet", "features.json"):
        mine = tmp_path / f"only {name}" / name
        mine.parent.mkdir()
        mine.write_text("mine")
        with pytest.raises(InputError, match=f"holds '{name}', which coterie did not write"):
            embed(photos, SMALL, weights=weights, output=mine.parent)
        assert mine.read_text() == "mine"
    (tmp_path / "new" / "parts").mkdir(parents=True)
    (tmp_path / "new" / "parts" / "mine.npz").write_text("mine")
    embed(photos, SMALL, weights=weights, output=tmp_path / "new")
    assert os.listdir(tmp_path / "new" / "parts") == ["mine.npz"]


def test_an_encoder_is_the_same_by_two_paths(photos, weights, tmp_path, monkeypatch):
    """The embeddings of a run that was resumed from another folder were called those of another encoder."""
    encoder, out = tmp_path / "encoder", tmp_path / "features"
    encoder.mkdir()
    shutil.copy(weights, encoder / "model.safetensors")
    (encoder / "config.json").write_text(json.dumps({"architecture": SMALL, "num_classes": 0}))
    made = embed(photos, str(encoder), output=out)
    monkeypatch.chdir(tmp_path)
    seen = counted(monkeypatch)
    np.testing.assert_array_equal(embed(photos, "./encoder", output=out), made)
    assert sum(seen) == 0
    with pytest.raises(InputError, match=r"made otherwise than asked.*pooling own, not cls"):
        embed(photos, "./encoder", pooling="cls", output=out)
    spec = open_source(out).items.spec
    typed = replace(spec, encoding=replace(spec.encoding, encoder="./encoder"))
    assert len(open_source(out, like=typed).items) == len(made)
    with pytest.raises(InputError, match="with size 160, but the model was fitted with 64"):
        open_source(out, like=replace(typed, encoding=replace(typed.encoding, size=64)))
