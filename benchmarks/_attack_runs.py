"""Damaged and hostile run folders and model folders."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
from _attack_data import a_column
from _attack_place import Call, Place
from _damage import damaged, edited, nested, put_special


def model_folders(place: Place) -> list[Call]:
    rng = place.rng
    kind = rng.choice(("vectors", "vectors", "pixels"))
    run = place.run(kind)
    manifest = run / "model" / "manifest.json"
    how = rng.random()
    if how < 0.55:
        text = json.dumps(edited(rng, json.loads(manifest.read_text())), default=str)
        manifest.write_text(text)
    elif how < 0.62:
        manifest.write_text(nested(rng), encoding="utf-8")
    elif how < 0.92:
        path = rng.choice(sorted(path for path in (run / "model").iterdir()))
        content = path.read_bytes()
        edge = min(len(content), rng.choice((8, 300, 5000)))
        path.write_bytes(damaged(rng, content[:edge]) + content[edge:] if rng.random() < 0.6 else damaged(rng, content))
    else:
        put_special(rng, rng.choice([*(run / "model").iterdir(), run / "model"]))
    return place.after(kind)


def run_folders(place: Place) -> list[Call]:
    rng = place.rng
    kind = rng.choice(("vectors", "pixels"))
    run = place.run(kind)
    files = sorted(path for path in run.rglob("*") if path.is_file() and path.name != "run.yaml")
    for path in rng.sample(files, rng.choice((1, 1, 2))):
        how = rng.random()
        if path.suffix == ".json" and how < 0.6:
            path.write_text(json.dumps(edited(rng, json.loads(path.read_text())), default=str))
        elif path.suffix == ".jsonl" and how < 0.6:
            lines = path.read_text().splitlines()
            place_of = rng.randrange(len(lines))
            lines[place_of] = json.dumps(edited(rng, json.loads(lines[place_of])), default=str)
            path.write_text("\n".join(lines) + rng.choice(("", "\n", '\n{"sta')))
        elif path.suffix == ".npz" and how < 0.5:
            with np.load(path) as stored:
                kept = dict(stored)
            name = rng.choice(sorted(kept))
            kept[name] = kept[name][:1] if rng.random() < 0.5 else np.flip(kept[name])[:, None]
            np.savez(path, **kept)
        elif path.suffix == ".parquet" and how < 0.5:
            found = pq.read_table(path)
            column = rng.randrange(found.num_columns)
            changed = a_column(rng, len(found))
            found = rng.choice(
                (
                    found.remove_column(column),
                    found.slice(0, len(found) // 2),
                    found.set_column(column, found.column_names[column], changed),
                    found.append_column(found.column_names[column], changed),
                    found.replace_schema_metadata({"coterie.k": rng.choice(("x", "1", "999999999"))}),
                )
            )
            pq.write_table(found, path)
        elif how < 0.9:
            path.write_bytes(damaged(rng, path.read_bytes()))
        else:
            put_special(rng, path)
    return place.after(kind)
