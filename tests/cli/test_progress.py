"""What a run says of its progress and of its time, before and while it trains."""

from __future__ import annotations

import io

import numpy as np
import pytest
import yaml
from rich.console import Console

from coterie.cli import progress
from coterie.cli.progress import StageBar


@pytest.mark.parametrize(
    ("per_step", "steps", "said"),
    [(0.5, 2000, "moco: about 16 min 3"), (10.0, 1000, "moco: about 2 h 46 min left"), (0.1, 100, "")],
)
def test_the_time_of_a_stage_is_told_after_its_first_steps(monkeypatch, per_step, steps, said):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    out = io.StringIO()
    with StageBar(Console(file=out, width=200), quiet=False) as bar:
        bar.begin("moco", 10, steps // 10, 0)
        for step in range(40):
            now[0] += 60.0 if step == 0 else per_step  # the first step warms up
            bar.step(None)
    assert out.getvalue().count("left") == bool(said)
    assert said in out.getvalue()


def test_with_json_lines_go_to_standard_error_unless_it_is_to_be_quiet(coterie, vectors, tmp_path):
    fit = ("fit", vectors, "-k", 3, "--epochs", 2, "--json", "-o")
    answer = coterie(*fit, tmp_path / "run")
    assert answer.object["n"] == 60
    assert "cdc epoch 2/2" in answer.err
    for option in ("-q", "--quiet"):
        quiet = coterie(*fit, tmp_path / option, option)
        assert quiet.object["n"] == 60
        assert quiet.err == ""
    assert coterie("predict", tmp_path / "run", vectors, "-o", tmp_path / "new.parquet", "-q").err == ""


@pytest.mark.parametrize(
    ("options", "warned"),
    [
        (("--family", "photo"), True),
        (("--family", "glyph"), False),
        (("--family", "photo", "--method", "finch", "--backbone", "auto"), False),
    ],
)
def test_too_few_photos_to_learn_from_are_said_before_training(coterie, images, tmp_path, options, warned):
    config = tmp_path / "config.yaml"
    config.write_text(f"family: {options[1]}\n")
    answer = coterie("fit", images, "-k", 3, "--dry-run", "--json", "--config", config, *options[2:])
    assert answer.code == 0, answer.err
    notes = " ".join(answer.object["notes"])
    assert ("96 photos are few" in notes) == warned
    assert ("--pretrained" in notes) == warned


def test_a_plan_shows_the_settings_that_matter_for_these_data(coterie, vectors):
    views = yaml.safe_load(coterie("fit", vectors, "-k", 3, "--dry-run").out)["views"]
    assert "vector_noise" in views
    assert not {"flip", "crop_scale", "glyph_shift", "jitter"} & set(views)
    plan = yaml.safe_load(coterie("fit", "digits", "--dry-run").out)
    assert not {"flip", "crop_scale", "vector_noise"} & set(plan["views"])
    assert "glyph_shift" in plan["views"]
    assert "calibration" not in plan
    assert "entropy_weight draws groups to equal sizes" in " ".join(plan["notes"])


def test_a_small_group_that_was_shared_out_is_told_in_the_end(coterie, tmp_path):
    rng = np.random.default_rng(0)
    small = rng.normal(size=(8, 12)) + 9
    np.save(tmp_path / "x.npy", np.concatenate([rng.normal(size=(392, 12)), small]).astype(np.float32))
    answer = coterie("fit", tmp_path / "x.npy", "-k", 2, "--epochs", 5, "-o", tmp_path / "run", "--json")
    assert answer.code == 0, answer.err
    assert 8 not in answer.object["sizes"]  # should CDC ever find them, this test wants other data
    (warning,) = [text for text in answer.object["warnings"] if "stand apart" in text]
    assert "About 8 of the 400 items" in warning
    assert "cdc.entropy_weight" in warning
    assert warning in (tmp_path / "run" / "report.html").read_text()


def test_a_large_group_that_was_divided_is_told_where_k_means_groups_all_stand_apart(coterie, tmp_path):
    rng = np.random.default_rng(3)
    centres, groups = rng.uniform(-4, 4, (4, 16)), np.repeat(np.arange(4), [250, 105, 37, 20])
    np.save(tmp_path / "x.npy", (centres[groups] + rng.normal(size=(412, 16))).astype(np.float32))
    run = ("fit", tmp_path / "x.npy", "-k", 4, "--json", "-o")
    answer = coterie(*run, tmp_path / "run", "--epochs", 2)
    assert answer.code == 0, answer.err
    assert 250 not in answer.object["sizes"]  # should CDC ever find them, this test wants other data
    (warning,) = [text for text in answer.object["warnings"] if "stand apart" in text]
    assert "are in other groups than K-means finds, whose 4 groups all stand apart" in warning
    assert "cdc.entropy_weight draws groups to equal sizes; compare the result of the method kmeans." in warning
    other = coterie(*run, tmp_path / "other", "--method", "kmeans")
    assert sorted(other.object["sizes"]) == [20, 37, 105, 250], other.err


MIX, FLIP = ("--set", "views.vector_mix=0.2"), ("--set", "views.flip=0.3")


@pytest.mark.parametrize(
    ("source", "options", "said"),
    [
        ("vectors", ("--family", "glyph", *FLIP, *MIX), "embeddings: --family, --set views.flip."),
        ("vectors", ("--image-size", 16, "--set", "views.row_norm=none"), "embeddings: --image-size."),
        ("images", ("--family", "photo", *MIX, *FLIP), "photographs: --set views.vector_mix."),
        ("images", ("--family", "glyph", "--set", "views.glyph_blur=0.3"), None),
        ("vectors", MIX, None),
    ],
)
def test_options_that_change_nothing_for_such_items_are_said(coterie, request, source, options, said):
    path = request.getfixturevalue(source)
    plan = coterie("fit", path, "-k", 3, "--method", "cdc", "--dry-run", "--json", *options).object
    found = [note for note in plan["notes"] if note.startswith("Without effect on ")]
    assert found == ([] if said is None else [f"Without effect on {said}"])


@pytest.mark.parametrize(("method", "idle"), [("kmeans", True), ("cdc", False)])
def test_views_of_a_method_that_trains_nothing_are_said(coterie, vectors, method, idle):
    given = (*FLIP, *MIX, "--set", "views.row_norm=none")
    plan = coterie("fit", vectors, "-k", 3, "--method", method, "--dry-run", "--json", *given).object
    said = "Without effect where nothing is trained: --set views.vector_mix."
    assert (said in plan["notes"]) == idle


@pytest.mark.parametrize(
    ("source", "method", "given", "said"),
    [
        ("images", "simclr", ("shift=0.2", "crop_scale=[0.5, 1]"), "simclr: --set views.shift."),
        ("images", "idec", ("shift=0.2", "crop_scale=[0.5, 1]"), "ae and idec: --set views.crop_scale."),
        ("images", "pica", ("enlarge=1.5", "cutout=4"), "pica: --set views.cutout."),
        ("images", "cdc", ("cutout=4", "strong_ops=2", "jitter_chance=0.5"), None),
        ("images", "byol", ("blur=0.1", "jitter_chance=0.5"), None),
        ("vectors", "idec", ("vector_noise=0.2", "row_norm=l2"), "ae and idec: --set views.vector_noise."),
        ("images", "simclr", ("blur=0", "blur_sigma=[0.1, 1]"), "simclr: --set views.blur_sigma (beside blur=0.0)."),
        ("images", "simclr", ("blur=0.5", "blur_sigma=[0.1, 1]"), None),
        (
            *("images", "simclr", ("jitter=[0, 0, 0, 0]", "jitter_chance=0.5")),
            "simclr: --set views.jitter_chance (beside jitter=[0.0, 0.0, 0.0, 0.0]).",
        ),
        (
            *("vectors", "simclr", ("vector_contrastive=0", "vector_mix=0.2")),
            "simclr: --set views.vector_mix (beside vector_contrastive=0.0).",
        ),
    ],
)
def test_settings_that_no_view_of_the_run_asks_for_are_said(coterie, request, source, method, given, said):
    path, options = request.getfixturevalue(source), [part for one in given for part in ("--set", f"views.{one}")]
    family = ["--family", "photo"] if source == "images" else []
    plan = coterie("fit", path, "-k", 3, "--method", method, "--dry-run", "--json", *family, *options).object
    found = [note for note in plan["notes"] if note.startswith("Without effect on the views of ")]
    assert found == ([] if said is None else [f"Without effect on the views of {said}"])
