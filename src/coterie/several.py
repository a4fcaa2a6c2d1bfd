"""Several seeds of one fit: groups matched, probabilities averaged, which run to trust. The medoid is the answer.

Used by `coterie fit --runs` and `Clusterer(runs=)`, which bring how one run is fitted and shown.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from coterie.common.outputs import PART, write_atomically
from coterie.encoders.store import lend
from coterie.evaluation.ensemble import combine
from coterie.evaluation.recalibration import with_confidence
from coterie.evaluation.trust import Trust
from coterie.pipeline import RunResult, run
from coterie.prediction.results import ResultTable, write_result
from coterie.running.prepared import Watch, items_of
from coterie.training.plan import RunSettings
from coterie.training.runfolder import Held
from coterie.training.sameness import same_items
from coterie.trusting import trust_models
from coterie.types import Assignments, InputError, RunFailed, Source

TABLE, RECORD, PAGE = "ensemble.parquet", "ensemble.json", "compare.html"
MOST = 100
PATIENCE = 2.0  # seconds until a run that another process has is looked at again


@dataclass(frozen=True)
class Several:
    """Finished runs compared: their ensemble, the medoid's index, and their ranks."""

    names: list[str]
    ensemble: Assignments
    medoid: int
    trust: Trust | None

    def as_json(self) -> dict[str, Any]:
        """Plain values, as `ensemble.json` has them."""
        middle = self.names[self.medoid]
        return {
            "runs": self.names,
            "medoid": middle,
            "table": TABLE,
            "trust": None if self.trust is None else self.trust.as_json(),
            "recommended": middle if self.trust is None else self.trust.recommended,
            "confidence": {name: float(p.max(1).values.mean()) for name, p in self.ensemble.heads.items()},
        }

    def write(self, out: Path, labels_used: int = 0, **more: Any) -> dict[str, Any]:
        """Write the table and the record, with `more` entries, into the folder of the runs. Returns the record.

        labels_used: judgements that took part in the runs, which both then say.
        """
        write_result(out / TABLE, self.ensemble, labels_used=labels_used)
        answer = {**self.as_json(), **more, **({"labels_used": labels_used} if labels_used else {})}
        write_atomically(out / RECORD, json.dumps(answer, indent=1) + "\n")
        return answer


def seeds_from(first: int, count: int) -> range:
    """The seeds of so many runs. Raises InputError for too few, too many, or a last seed that no run takes."""
    if not 2 <= count <= MOST:
        raise InputError(f"The number of runs is {count}: give 1 to {MOST}.")
    if first + count > 2**63:
        raise InputError(f"The seed is {first}, and each of {count} runs takes the next one: begin with a smaller one.")
    return range(first, first + count)


def names_of(seeds: Sequence[int]) -> list[str]:
    """What the runs, and their folders, are called."""
    return [f"seed-{seed}" for seed in seeds]


def check_folder_of_runs(out: Path, names: Sequence[str], *, resume: bool = False) -> None:
    """Raise InputError for a folder that holds anything else, or these runs already."""
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file: give another folder with -o.")
    there = {entry.name for entry in out.iterdir() if not PART.fullmatch(entry.name)} if out.is_dir() else set()
    strange = there - {*names, TABLE, RECORD, PAGE}
    if strange:
        raise InputError(f"{out} holds other files ({min(strange)}): give a new folder with -o.")
    if there and not resume:
        raise InputError(f"{out} already holds runs: go on with --resume, or choose another folder with -o.")


def fit_each(
    seeds: Sequence[int],
    n_clusters: Any,
    fit: Callable[[int, Any, Path | None], int],
    out: Path | None = None,
    waiting: Callable[[list[str]], None] = lambda names: None,
    failing: Callable[[int, RunFailed], None] | None = None,
) -> None:
    """Call `fit(seed, n_clusters, folder)`, which returns the number of groups, for each seed.

    One number of groups for all: -k auto looks once, in the first run. Embeddings of pictures that the first run made
    in its folder are lent to the others.

    Several processes may do the same in one folder: a run that another one holds (`fit` raises Held) is passed over,
    and asked for again when there is nothing else to do, until all are done. `waiting` then hears once which they are.
    A run that fails ends it, by a RunFailed that names its seed, and the folders of those that are done; where there
    is a `failing`, that hears of it instead, and the other seeds are fitted.
    """
    done: list[Path] = []
    left = list(zip(seeds, [None if out is None else out / name for name in names_of(seeds)], strict=True))
    first, told = left[0][1], False
    while left:
        held = []
        for place, (seed, folder) in enumerate(left):
            if folder is not None and first is not None:
                lend(first, folder)
            try:
                n_clusters = fit(seed, n_clusters, folder) or n_clusters
                done += [] if folder is None else [folder]
            except RunFailed as error:
                if failing is None:
                    raise _of_seed(seed, error, done) from error
                failing(seed, error)
            except Held:
                held.append((seed, folder))
                if n_clusters == "auto":  # which the first of them is to find
                    held += left[place + 1 :]
                    break
        if len(held) == len(left):
            if not told:
                waiting(names_of([seed for seed, _ in held]))
            told = True
            time.sleep(PATIENCE)
        left = held


def _of_seed(seed: int, error: RunFailed, done: Sequence[Path]) -> RunFailed:
    """The failure of one of several runs."""
    kept = f"{' and '.join(map(str, done))} {'is' if len(done) == 1 else 'are'} done and kept." if done else ""
    return RunFailed(f"Seed {seed}: {error.reason}", f"{error.advice} {kept}".strip())


def gather(names: Sequence[str], tables: Sequence[ResultTable], trust: Trust | None) -> Several:
    """The medoid's groups with the mean probability of all runs as confidence.

    Heads of the ensemble: `ensemble` is that; `mean` the mean probabilities, whose groups may differ; `single` the
    medoid's own. Raises InputError for runs over different items or with different numbers of groups.
    """
    first = tables[0]
    for table in tables[1:]:
        if table.ids != first.ids or table.k != first.k:
            raise InputError("The runs are over different items or numbers of groups: fit them again in a new folder.")
    heads = [next(iter(table.heads.values())) for table in tables]
    found = combine(heads)
    single = heads[found.medoid]
    share = found.probabilities[np.arange(len(single)), single.argmax(1)]
    named = {
        "ensemble": torch.from_numpy(with_confidence(single, share)),
        "mean": torch.from_numpy(found.probabilities.astype(np.float32)),
        "single": torch.tensor(single),
    }
    return Several(list(names), Assignments(first.ids, named["ensemble"], named), found.medoid, trust)


def fit_runs(source: Any, settings: RunSettings, count: int, out: Path | None) -> tuple[RunResult, Several]:
    """Fit with `count` seeds, in folders of `out` as the command line does (None: in memory): the medoid run, and all.

    Of the other runs their models and answers are kept until they are compared. Pictures are read and embedded once.
    Raises InputError and RunFailed.
    """
    seeds = seeds_from(settings.seed, count)
    names = names_of(seeds)
    if out is not None:
        check_folder_of_runs(out, names)
    first: dict[str, Any] = {}  # the items of the first seed

    def ready(opened: Source) -> None:
        """Refuse items that are others than before: the ids of an array are its rows, whatever is in them."""
        now = items_of(opened)
        if not same_items(first, now):
            again = "fit them again" if out is None else "fit them again in a new folder"
            if not isinstance(source, str | os.PathLike):
                again += " (a Dataset without its random transforms)"
            raise InputError(f"{opened.name} has changed since the first of the {count} runs: {again}.")
        first.update(now)

    fitted: dict[int, RunResult] = {}  # by seed: a run that another process holds is done after later ones

    # A run may map pictures or embeddings that lie there, so where files in use stay, they may stay until the end.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as shared:

        def fit(seed: int, n_clusters: Any, folder: Path | None) -> int:
            own = replace(settings, seed=seed, n_clusters=n_clusters)
            found = run(source, own, folder, watch=Watch(ready), cache=Path(shared) if out is None else None)
            said = found.assignments
            fitted[seed] = replace(found, assignments=replace(said, embedding=None))
            return found.model.k

        fit_each(seeds, settings.n_clusters, fit, out)
        done = [fitted[seed] for seed in seeds]
        tables = [table_of(one.assignments) for one in done]
        labels = [table.labels for table in tables]
        found = gather(names, tables, None)  # refuses runs that cannot be compared
        found = replace(found, trust=trust_models(names, labels, [one.model for one in done], tables[0].k))
        if out is not None:
            found.write(out)
        middle = done[found.medoid]
        # The embeddings of all runs would not fit where one does, so the medoid's are computed again.
        again = middle.model.predict(middle.source, embedding=True)
    return replace(middle, assignments=replace(middle.assignments, embedding=again.embedding)), found


def table_of(said: Assignments) -> ResultTable:
    """Assignments as arrays."""
    confidence, labels = said.probabilities.max(1)
    heads = {name: p.numpy() for name, p in said.heads.items()}
    return ResultTable(list(said.ids), labels.numpy(), confidence.numpy(), heads)
