"""Settings of the calibration head, and the practical ones for data of a size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from coterie.common.bounds import BatchSize, Count, Epochs, Rate, Restarts, Weight, Width
from coterie.contract import Facts
from coterie.objectives.mini_clusters import practical_cells
from coterie.types import InputError

STEPS = 300  # that the head takes at least, where a hundred epochs allow it


@dataclass(frozen=True)
class Calibration:
    """Settings of the calibration head; `practical_calibration` fits them to the data."""

    loss: Literal["region", "smoothing", "focal", "l1", "mixup"] = "region"  # all but `region`: for comparison
    epochs: Epochs = 10
    batch_size: BatchSize = 1000  # mini-clusters are formed within a batch
    sub_batch: BatchSize = 250  # items of one optimiser step
    cells: Count = 100  # K, mini-clusters in a batch; fewer of them give lower confidences (Theorem 1)
    cell_norm: Literal["l1", "l2", "none"] = "l1"  # of the features that mini-clusters are formed on
    restarts: Restarts = 1  # of the K-means in every batch
    hidden: Width = 512  # H, width of the head
    entropy_weight: Weight = 0.0  # w_en of Eq. 3; CDC's 1 pulls groups of unequal sizes towards equal ones
    head_rate: Rate = 3e-3  # Adam, falling to 0 along a cosine; as far in 300 steps as 1e-3 in 1,500

    def check(self, facts: Facts) -> None:
        """Raise InputError for settings that cannot work on so many items."""
        if not 2 <= self.batch_size <= facts.n:
            raise InputError(
                f"Setting calibrate.batch_size is {self.batch_size}: it must lie between 2 and the number of items, "
                f"{facts.n}."
            )
        if not 1 <= self.cells <= self.batch_size:
            raise InputError(
                f"Setting calibrate.cells is {self.cells}: it must lie between 1 and the batch size, {self.batch_size}."
            )


def practical_calibration(facts: Facts) -> dict[str, Any]:
    """CDC's practical rule: about four mini-clusters a group; 300 steps, up to 3,000 where 10 epochs take more."""
    k = max(2, facts.k)  # 0 while the method is still to find it
    batch = min(1000, facts.n, max(facts.n // 4, 20 * k))
    parts = 4 if batch >= 400 else 2 if batch >= 64 else 1
    steps = facts.n // batch * parts
    return {
        "epochs": min(100, max(-(-STEPS // steps), min(10, 10 * STEPS // steps), 1)),
        "batch_size": batch,
        "sub_batch": -(-batch // parts),
        "cells": practical_cells(batch, k),
        # Features of images are ReLU means, whose length says little; embeddings keep the distances they came with.
        "cell_norm": "l1" if facts.kind == "images" else "none",
        "hidden": min(512, max(16, k, facts.n // 4)),
    }
