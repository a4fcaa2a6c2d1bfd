"""How far to believe a run: true labels, judged samples, other runs, and what labels would have reached."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coterie.cli.commands.options import (
    Device,
    ImageSize,
    Json,
    LabelColumn,
    Quiet,
    Run,
    Seed,
    Source,
    Table,
    Verbose,
    app,
)
from coterie.cli.failing import failures
from coterie.cli.speech import Speech


@app.command()
def evaluate(
    run: Run,
    labels: Annotated[
        str | None, typer.Option(help="A file (.csv, .tsv, .json, .npy, .npz, .parquet), or 'folders'.")
    ] = None,
    label_column: LabelColumn = None,
    ood: Annotated[str | None, typer.Option(help="A second source, of items that belong to no group.")] = None,
    ood_score: Annotated[str | None, typer.Option(help="Score to use with --ood.  [default: all]")] = None,
    device: Device = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Compare a run with true labels.

    Prints accuracy and calibration. With --ood: how well the scores separate foreign items from the run's own.
    """
    with failures(run=run):
        from coterie.cli.evaluate import evaluate_finished

        speech = Speech(quiet, verbose)
        evaluate_finished(run, labels, label_column, ood, ood_score, device, speech, as_json=as_json)


@app.command()
def accept(
    run: Run,
    max_error: Annotated[float, typer.Option(help="Share of the accepted items that may be wrong.")] = 0.05,
    judged: Annotated[Path | None, typer.Option(help="Judged items: columns id and right or label.")] = None,
    confidence_level: Annotated[
        float | None, typer.Option(help="Confidence level of the bound from --judged.  [default: 0.95]")
    ] = None,
    out: Table = None,
    draw: Annotated[int | None, typer.Option(help="Write this many random items, to be judged, to -o.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of --draw.  [default: 0]")] = None,
    recalibrated: Annotated[
        bool, typer.Option("--recalibrated", help="Use the confidences that `recalibrate` corrected.")
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Choose the items to take as they are.

    Finds the largest set of sure items of which at most --max-error is wrong.
    """
    with failures(run=run):
        from coterie.cli.accept import accept_items
        from coterie.cli.accept_answer import AcceptRequest
        from coterie.types import InputError

        if confidence_level is not None and judged is None and draw is None:
            raise InputError("--confidence-level is of the bound from judged items: give them with --judged.")
        if seed is not None and draw is None:
            raise InputError("--seed is of the sample that --draw writes: give --draw, or leave --seed out.")
        level = 0.95 if confidence_level is None else confidence_level
        how = (max_error, level, judged, out, draw, seed or 0, recalibrated)
        accept_items(AcceptRequest(run, *how, as_json=as_json, speech=Speech(quiet)))


@app.command()
def recalibrate(
    run: Run,
    judged: Annotated[Path, typer.Option(help="Judged items, as for accept: columns id and right or label.")],
    map_: Annotated[
        str, typer.Option("--map", help="temperature, platt, beta, or isotonic (from 500 items).")
    ] = "beta",
    out: Annotated[
        Path | None, typer.Option("-o", "--output", help="Another place for the table, beside the run's own.")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Correct the confidences with a judged sample.

    Writes a table of its own, which says that labels were used.
    """
    with failures(run=run):
        from coterie.cli.recalibrate import recalibrate_run

        recalibrate_run(run, judged, map_, out, Speech(quiet), as_json=as_json)


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, as `coterie fit -o` wrote them.")],
    out: Annotated[Path | None, typer.Option("-o", "--output", help="Page to write (.html).")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compare finished runs.

    Shows their numbers, means over seeds, how far any two agree, and which run to trust.
    """
    with failures():
        from coterie.cli.compare import compare_runs

        compare_runs(runs, out, Speech(quiet), as_json=as_json)


@app.command()
def supervised(
    source: Source,
    labels: Annotated[
        str | None, typer.Option(help="Labels to train with: a file, 'folders', or 'source' for the source's own.")
    ] = None,
    label_column: LabelColumn = None,
    test: Annotated[
        str | None, typer.Option(help="A second source, with labels of its own, to score the net on.")
    ] = None,
    test_labels: Annotated[
        str | None, typer.Option(help="Labels of --test: a file, or 'folders'.  [default: its own]")
    ] = None,
    held_out: Annotated[
        float | None, typer.Option(help="Without --test: share of the items that is kept for scoring.  [default: 0.2]")
    ] = None,
    init: Annotated[Path | None, typer.Option(help="Start from this run's backbone.")] = None,
    backbone: Annotated[str, typer.Option(help="As for fit.")] = "auto",
    image_size: ImageSize = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs of training.  [default: by the number of items]")] = None,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train the same net with labels, for comparison.

    It shows what the net can reach when the labels are known. It makes no groups and writes nothing.
    """
    with failures(sources=[source, test]):
        from coterie.cli.supervised import YardstickRequest, teach

        how = (held_out, init, backbone, image_size, epochs, seed, device, as_json, Speech(quiet, verbose))
        teach(YardstickRequest(source, labels, label_column, test, test_labels, *how))
