"""After a run: assign new items, look through the groups, write them for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from coterie.cli.commands.options import (
    Device,
    Engine,
    Features,
    GivenSource,
    Json,
    Moved,
    OodScore,
    Quiet,
    Run,
    Verbose,
    Workers,
    app,
)
from coterie.cli.failing import failures
from coterie.cli.speech import Speech


@app.command()
def predict(
    run: Run,
    source: GivenSource = None,
    *,
    out: Annotated[
        Path,
        typer.Option("-o", "--output", help="Table to write (.parquet or .csv), or a folder for its parts."),
    ],
    features: Features = None,
    device: Device = "auto",
    engine: Engine = "local",
    workers: Workers = None,
    embedding: Annotated[bool, typer.Option("--embedding", help="Store the embedding as well.")] = False,
    ood_score: OodScore = None,
    recalibrated: Annotated[
        bool, typer.Option("--recalibrated", help="Correct the confidences as `recalibrate` did.")
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Assign new items to the groups of a run.

    The larger the column ood_score, the more an item is like the run's own items. With a folder as -o, or with
    --engine ray, the result is written in parts, and the same command continues an interrupted run.
    """
    with failures(sources=[source, *(features or [])]):
        from coterie.cli.predict import PredictRequest, predict_source
        from coterie.data.spaces import source_given

        how = (device, embedding, ood_score, recalibrated, engine, workers, as_json, Speech(quiet, verbose))
        predict_source(PredictRequest(run, source_given(source, features or []), out, *how))


@app.command()
def review(
    run: Run,
    port: Annotated[int, typer.Option(help="Port on this machine; 0 takes a free one.")] = 8765,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Only print the address.")] = False,
    source: Moved = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the reviewer, for the log.  [default: the user's name]")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Review the groups of a run in the browser.

    Name, merge, split, correct and audit groups. Ctrl-C ends it.
    """
    with failures(run=run):
        from coterie.cli.review import review_run

        review_run(run, port, Speech(quiet), browser=not no_browser, source=source, name=name)


@app.command()
def export(
    run: Run,
    to: Annotated[
        str | None, typer.Option("--to", help="Formats, separated by commas: csv, imagefolder, ... (docs/export.md).")
    ] = None,
    out: Annotated[Path | None, typer.Option("-o", "--output", help="File or folder to write.")] = None,
    back: Annotated[
        Path | None, typer.Option("--from", help="Read labels back: a file of Label Studio, FiftyOne, COCO or CSV.")
    ] = None,
    only: Annotated[str | None, typer.Option(help="all, decided, accepted or undecided.")] = None,
    link: Annotated[str, typer.Option(help="How pictures get into folders: copy, symlink or hard.")] = "copy",
    original: Annotated[
        bool, typer.Option("--original", help="Export the run's own result, without its review.")
    ] = False,
    include_rejected: Annotated[
        bool, typer.Option("--include-rejected", help="Also write pictures of no group, to _unlabeled.")
    ] = False,
    limit: Annotated[int | None, typer.Option(help="Write at most this many items.")] = None,
    source: Moved = None,
    document_root: Annotated[str | None, typer.Option(help="Document root of Label Studio's server.")] = None,
    thumbs: Annotated[bool, typer.Option("--thumbs", help="Small pictures in the table of embedding-atlas.")] = False,
    prefix_names: Annotated[
        bool, typer.Option("--prefix-names", help="Name files GROUP_image.jpg, as CVAT reads them.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what an export wrote there.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write groups and names for other programs.

    With --from it reads back labels that were set there.
    """
    with failures(run=run):
        from coterie.cli.export import ExportRequest, export_finished

        given: dict[str, Any] = {"only": only, "link": link, "original": original, "include_rejected": include_rejected}
        given |= {"limit": limit, "source": source, "document_root": document_root, "thumbs": thumbs}
        given |= {"prefix_names": prefix_names, "overwrite": overwrite}
        export_finished(ExportRequest(run, to, out, back, given, as_json, Speech(quiet)))


@app.command()
def report(run: Run, as_json: Json = False, quiet: Quiet = False) -> None:
    """Write the report of a run again.

    The report is one self-contained HTML file.
    """
    with failures(run=run):
        from coterie.cli.evaluate import renew_report

        renew_report(run, Speech(quiet), as_json=as_json)
