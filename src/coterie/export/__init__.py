"""Stage 10, export: groups and names as other programs read them, and their judgements read back.

- `items`: which items, with which labels and names: the reviewed table where there is one, else the result table
- `formats/`: a file per format; its name is the name on the command line (`hf_parquet` is `hf-parquet`)
- `writing`: whole folders and files or none; `file_names`, `pictures`: what lies in them
- `back`: judgements that came back from elsewhere

May not live here: torch, anything of the web, anything that changes a run.
"""

from coterie.export.jobs import Exported, Options, export, export_run
from coterie.export.registry import format_names

__all__ = ["Exported", "Options", "export", "export_run", "format_names"]
