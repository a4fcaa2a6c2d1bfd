"""Stage 0: what a run folder says, and how it is read. Every command that takes a run folder reads it through here.

- `files`: regular files of bounded size, YAML and JSON of bounded depth; `arrays`: `.npz` with the arrays asked for
- `run`: the schema of `run.yaml`; `history`: of a line of `history.jsonl`; `metrics`: of `metrics.json`, `ood.json`
- `table`: `result.parquet`, what all its readers check; `review`: what a reviewed one says of its review
- `recalibration`, `duplicates`, `features`: of `recalibration.json`, `duplicates.json`, `features.json`
- `rows`: sets of rows as short texts; `group_names`: what a group may be called

A run folder may come from anyone and in any state. Whatever is wrong with a file of it is an InputError that names the
file and the entry, before anything is made of it. May not live here: torch, anything that computes.
"""

from coterie.records.run import Record, groups_of, judgements_in, read_record

__all__ = ["Record", "groups_of", "judgements_in", "read_record"]
