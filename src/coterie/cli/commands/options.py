"""The typer app, and the arguments and options that several commands share, named as in Python."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coterie._version import __version__

app = typer.Typer(
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Sort unlabelled images or embeddings into groups, and say how far each assignment can be believed.",
)

SOURCE_HELP = "Folder of images or of .parquet files, .npy, .npz, .parquet, s3://..., or the name of a data set."
Source = Annotated[str, typer.Argument(help=SOURCE_HELP)]
GivenSource = Annotated[str | None, typer.Argument(metavar="SOURCE", help=SOURCE_HELP)]
SourceOrRun = Annotated[str, typer.Argument(metavar="SOURCE|RUN", help="As for fit, or a finished run's folder.")]
Features = Annotated[
    list[str] | None,
    typer.Option("--features", help="In place of SOURCE: embeddings of the items; repeat it for each feature space."),
]
Run = Annotated[Path, typer.Argument(help="A run folder, as `coterie fit -o` wrote it.")]
RunFolder = Annotated[Path | None, typer.Option("-o", "--output", help="Run folder to write.  [default: runs/...]")]
Table = Annotated[Path | None, typer.Option("-o", "--output", help="Table to write (.csv or .parquet).")]
Moved = Annotated[str | None, typer.Option("--source", help="Where the pictures are now, if they were moved.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Say nothing but results and errors.")]
Verbose = Annotated[
    bool, typer.Option("-v", "--verbose", help="Say more on standard error: every epoch, and how long it took.")
]
Seed = Annotated[int, typer.Option(help="Seed of all random numbers.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")]
Precision = Annotated[str, typer.Option(help="auto, bf16 or fp32.")]
Engine = Annotated[str, typer.Option(help="local, or ray: workers on the processors of a cluster or of this machine.")]
Workers = Annotated[int | None, typer.Option(help="Workers of --engine ray.  [default: as many as there is room for]")]
ImageSize = Annotated[int | None, typer.Option(help="Resize images to this side, in pixels.")]
LabelColumn = Annotated[
    str | None, typer.Option(help="Column with the labels, of --labels or of the source, where several could be meant.")
]
OodScore = Annotated[
    str | None,
    typer.Option(help="knn, mahalanobis, msp, entropy, max-logit, energy, or none to leave it out.  [default: knn]"),
]


def show_version(wanted: bool) -> bool:
    if wanted:
        print(f"coterie {__version__}")
        raise typer.Exit
    return wanted


Version = Annotated[
    bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version and exit.")
]


@app.callback()
def options(version: Version = False) -> None:
    """The options of `coterie` itself."""
