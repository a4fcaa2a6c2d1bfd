"""The numbers of the report's sections, counted by hand from small results."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coterie.report import headline
from coterie.report.choice import build_choice
from coterie.report.groups import build_groups
from coterie.report.judged import build_judged
from coterie.report.quality import build_quality
from coterie.report.read import ReadRun, Result, read_run
from coterie.report.training import build_stages

MakeRun = Callable[..., Path]
HALF = float(np.float32(0.5) - np.float32(2.0**-25))  # a half, less the rounding of a softmax
LABELS, SURE = np.array([0, 0, 0, 1, 1, 3]), np.array([0.95, 0.8125, HALF, 0.49, 0.8, 0.91])
PLAIN = {"source": {"spec": {"kind": "images"}}, "n_clusters": 4, "calibrated": True}


def of_six(path: Path, metrics: dict[str, Any] | None = None, **run: Any) -> ReadRun:
    """Six items in three of four groups."""
    return ReadRun(path, PLAIN | run, Result(path / "result.parquet", LABELS, SURE), metrics)


def test_tiles_count_the_sure_the_doubtful_and_the_groups(tmp_path: Path) -> None:
    found = [(tile.value, tile.name, tile.hint) for tile in headline.tiles(of_six(tmp_path))]
    assert found == [
        ("74.4%", "mean confidence", "top-1 probability"),
        ("33.3%", "sure images", "2 at 90% or more"),
        ("16.7%", "doubtful images", "1 below 50%"),
        ("3 of 4", "groups in use", "1 empty"),
        ("1 – 3", "smallest – largest group", "an even share is 2"),
    ]
    skipped = PLAIN["source"] | {"skipped": [{"id": "a", "reason": "b"}] * 3}  # type: ignore[operator]
    full = of_six(tmp_path, source=skipped, n_clusters=None)
    full = ReadRun(tmp_path, full.run, Result(tmp_path, LABELS.clip(max=2), SURE), None)
    assert [(tile.value, tile.hint) for tile in headline.tiles(full)[3:]] == [
        ("3", "none is empty"),
        ("1 – 3", "an even share is 2"),
        ("3", "could not be read, listed below"),
    ]


def test_an_item_of_just_ninety_percent_in_float32_is_sure(tmp_path: Path) -> None:
    confidence = np.float32([0.9, 0.9, 0.5, 0.4]).astype(np.float64)
    found = headline.tiles(ReadRun(tmp_path, PLAIN, Result(tmp_path, np.arange(4), confidence), None))
    assert [tile.hint for tile in found[1:3]] == ["2 at 90% or more", "1 below 50%"]


def test_the_first_sentences_say_how_it_was_sorted_and_how_many_are_wrong(tmp_path: Path) -> None:
    stages = [{"name": "moco"}, {"name": "cdc"}]
    encoding = {"kind": "embeddings", "encoding": {"encoder": "dinov2"}}
    told = {"stages": stages, "seconds": 75.0, "backbone": {"name": "mlp"}, "source": {"spec": encoding}}
    metrics = {"acc": 0.5, "confidence": 0.75, "n": 4, "unknown": 2}
    judged = headline.lede(of_six(tmp_path, {**metrics, "labels_used": 1}, **told))
    assert judged[-1].startswith("Measured against true labels (on the 4 with a known label that nobody judged), 50.0%")
    said = [line.replace("\N{NO-BREAK SPACE}", " ") for line in headline.lede(of_six(tmp_path, metrics, **told))]
    assert said == [
        "Sorted by moco → cdc with mlp in 1 min 15 s, on embeddings by dinov2.",
        "Mean confidence is 74.4%: if it can be believed, about 2 of 6 images are in a wrong group.",
        "Measured against true labels (on the 4 with a known label), 50.0% are right, so the confidence is 25.0 points "
        "too high.",
    ]
    plain = headline.lede(of_six(tmp_path, {"acc": 0.9, "confidence": 0.75}, stages=stages[1:], calibrated=False))
    assert plain == [
        "Sorted by cdc.",
        "Mean confidence is 74.4%, not calibrated: it does not say how many are wrong.",
        "Measured against true labels, 90.0% are right, so the confidence is 15.0 points too low.",
    ]
    assert headline.lede(of_six(tmp_path, {"acc": None, "confidence": 0.75}, stages=[]))[1:] == []


@pytest.mark.parametrize("k", [4, 40])
def test_each_group_has_its_size_its_confidence_and_its_extremes(make_run: MakeRun, k: int) -> None:
    folder = read_run(make_run(n=120, k=k, class_names=[f"class {c}" for c in range(k)]))
    assert folder.result is not None
    assert folder.metrics is not None
    labels, confidence = folder.result.labels, folder.result.confidence
    sizes = [int((labels == group).sum()) for group in range(k)]
    for group, told in zip(build_groups(folder), folder.metrics["per_cluster"], strict=True):
        rows = np.flatnonzero(labels == group.number)
        assert (group.size, group.class_name, group.accuracy) == (len(rows), told["class"], told["acc"])
        assert (group.share, group.relative_size) == pytest.approx((len(rows) / 120, len(rows) / max(sizes)))
        if len(rows) == 0:
            assert (group.confidence, group.histogram, group.surest) == (None, None, [])
            continue
        assert group.confidence == pytest.approx(confidence[rows].mean())
        assert (group.histogram is not None) == (k <= 30)
        per = 12 if k <= 30 else 5
        surer = (len(rows) + 1) // 2
        assert (len(group.surest), len(group.doubtful)) == (min(per, surer), min(per, len(rows) - surer))
        falling = [f"photo_{row:03}.png" for row in rows[np.argsort(-confidence[rows], kind="stable")]]
        assert [item.id for item in group.surest] == falling[: len(group.surest)]
        assert [item.id for item in group.doubtful] == falling[::-1][: len(group.doubtful)]


def test_mix_ups_are_the_largest_counts_off_the_matching() -> None:
    metrics = {
        "acc": 0.5,
        "n": 21,
        "classes": ["ant", "bee", "cow"],
        "confusion": {"clusters": [1, 0, 2], "counts": [[5, 2, 0], [3, 1, 4], [0, 6, 0]]},
        "per_cluster": [{"cluster": 0, "class": "bee"}, {"cluster": 1, "class": "ant"}, {"cluster": 2, "class": None}],
        "intervals": {"level": 0.95, "acc": [0.4, 0.625], "nmi": [None, None]},
        "nmi": 0.25,
        "overconfidence": -0.0321,
        "heads": {"clu": {"acc": 0.123, "aurc": 0.5}, "cal": {"acc": 0.5, "ece": 0.01}},
    }
    found = build_quality(metrics, "images")
    assert found is not None
    assert found.mixed_up == [
        "6 of class cow in group 0, which stands for bee",
        "4 of class bee in group 2, which stands for no class",
        "3 of class bee in group 1, which stands for ant",
        "2 of class ant in group 0, which stands for bee",
    ]
    assert [(tile.name, tile.value) for tile in found.tiles] == [
        ("accuracy", "50.0%"),
        ("NMI", "25.0%"),
        ("overconfidence", "−3.2%"),
    ]
    assert found.sentence == "Of 21 images with a known label. These labels took no part in the run."
    metrics |= {"labels_used": 1200, "labels": "column y of y.csv. Only 21 labelled items: no number here says much"}
    taught = build_quality(metrics, "images")
    assert taught is not None
    assert taught.sentence == (
        "Of 21 images with a known label, without the 1,200 whose judgement took part. These labels took no part in "
        "the run. Labels: column y of y.csv. Only 21 labelled items: no number here says much."
    )
    assert found.tiles[0].hint == "right after matching groups to classes (95% interval 40.0% to 62.5%)"
    assert found.tiles[1].hint == "shared information; 100% is the same"
    assert found.columns == ["accuracy", "ECE", "AURC"]
    assert found.heads == [
        ("clustering head", ["12.3%", "–", "50.0%"]),
        ("calibration head", ["50.0%", "1.0%", "–"]),
    ]


def test_judged_confidences_are_told_before_and_after_the_correction() -> None:
    off = {"confidence": 0.9, "accuracy": 0.75, "gap": 0.15, "gap_interval": [0.1, 0.2], "ece": 0.12, "p": 0.00099}
    better = off | {"confidence": 0.76, "gap": -0.01, "gap_interval": [-0.05, 0.04], "ece": -0.003, "p": 0.5}
    found = build_judged({"judged": 1200, "map": {"kind": "beta"}, "before": off, "after": better})
    assert found is not None
    assert "1,200 judged items were used to fit the map beta" in found.sentence
    assert found.rows == [
        ("before", ["90.0%", "75.0%", "15.0 points too high", "+10.0 to +20.0", "+12.0 points", "0.00099"]),
        ("after, cross-fitted", ["76.0%", "75.0%", "1.0 points too low", "−5.0 to +4.0", "−0.3 points", "0.5"]),
    ]


def test_the_choice_of_the_number_of_groups_is_told_at_that_number() -> None:
    curve = [{"k": k, "silhouette": k / 10, **({"gap": 1.5 * k} if k > 2 else {})} for k in (2, 3, 5)]
    told = {
        "k": 3,
        "curve": curve,
        "clear": True,
        "sentence": "3.",
        "ticks": {"gap": 3, "stability": 2},
        "notes": ["x"],
    }
    found = build_choice(told)
    assert found is not None
    assert (found.sentence, found.ticks, found.notes) == ("Number of groups: 3.", "gap 3, stability 2", ["x"])
    assert [(one.name, one.last) for one in found.curves] == [("silhouette", "0.3 at 3"), ("gap", "4.5 at 3")]
    unclear = build_choice(told | {"clear": False, "k": 4})
    assert unclear is not None
    assert (unclear.sentence, [one.last for one in unclear.curves]) == ("3.", ["", ""])
    assert build_choice(None) is None


def test_a_stage_says_its_epochs_its_time_and_its_speed() -> None:
    lines = [
        {"stage": "cdc", "epoch": epoch, "seconds": 30.0, "items_per_second": speed, "losses": {"a": loss}}
        for epoch, speed, loss in ((1, 1000.0, 0.5), (2, 2000.0, 0.25))
    ]
    run = {"stages": [{"name": "moco", "epochs": 7, "seconds": 0.5}, {"name": "cdc", "epochs": 9, "status": "failed"}]}
    first, second = build_stages(run, lines)
    said = [stage.summary.replace("\N{NO-BREAK SPACE}", " ") for stage in (first, second)]
    assert said == ["7 epochs · 0.5 s", "2 epochs · 1 min · 1,500 items per second · failed"]
    assert [(one.name, one.last) for one in second.curves] == [("loss: a", "0.25")]
