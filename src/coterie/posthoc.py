"""`calibrate`: calibrated confidence for a clustering that was made elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from coterie.calibration import PostHoc, calibration_net
from coterie.common.arguments import seed_from
from coterie.common.callers import worded
from coterie.common.isolation import in_turn, isolated, warn_caller
from coterie.contract import Facts
from coterie.data import open_source
from coterie.data.items import Embeddings
from coterie.data.outliers import mark_outliers, usual_items
from coterie.networks.features import features_of, stream
from coterie.networks.net import Net
from coterie.prediction.clusterings import Calibrated, read_clustering
from coterie.training.coerce import shown
from coterie.training.device import accelerator_for
from coterie.training.distributed import share_batch_norm
from coterie.training.engine import Stage, train_stage
from coterie.training.history import History
from coterie.training.plan import calibration_for
from coterie.training.seeds import seed_of
from coterie.types import InputError, Source
from coterie.views.normalise import farthest, normalisation
from coterie.views.settings import ViewSettings


@isolated
@in_turn
def calibrate(
    embeddings: Any,
    probabilities_or_labels: Any,
    *,
    loss: str = "region",
    random_state: int | np.integer | np.random.RandomState | None = 0,
    settings: Mapping[str, Any] | None = None,
    device: str = "auto",
) -> Calibrated:
    """Give calibrated confidences to a clustering from any tool, without true labels.

    A head is trained on the embeddings to predict the mean assignment of each item's mini-cluster (Jia et al., "Towards
    Calibrated Deep Clustering Network", ICLR 2025, Eq. 1), so that it is less sure where neighbours are in different
    groups. The answer has `probabilities` (n, k), `confidence` (n,), `labels` (n,) and `groups` (k,): column j of the
    probabilities is groups[j].

    embeddings: (n, d), what the clustering was made from, or others in which similar items are near each other.
    probabilities_or_labels: the clustering, as probabilities (n, k) whose rows sum to 1, or as labels (n,), whole
    numbers or names. Items with the label -1 are not trained on, but get a group as well. loss: "region" is CDC's;
    "smoothing", "focal", "l1" and "mixup" are for comparison. random_state: as in `Clusterer`. settings: those of
    `coterie.calibration.Calibration`, such as {"cells": 40}. device: "auto", "cpu", "cuda", "mps".

    Raises InputError (a ValueError) for input that cannot work, before training.

    >>> import numpy as np
    >>> from coterie import calibrate
    >>> labels = np.arange(60) % 3
    >>> embeddings = 9 * np.eye(3)[labels] + np.random.default_rng(0).normal(size=(60, 3))
    >>> found = calibrate(embeddings, labels, settings={"epochs": 2})  # 2: an example is quick; leave it out
    >>> found.probabilities.shape, found.confidence.shape, found.groups
    ((60, 3), (60,), array([0, 1, 2]))
    """
    if settings is not None and not isinstance(settings, Mapping):
        raise InputError(f"settings is {shown(settings)}: it takes a mapping.")
    source = open_source(embeddings)
    if source.items.spec.kind != "embeddings":
        raise InputError("calibrate takes embeddings, one row per item, not images: cluster those with Clusterer.")
    mark_outliers(source)
    said = read_clustering(probabilities_or_labels, len(source.items))
    usual = ~np.isin(said.rows, np.asarray(source.outliers, np.int64))
    said = replace(said, rows=said.rows[usual], probabilities=said.probabilities[usual])
    for text in source.warnings:
        warn_caller(worded(text))
    seed, place = seed_from(random_state), accelerator_for(device)
    facts = Facts(len(said.rows), len(said.groups), "embeddings", str(place.device), dim=source.items.spec.dim)
    method = PostHoc(calibration_for(facts, {"loss": loss, **(settings or {})}), torch.from_numpy(said.probabilities))
    net = _net(method, source, seed).to(place.device)
    taught = source.items
    if len(said.rows) < len(source.items):
        taught = Embeddings(source.items.take(torch.from_numpy(said.rows)).numpy())
    stage = Stage(
        method,
        taught,
        family="vector",
        k=len(said.groups),
        seed=seed,
        views=ViewSettings(),
        features=features_of(net, taught),
        history=History(None),
        rank=place.process_index,
        processes=place.num_processes,
    )
    train_stage(net, stage)
    p = torch.cat(list(stream(net, source.items, lambda view: net.post_hoc(view).softmax(1))))
    confidence, label = (t.numpy() for t in p.max(1))
    return Calibrated(p.numpy(), confidence, said.groups[label], said.groups)


def _net(method: PostHoc, source: Source, seed: int) -> Net:
    """A net with a fresh head, in the scale of the items that are not far outside all others."""
    items = usual_items(source)
    mean, std = normalisation(items)
    net = calibration_net(method, mean, std, seed_of(seed, "calibrate", "weights"))
    net.limit = farthest(items, mean, std) if len(source.outliers) else None
    share_batch_norm(net)
    return net
