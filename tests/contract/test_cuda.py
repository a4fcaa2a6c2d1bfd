"""What every method must keep on a CUDA device; skipped where there is none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from coterie import calibrate
from coterie.pipeline import run
from coterie.prediction.model import load_model
from coterie.types import Source
from helpers.small_runs import RUNS, data_of, settings_for

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")


@pytest.mark.parametrize(("name", "kind"), RUNS, ids=["-".join(case) for case in RUNS])
def test_what_was_trained_on_cuda_answers_the_same_on_both_devices(
    name: str, kind: str, digits: Source, tmp_path: Path
) -> None:
    data = data_of(kind, digits)
    settings = replace(settings_for(name, kind), device="cuda", precision="fp32", calibrate=True)
    longer = {f"{stage}.epochs": 60 for stage in ("ae", "acai") if f"{stage}.epochs" in settings.overrides}
    settings = replace(settings, overrides={**settings.overrides, **longer, "calibrate.epochs": 2})
    trained = run(data, settings, tmp_path / "run")
    answers = [load_model(tmp_path / "run", device).predict(trained.source) for device in ("cuda", "cpu")]
    assert list(answers[0].heads) == list(answers[1].heads) == list(trained.assignments.heads)
    for head, p in answers[0].heads.items():
        torch.testing.assert_close(p, trained.assignments.heads[head], atol=1e-3, rtol=0)
        torch.testing.assert_close(p, answers[1].heads[head], atol=1e-3, rtol=0)


def test_a_clustering_of_elsewhere_is_calibrated_on_cuda_as_on_the_cpu() -> None:
    labels = np.arange(60) % 3
    embeddings = (9 * np.eye(3)[labels] + np.random.default_rng(0).normal(size=(60, 3))).astype(np.float32)
    found = [calibrate(embeddings, labels, settings={"epochs": 2}, device=device) for device in ("cuda", "cpu")]
    np.testing.assert_allclose(found[0].probabilities, found[1].probabilities, atol=1e-3)
