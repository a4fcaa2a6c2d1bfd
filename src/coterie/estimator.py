"""Clusterer: scikit-learn's face on the pipeline. `load` reads a model back.

Torch is imported only when it is needed: to import, configure or clone the class takes little time.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.utils.validation import check_is_fitted

from coterie.common.arguments import are_several, path_from, seed_from, whole_number
from coterie.common.callers import worded
from coterie.common.isolation import isolated, warn_caller
from coterie.types import Assignments, Skipped, Source

if TYPE_CHECKING:
    from coterie.contract import Method
    from coterie.training.plan import RunSettings


class Clusterer(ClusterMixin, BaseEstimator):
    """Sort images or embeddings into groups, with calibrated confidences.

    n_clusters: the number of groups, at least 2, or "auto" (docs/choosing_k.md). method: a method's name (`coterie
    methods` lists them), "auto" (by the source), or a settings object such as `CDC(cells=40)`, used as it is.
    random_state: an int makes runs repeatable (None: `record_["seed"]` says which was drawn). epochs: of the method's
    own stage; None takes the preset's. preset: "practical", "paper" or "paper:" and a data set. settings: single ones
    over the preset, such as {"cells": 40, "moco.epochs": 10, "views.flip": 0.0}, and of the run: "max_skipped" (the
    largest share of unreadable pictures), "store_embedding", "checkpoint_seconds". init: a run folder whose backbone is
    the start.
    finetune: with the method "auto", fine-tune the encoder of the run `init` (docs/encoders.md).
    pretrain: the method that trains the backbone first ("moco"), or "none"; "auto": as the method's paper. calibrate:
    train a calibration head on the finished run, which then gives the confidences, not the labels; "auto": after every
    method that is not calibrated by itself (cdc is). output: a run folder to write (None: keep everything in memory).
    encoder: a pretrained encoder that embeds pictures first: a name of `coterie encoders` or of timm, a folder,
    "none", or "auto", the best on this computer; None: "auto" with the method "auto", else "none".
    backbone, device, precision, image_size: as on the command line. pretrained: begin with timm's weights of that
    backbone; weights: with those of a local file. family: "photo", "glyph" (letters and signs, never mirrored)
    or "auto", a guess by their looks. columns: the features of a table (.parquet or a DataFrame), as names, patterns
    ("f*") or ranges ("f0..f63"). runs: fit with so many seeds from random_state on and take the medoid, the run whose
    groups agree most with the others' (docs/trust.md); `output` is then a folder of run folders.

    After `fit`: `labels_` (n,), `confidence_` (n,) in [0, 1], `embedding_` (n, d), `history_` (a list of epochs),
    `result_` (ids, labels, confidences and every head's probabilities), `record_` (everything that was resolved).
    With several runs all of these are the medoid's; `runs_` says which it is, how the runs rank and what bounds their
    mean accuracy, and `ensemble_` is a result with the medoid's groups and the mean probability that all runs give
    them.

    Raises InputError (a ValueError) for input that cannot work, before training; RunFailed for a run that went wrong.

    >>> import numpy as np
    >>> from coterie import Clusterer
    >>> points = np.array([[0.0, 0.1], [0.2, 0.0], [9.0, 9.1], [9.2, 9.0]])  # or "photos/", or an array of images
    >>> model = Clusterer(n_clusters=2, method="kmeans", calibrate=False, random_state=0).fit(points)
    >>> model.labels_.shape, model.confidence_.shape, model.embedding_.shape
    ((4,), (4,), (4, 2))
    >>> bool(model.labels_[0] == model.labels_[1] != model.labels_[2])
    True
    """

    def __init__(
        self,
        n_clusters: int | Literal["auto"] = 8,
        method: str | Method = "cdc",
        *,
        random_state: int | np.random.RandomState | None = None,
        epochs: int | None = None,
        preset: str = "practical",
        settings: Mapping[str, Any] | None = None,
        init: str | os.PathLike[str] | None = None,
        finetune: bool = False,
        pretrain: str = "auto",
        calibrate: bool | Literal["auto"] = "auto",
        output: str | os.PathLike[str] | None = None,
        encoder: str | None = None,
        backbone: str = "auto",
        pretrained: bool = False,
        weights: str | os.PathLike[str] | None = None,
        device: str = "auto",
        precision: str = "auto",
        image_size: int | None = None,
        family: Literal["auto", "photo", "glyph"] = "auto",
        columns: str | Sequence[str] | None = None,
        runs: int = 1,
    ) -> None:
        self.n_clusters = n_clusters
        self.method = method
        self.random_state = random_state
        self.epochs = epochs
        self.preset = preset
        self.settings = settings
        self.init = init
        self.finetune = finetune
        self.pretrain = pretrain
        self.calibrate = calibrate
        self.output = output
        self.encoder = encoder
        self.backbone = backbone
        self.pretrained = pretrained
        self.weights = weights
        self.device = device
        self.precision = precision
        self.image_size = image_size
        self.family = family
        self.columns = columns
        self.runs = runs

    @isolated
    def fit(self, X: Any, y: object = None) -> Clusterer:
        """Group the items of X: a folder, a file, a named set, an array of images or embeddings, a torch Dataset.

        y is ignored: no label reaches training. What `coterie fit` warns of (`record_["warnings"]`) is a UserWarning,
        and so are pictures that cannot be read: they are in no attribute; `result_.ids` names those that are.
        A fit that fails leaves all attributes of the fit before, as those of scikit-learn do.
        Of several threads one fits at a time, for torch has one random state for all; processes fit side by side.

        >>> import numpy as np
        >>> from coterie import Clusterer
        >>> points = np.array([[0.0, 0.1], [0.2, 0.0], [9.0, 9.1], [9.2, 9.0]])
        >>> model = Clusterer(2, method="kmeans", calibrate=False, random_state=0).fit(points)
        >>> model.record_["seed"], len(model.result_.ids)
        (0, 4)
        """
        from coterie.data.reading import said_of
        from coterie.pipeline import run
        from coterie.several import MOST, fit_runs, table_of

        out = None if self.output is None else path_from(self.output, "output")
        count = whole_number(self.runs, "runs", 1, MOST)
        if count == 1:
            done = run(X, self._settings(), out)
            for name in ("runs_", "ensemble_"):
                self.__dict__.pop(name, None)  # of a fit before
        else:
            done, several = fit_runs(X, self._settings(), count, out)
            self.runs_, self.ensemble_ = several.as_json(), table_of(several.ensemble)
        self.model_ = done.model
        self._remember_names()
        self.history_ = done.history.rows()
        self.record_ = done.record
        self.result_ = table_of(done.assignments)
        self.labels_, self.confidence_ = self.result_.labels, self.result_.confidence
        assert done.assignments.embedding is not None
        self.embedding_ = done.assignments.embedding.numpy()
        left_out = [Skipped(item["id"], item["reason"]) for item in done.record["source"]["skipped"]]
        _warn([*done.record["warnings"], *said_of(left_out)])
        return self

    def predict(self, X: Any) -> NDArray[np.int64]:
        """The group of every item of X, 0 to n_clusters - 1; on the training data exactly `labels_`.

        >>> import numpy as np
        >>> from coterie import Clusterer
        >>> points = np.array([[0.0, 0.1], [0.2, 0.0], [9.0, 9.1], [9.2, 9.0]])
        >>> model = Clusterer(2, method="kmeans", calibrate=False, random_state=0).fit(points)
        >>> bool((model.predict(points) == model.labels_).all())
        True
        >>> bool(model.predict(np.array([[0.1, 0.1]]))[0] == model.labels_[0])
        True
        """
        return self.predict_proba(X).argmax(axis=1)

    @isolated
    def predict_proba(self, X: Any) -> NDArray[np.float32]:
        """The probability of every group for every item of X, (n, n_clusters); rows sum to 1.

        >>> import numpy as np
        >>> from coterie import Clusterer
        >>> points = np.array([[0.0, 0.1], [0.2, 0.0], [9.0, 9.1], [9.2, 9.0]])
        >>> model = Clusterer(2, method="kmeans", calibrate=False, random_state=0).fit(points)
        >>> p = model.predict_proba(points)
        >>> p.shape, p.sum(axis=1).round(3).tolist()
        ((4, 2), [1.0, 1.0, 1.0, 1.0])
        """
        opened = self._open(X)
        return self.model_.predict(opened).probabilities.numpy()

    @isolated
    def ood_score(self, X: Any, score: str = "knn") -> NDArray[np.float32]:
        """How much every item of X looks like the fitted ones, (n,); larger means more in-distribution.

        score: "knn" (nearest neighbours among the fitted items), "mahalanobis", "msp", "entropy", or, for methods with
        logits, "max-logit" or "energy". Raises InputError for one that this model cannot give.

        >>> import numpy as np
        >>> from coterie import Clusterer
        >>> points = np.array([[0.0, 0.1], [0.2, 0.0], [9.0, 9.1], [9.2, 9.0]])
        >>> model = Clusterer(2, method="kmeans", calibrate=False, random_state=0).fit(points)
        >>> near, far = model.ood_score(np.array([[0.1, 0.1], [90.0, -90.0]]))
        >>> bool(near > far)
        True
        """
        opened = self._open(X)
        return self.model_.predict(opened, ood_scores=[score]).ood_scores[score].numpy()

    @isolated
    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write a run folder: the model (safetensors and JSON, no pickle), the result table, record and history.

        `load` reads it back, and so do `coterie predict`, `evaluate` and `report`. Of embeddings only those are kept
        that were in the table of a loaded run (the setting `store_embedding`).
        Raises InputError for a folder that holds anything but this model, maybe under other names of its groups.

        >>> import numpy as np
        >>> from coterie import Clusterer
        >>> points = np.array([[0.0, 0.1], [0.2, 0.0], [9.0, 9.1], [9.2, 9.0]])
        >>> model = Clusterer(2, method="kmeans", calibrate=False, random_state=0).fit(points)
        >>> import tempfile
        >>> from coterie import load
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     loaded = load(model.save(folder))
        >>> bool((loaded.predict_proba(points) == model.predict_proba(points)).all())
        True
        """
        import torch

        from coterie.common.outputs import write_atomically
        from coterie.prediction.model import check_model_folder
        from coterie.prediction.results import write_result
        from coterie.records import judgements_in
        from coterie.training.runfolder import RunFolder

        check_is_fitted(self, "model_")
        out = path_from(folder, "The folder to save to")
        check_model_folder(out, self.model_)
        self.model_.save(out / "model")
        if hasattr(self, "result_"):
            heads = {name: torch.tensor(p) for name, p in self.result_.heads.items()}
            stored = self.result_.embedding  # of a run that was fitted with store_embedding
            embedding = None if stored is None else torch.tensor(stored)
            written = Assignments(self.result_.ids, next(iter(heads.values())), heads, embedding)
            write_result(out / "result.parquet", written, labels_used=judgements_in(getattr(self, "record_", {})))
        if hasattr(self, "record_"):
            write_atomically(out / "history.jsonl", "".join(json.dumps(row) + "\n" for row in self.history_))
            RunFolder(out).update(**self.record_)
        return out

    @isolated
    def merge_groups(self, groups: Sequence[Sequence[int]]) -> Clusterer:
        """Merge groups: in `[[2, 7], [1, 4, 5]]` 7 goes into 2, and 4 and 5 into 1. Returns self.

        The merged groups' probabilities are added, and every label is the likeliest group's again, so that
        `labels_ == predict(X)` stays true. Numbers stay, too: group 7 is empty afterwards. A merged group can become
        likelier than the group that an item was in; a warning says how many such items moved. Raises InputError.

        >>> import numpy as np
        >>> from coterie import Clusterer
        >>> points = np.array([[0.0, 0.1], [0.2, 0.0], [9.0, 9.1], [9.2, 9.0], [0.0, 9.0], [0.1, 9.2]])
        >>> model = Clusterer(3, method="kmeans", calibrate=False, random_state=0).fit(points)
        >>> sorted(set(model.merge_groups([[0, 2]]).labels_.tolist()))
        [0, 1]
        """
        from coterie import regroup

        check_is_fitted(self, "model_")
        regroup.merge_groups(self, groups)
        return self

    def rename(self, names: Mapping[int, str]) -> Clusterer:
        """Name groups, as {3: "tabby cat"}; "" takes a name away. `save` keeps names. Returns self.

        Raises InputError.

        >>> import numpy as np
        >>> from coterie import Clusterer
        >>> points = np.array([[0.0, 0.1], [0.2, 0.0], [9.0, 9.1], [9.2, 9.0]])
        >>> model = Clusterer(2, method="kmeans", calibrate=False, random_state=0).fit(points)
        >>> model.rename({0: "tabby cat"}).model_.names
        {0: 'tabby cat'}
        """
        from coterie import regroup

        check_is_fitted(self, "model_")
        regroup.rename(self, names)
        return self

    @isolated
    def export(self, to: str | Sequence[str], out: str | os.PathLike[str], **options: Any) -> Clusterer:
        """Write items and groups as other programs read them: "csv", "imagefolder", ... (docs/export.md). Returns self.

        options: only, link, include_rejected, limit, source, document_root, thumbs, prefix_names, overwrite, as on the
        command line. Raises InputError.

        >>> import numpy as np
        >>> from coterie import Clusterer
        >>> points = np.array([[0.0, 0.1], [0.2, 0.0], [9.0, 9.1], [9.2, 9.0]])
        >>> model = Clusterer(2, method="kmeans", calibrate=False, random_state=0).fit(points)
        >>> import os, tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> _ = model.export("csv", os.path.join(folder.name, "groups.csv"))
        >>> os.listdir(folder.name)
        ['groups.csv']
        >>> folder.cleanup()
        """
        from coterie import regroup

        check_is_fitted(self, "model_")
        regroup.export_fitted(self, to, path_from(out, "The place to export to"), options)
        return self

    def _settings(self) -> RunSettings:
        """The parameters as settings of a run. Raises InputError for those that cannot be."""
        from coterie.training.coerce import coerce
        from coterie.training.plan import OF_THE_RUN, RunSettings

        given = vars(self)
        values = {field.name: given[field.name] for field in fields(RunSettings) if field.name in given}
        values |= {
            "seed": seed_from(self.random_state),
            "init": None if self.init is None else str(path_from(self.init, "init")),
            "weights": None if self.weights is None else str(path_from(self.weights, "weights")),
            "columns": list(self.columns) if are_several(self.columns) else self.columns,
            "overrides": {} if self.settings is None else self.settings,
        }
        if isinstance(self.settings, Mapping):
            values |= {name: self.settings[name] for name in OF_THE_RUN if name in self.settings}
            values["overrides"] = {name: value for name, value in self.settings.items() if name not in OF_THE_RUN}
        # Numbers of NumPy, as a grid search gives them.
        plain = {name: value.item() if isinstance(value, np.generic) else value for name, value in values.items()}
        return coerce(RunSettings, plain, "Clusterer")

    def _open(self, X: Any) -> Source:
        """New items; what is left out of them is a UserWarning, for then rows of answers are not those of X."""
        from coterie.data.reading import said_of
        from coterie.encoders import open_items

        check_is_fitted(self, "model_")
        opened = open_items(X, like=self.model_.spec, device=self.device)
        _warn([*opened.warnings, *said_of(opened.skipped)])
        return opened

    def _remember_names(self) -> None:
        """Set `n_features_in_` and `feature_names_in_`, which scikit-learn compares new data with."""
        spec = self.model_.spec
        if spec.kind == "embeddings":
            self.n_features_in_ = spec.dim
        elif hasattr(self, "n_features_in_"):  # of a fit before, on embeddings
            del self.n_features_in_
        if spec.columns and len(spec.columns) == spec.dim:
            self.feature_names_in_ = np.array(spec.columns, dtype=object)
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_


def _warn(texts: Sequence[str]) -> None:
    for text in texts:
        warn_caller(worded(text))


@isolated
def load(folder: str | os.PathLike[str], device: str = "cpu") -> Clusterer:
    """Load a fitted Clusterer from a folder of `Clusterer.save`, `Clusterer(output=...)` or `coterie fit -o`.

    It predicts bit for bit what the saved one does, on the same kind of device. device: "cpu", "cuda", "mps" or "auto".
    Raises InputError when there is no model, when it is of another version, or when the folder holds a pickle. A run
    that was reviewed is loaded with its groups before that, which is a UserWarning.

    >>> import numpy as np
    >>> from coterie import Clusterer, load
    >>> points = np.array([[0.0, 0.1], [0.2, 0.0], [9.0, 9.1], [9.2, 9.0]])
    >>> model = Clusterer(2, method="kmeans", calibrate=False, random_state=0).fit(points)
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     loaded = load(model.save(folder))
    >>> bool((loaded.labels_ == model.labels_).all())
    True
    """
    from coterie.prediction.model import load_model
    from coterie.prediction.results import read_result
    from coterie.records import read_record
    from coterie.review.before import before_review
    from coterie.training.device import accelerator_for
    from coterie.training.history import read_history

    path = path_from(folder, "The folder to load")
    model = load_model(path, accelerator_for(device).device)
    loaded = Clusterer(n_clusters=model.k, method=model.method, device=device)
    loaded.model_ = model
    loaded._remember_names()
    record = read_record(path) if os.path.lexists(path / "run.yaml") else {}
    if (path / "result.parquet").exists():
        loaded.result_ = read_result(path / "result.parquet", record.get("source", {}).get("n"), model.k)
        loaded.labels_, loaded.confidence_ = loaded.result_.labels.astype(np.int64), loaded.result_.confidence
    if record:
        loaded.record_, loaded.history_ = record, read_history(path / "history.jsonl").rows()
    _warn(before_review(path, "what is loaded has"))
    return loaded
