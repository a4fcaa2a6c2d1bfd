"""Does the mean of several runs know better how sure it is than one of them? Finished runs over one source.

    python experiments/ensemble.py digits --runs runs/digits-0 runs/digits-1 runs/digits-2 runs/digits-3 runs/digits-4

For each head of the runs (the answer first) the rows are: each run's own answer; `ensemble`, the medoid's groups with
the mean probability that all runs give them; `mean`, the mean probabilities with the groups that they make likeliest.
Beside them the label-free bound on the mean accuracy, and which run the label-free scores would take.
Nothing is trained; labels only measure. Writes experiments/results/ensemble_NAME.json.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from _runs import METRICS, label_free, study_finished

from coterie.data import labels_of
from coterie.evaluation import evaluate
from coterie.evaluation.ensemble import accuracy_bound
from coterie.prediction.results import read_result
from coterie.several import gather
from coterie.trusting import trust_runs


def record(source: str, runs: list[Path]) -> dict[str, Any]:
    """The numbers of each run and of both ensembles."""
    tables, records = [read_result(run / "result.parquet") for run in runs], [label_free(run) for run in runs]
    labels = labels_of(source, tables[0].ids)
    assert labels is not None, f"{source} carries no labels"
    rows, names = [], [f"seed {one['seed']}" for one in records]
    for head in tables[0].heads:
        own = [replace(table, heads={head: table.heads[head]}) for table in tables]
        said = gather(names, own, None).ensemble
        answers = {f"seed {one['seed']}": table.heads[head] for one, table in zip(records, own, strict=True)}
        answers |= {name: said.heads[name].numpy() for name in ("ensemble", "mean")}
        for name, p in answers.items():
            found = evaluate(labels.codes, p, class_names=labels.names)
            rows.append({"head": head, "answer": name, **{key: found[key] for key in (*METRICS, "auroc")}})
            print(head, name, {key: round(rows[-1][key], 4) for key in (*METRICS, "auroc")}, flush=True)
    medoid = gather(names, tables, None).medoid
    agreement, bound = accuracy_bound([table.labels.astype("int64") for table in tables])
    ranked = trust_runs(runs, names)
    return {
        "data": records[0]["source"]["name"],
        "method": records[0]["stages"][-1]["name"],
        "n": len(labels.codes),
        "k": records[0]["n_clusters"],
        "seeds": [one["seed"] for one in records],
        "seconds": [one["seconds"] for one in records],
        "medoid": names[medoid],
        "agreement": agreement,
        "bound": bound,
        "trust": None if ranked is None else ranked.as_json(),
        "rows": rows,
        "settings": {"stages": records[0]["stages"], "backbone": records[0]["backbone"]["name"]},
    }


def main() -> None:
    study_finished("ensemble", __doc__, record)


if __name__ == "__main__":
    main()
