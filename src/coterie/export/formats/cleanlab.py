"""cleanlab: `pred_probs.npy` and `labels.npy`, classes 0 to K - 1 of which none is missing.

Groups without items are no classes: their columns are left out and the rows brought to 1 again. `classes.json` says
which group each class is. The labels are those of the export, the probabilities the run's.
"""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray

from coterie.common.words import counted
from coterie.export.jobs import Job
from coterie.export.registry import FolderFormat
from coterie.export.writing import Tree, as_json
from coterie.types import InputError


def write(tree: Tree, job: Job) -> None:
    """Probabilities, labels and ids of the items that have a group, as arrays.

    Raises InputError without probabilities, and for a single group.
    """
    items = job.with_group(job.items)
    if items.probabilities is None:
        raise InputError("The table keeps no probabilities, which cleanlab needs: export the run with --original.")
    used, labels = np.unique(items.label, return_inverse=True)
    if len(used) < 2:
        raise InputError("All items are in one group, and cleanlab compares groups.")
    p = items.probabilities[:, used].astype(np.float64)
    lost = 1 - p.sum(axis=1)
    whole = p.sum(axis=1, keepdims=True)
    p = np.where(whole > 0, p / np.where(whole > 0, whole, 1), 1 / len(used))
    tree.write("pred_probs.npy", _npy(p.astype(np.float32)))
    tree.write("labels.npy", _npy(labels.astype(np.int64)))
    classes = [{"class": at, "group": int(group), "name": items.names[int(group)]} for at, group in enumerate(used)]
    tree.write("classes.json", as_json(classes) + "\n")
    tree.rows("row", range(len(items)), items.ids)
    if len(used) < items.n_groups:
        empty = items.n_groups - len(used)
        job.notes.append(
            f"{counted(empty, 'group without items was', 'groups without items were')} left out, with up to "
            f"{max(lost.max(), 0):.2g} of a row's probability, and the rows sum to 1 again."
        )
    job.notes.append("cleanlab.filter.find_label_issues(labels, pred_probs) takes them.")


def _npy(array: NDArray[np.generic]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


FORMAT = FolderFormat(write, "cleanlab: probabilities and groups as arrays")
