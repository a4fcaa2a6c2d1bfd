"""Before a run: embed pictures, look at the data, list what there is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coterie.cli.commands.options import (
    Device,
    Engine,
    Json,
    Precision,
    Quiet,
    Seed,
    Source,
    SourceOrRun,
    Table,
    Verbose,
    Workers,
    app,
)
from coterie.cli.completing import encoder_names, method_files
from coterie.cli.failing import failures
from coterie.cli.speech import Speech


@app.command()
def methods(
    name: Annotated[
        str | None, typer.Argument(help="Show one method with all its settings.", autocompletion=method_files)
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """List the methods, or the settings of one."""
    with failures():
        from coterie.cli.methods import show_methods

        show_methods(name, Speech(quiet), as_json=as_json)


@app.command()
def encoders(as_json: Json = False, quiet: Quiet = False) -> None:
    """List the encoders with their licences.

    Says which of them are on this computer.
    """
    with failures():
        from coterie.cli.embed import show_encoders

        show_encoders(Speech(quiet), as_json=as_json)


@app.command()
def embed(
    source: Source,
    out: Annotated[
        Path, typer.Option("-o", "--output", help="Folder to write; one that is there is brought up to date.")
    ],
    encoder: Annotated[
        str,
        typer.Option(help="A name of `coterie encoders` or of timm, a folder, or auto.", autocompletion=encoder_names),
    ] = "auto",
    weights: Annotated[str | None, typer.Option(help="A local file of the encoder's weights.")] = None,
    image_size: Annotated[int | None, typer.Option(help="Picture size in pixels.  [default: the encoder's]")] = None,
    pooling: Annotated[str, typer.Option(help="own; for a vision transformer also cls, mean or cls+mean.")] = "own",
    squash: Annotated[
        bool, typer.Option("--squash", help="Squeeze whole pictures into a square; do not crop.")
    ] = False,
    device: Device = "auto",
    precision: Precision = "auto",
    max_skipped: Annotated[float, typer.Option(help="Largest share of unreadable pictures.")] = 0.2,
    engine: Engine = "local",
    workers: Workers = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Turn pictures into embeddings by a pretrained encoder.

    Run it again to continue after an interruption, or to embed only pictures that are new.
    """
    with failures(sources=[source]):
        from coterie.encoders.weights import check_at_hand

        check_at_hand(encoder, weights)
        from coterie.cli.embed import EmbedRequest, embed_source

        how = (encoder, weights, image_size, pooling, squash, device, precision, max_skipped, engine, workers)
        embed_source(EmbedRequest(source, out, *how, as_json=as_json, speech=Speech(quiet, verbose)))


@app.command("choose-k")
def choose_k(
    source: SourceOrRun,
    least: Annotated[int, typer.Option(help="Fewest groups to look at.")] = 2,
    most: Annotated[
        int | None, typer.Option(help="Most groups to look at.  [default: the square root of the items, at most 200]")
    ] = None,
    seed: Seed = 0,
    columns: Annotated[str | None, typer.Option(help="Features of a table, as for fit.")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Estimate the number of groups.

    Prints a curve and a recommendation, or says that no number stands out.
    """
    with failures(sources=[source]):
        from coterie.cli.choose_k import choose_groups

        choose_groups(source, least, most, seed, columns, Speech(quiet, verbose), as_json=as_json)


@app.command()
def duplicates(
    source: SourceOrRun,
    out: Table = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """List near-duplicates.

    Compares content and features. For a run, also says which of them are in different groups.
    """
    with failures(sources=[source]):
        from coterie.cli.duplicates import list_duplicates

        list_duplicates(source, out, Speech(quiet), as_json=as_json)
