"""`coterie fit --init RUN --finetune` from the command line."""

from __future__ import annotations

import shutil

import numpy as np
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from coterie.prediction.results import read_result
from coterie.review import Review

SMALL = "test_resnet"


def test_a_run_is_fine_tuned_resumed_and_predicts(coterie, tmp_path):
    photos, rng = tmp_path / "photos", np.random.default_rng(0)
    photos.mkdir()
    for row in range(12):
        pixels = rng.integers(20, 60, (40, 48, 3))
        pixels[:, :, row % 3] += 160
        Image.fromarray(pixels.astype(np.uint8)).save(photos / f"{row:02d}.png")
    torch.manual_seed(0)
    save_file(timm.create_model(SMALL, pretrained=False, num_classes=0).state_dict(), tmp_path / "w.safetensors")
    by = ("--encoder", SMALL, "--weights", tmp_path / "w.safetensors", "--image-size", 32, "--method", "kmeans")
    frozen, tuned = tmp_path / "frozen", tmp_path / "tuned"
    assert coterie("fit", photos, "-k", 3, *by, "-o", frozen, "--no-calibrate", "-q").code == 0
    ask = ("fit", photos, "--init", frozen, "--finetune", "--epochs", 1, "--no-calibrate")
    ask = (*ask, "--set", "scan3.learning_rate=1e-5")
    plan = coterie(*ask, "--dry-run")
    assert plan.code == 0, plan.err
    assert "scan3" in plan.out
    assert "keep_statistics: true" in plan.out
    answer = coterie(*ask, "-o", tuned, "-q")
    assert answer.code == 0, answer.err
    assert "trained on here" in (tuned / "run.yaml").read_text()
    table = read_result(tuned / "result.parquet")
    assert table.k == 3
    assert coterie(*ask, "-o", tuned, "--resume", "-q").code == 0
    np.testing.assert_array_equal(read_result(tuned / "result.parquet").confidence, table.confidence)
    for seed in (0, 1):
        shutil.copytree(tuned, tmp_path / "several" / f"seed-{seed}")
    again = coterie(*ask, "--runs", 2, "-o", tmp_path / "several", "--resume", "-q")
    assert again.code == 0, again.err
    found = coterie("predict", tuned, photos, "-o", tmp_path / "new.parquet", "-q")
    assert found.code == 0, found.err
    np.testing.assert_array_equal(read_result(tmp_path / "new.parquet").labels, table.labels)
    refused = coterie("predict", tuned, frozen / "cache" / "features", "-o", tmp_path / "other.parquet")
    assert refused.code == 2
    assert "give it those" in refused.err
    said = f"{frozen} was reviewed, and the encoder is taught by its groups before that"
    assert said not in " ".join(coterie(*ask, "--dry-run", "--json").object["notes"])
    with Review(frozen) as review:
        review.merge(into=0, groups=[1])
    assert said in " ".join(coterie(*ask, "--dry-run", "--json").object["notes"])
    assert coterie("fit", photos, "-k", 4, *ask[2:], "-o", tmp_path / "x").code == 2
