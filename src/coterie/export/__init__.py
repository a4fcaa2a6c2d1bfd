"""Stage 10, export: groups and names as other programs read them, and their judgements read back.

- `items`: which items, with which labels and names: the reviewed table where there is one, else the result table
- `exporting`: an export from its beginning to its end; `jobs`: what each of its formats is given
- `formats/`: a file per format; its name is the name on the command line (`hf_parquet` is `hf-parquet`); `registry`
  finds them
- `writing`: whole folders and files or none; `file_names`, `pictures`: what lies in them
- `back`: judgements that came back from elsewhere; `back_programs`: in the form of each program;
  `known`: the run that they are about

May not live here: torch, anything of the web, anything that changes a run.
"""

from coterie.export.exporting import Exported, export, export_run
from coterie.export.jobs import Options
from coterie.export.registry import format_names

__all__ = ["Exported", "Options", "export", "export_run", "format_names"]
