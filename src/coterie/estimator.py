"""Clusterer: scikit-learn's face on the pipeline. `load` reads a saved model back."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from coterie.data import open_source
from coterie.methods.contract import Method, name_of
from coterie.pipeline import Watch, run
from coterie.prediction.model import Model, load_model
from coterie.prediction.results import ResultTable, read_result, write_result
from coterie.training.plan import RunSettings, coerce
from coterie.types import Assignments, Source


class Clusterer(ClusterMixin, BaseEstimator):
    """Sort images or embeddings into groups, with calibrated confidences.

    n_clusters: the number of groups, at least 2. method: a method's name (`coterie methods` lists them) or its
    settings object, such as `CDC(cells=40)`, which is then taken as it is. random_state: an int makes runs repeatable.
    epochs: of the method's own stage; None takes the preset's. preset: "practical" or "paper". settings: single
    settings over the preset, such as {"cells": 40, "moco.epochs": 10, "views.flip": 0.0}. init: a run folder whose
    backbone is the start. output: a run folder to write (None: keep everything in memory). backbone, pretrained,
    device, precision, image_size: as on the command line.

    After `fit`: `labels_` (n,), `confidence_` (n,) in [0, 1], `embedding_` (n, d), `history_` (a list of epochs),
    `result_` (ids, labels, confidences and every head's probabilities), `record_` (everything that was resolved).

    Raises InputError (a ValueError) for input that cannot work, before training; RunFailed for a run that went wrong.
    """

    def __init__(
        self,
        n_clusters: int = 8,
        method: str | Method = "cdc",
        *,
        random_state: int | np.random.RandomState | None = None,
        epochs: int | None = None,
        preset: str = "practical",
        settings: Mapping[str, Any] | None = None,
        init: str | None = None,
        output: str | os.PathLike[str] | None = None,
        backbone: str = "auto",
        pretrained: bool = False,
        device: str = "auto",
        precision: str = "auto",
        image_size: int | None = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.method = method
        self.random_state = random_state
        self.epochs = epochs
        self.preset = preset
        self.settings = settings
        self.init = init
        self.output = output
        self.backbone = backbone
        self.pretrained = pretrained
        self.device = device
        self.precision = precision
        self.image_size = image_size

    def fit(self, X: Any, y: object = None) -> Clusterer:
        """Group the items of X: a folder, a file, a named set, an array of images or embeddings, a torch Dataset.

        y is ignored: no label reaches training.
        """
        data = self._checked(X, fitting=True)
        seed = self.random_state
        if not isinstance(seed, int | np.integer):
            seed = int(check_random_state(seed).randint(2**31 - 1))
        names = ("n_clusters", "method", "epochs", "preset", "init", "backbone", "pretrained", "device", "precision")
        values = {name: getattr(self, name) for name in (*names, "image_size")}
        settings = coerce(
            RunSettings, {**values, "seed": int(seed), "overrides": dict(self.settings or {})}, "Clusterer"
        )
        out = None if self.output is None else Path(self.output)
        done = run(data, settings, out, watch=Watch())
        self.model_ = done.model
        self._remember(done.assignments)
        self.history_ = done.history.rows()
        self.record_ = done.record
        return self

    def predict(self, X: Any) -> NDArray[np.int64]:
        """The group of every item of X, 0 to n_clusters - 1; on the training data exactly `labels_`."""
        return self.predict_proba(X).argmax(axis=1)

    def predict_proba(self, X: Any) -> NDArray[np.float32]:
        """The probability of every group for every item of X, (n, n_clusters); rows sum to 1."""
        return self._assign(X).probabilities.numpy()

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write the model (safetensors and JSON, no pickle) and the result table; `load` reads them back."""
        check_is_fitted(self, "model_")
        out = Path(folder)
        self.model_.save(out / "model")
        heads = {name: torch.from_numpy(p) for name, p in self.result_.heads.items()}
        write_result(out / "result.parquet", Assignments(self.result_.ids, next(iter(heads.values())), heads))
        return out

    def _assign(self, X: Any) -> Assignments:
        check_is_fitted(self, "model_")
        data = self._checked(X, fitting=False)
        source = data if isinstance(data, Source) else open_source(data, like=self.model_.spec)
        return self.model_.predict(source)

    def _remember(self, assignments: Assignments) -> None:
        confidence, labels = assignments.probabilities.max(1)
        self.labels_ = labels.numpy()
        self.confidence_ = confidence.numpy()
        if assignments.embedding is not None:
            self.embedding_ = assignments.embedding.numpy()
        heads = {name: p.numpy() for name, p in assignments.heads.items()}
        self.result_ = ResultTable(list(assignments.ids), self.labels_, self.confidence_, heads)

    def _checked(self, X: Any, *, fitting: bool) -> Any:
        """Tables of numbers go through scikit-learn's own checks; paths, images and datasets to `open_source`."""
        many_axes = getattr(X, "ndim", 2) > 2
        dataset = not hasattr(X, "shape") and hasattr(X, "__getitem__") and not isinstance(X, list | tuple)
        if isinstance(X, str | os.PathLike) or many_axes or (dataset and not hasattr(X, "__array__")):
            return X
        if isinstance(X, torch.Tensor):
            X = X.numpy(force=True)
        return validate_data(self, X, dtype=np.float32, reset=fitting, ensure_min_samples=2 if fitting else 1)


def load(folder: str | os.PathLike[str], device: str = "cpu") -> Clusterer:
    """A fitted Clusterer from what `Clusterer.save` or `coterie fit -o` wrote.

    Raises InputError when there is no model, when it is of another version, or when the folder holds a pickle.
    """
    path = Path(folder)
    model: Model = load_model(path, device)
    loaded = Clusterer(n_clusters=model.k, method=name_of(model.method), device=device)
    loaded.model_ = model
    if model.spec.kind == "embeddings":
        loaded.n_features_in_ = model.spec.dim
    if (path / "result.parquet").exists():
        loaded.result_ = read_result(path / "result.parquet")
        loaded.labels_, loaded.confidence_ = loaded.result_.labels, loaded.result_.confidence
    return loaded
