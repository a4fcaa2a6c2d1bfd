"""The commands and their options, named as in Python. Heavy libraries are imported by the command itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from coterie._version import __version__
from coterie.cli.completing import encoder_names, method_files
from coterie.cli.failing import failures

app = typer.Typer(
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Sort unlabelled images or embeddings into groups, and say how far each assignment can be believed.",
)

Source = Annotated[str, typer.Argument(help="Folder of images, .npy, .npz, .parquet, or the name of a data set.")]
GivenSource = Annotated[
    str | None,
    typer.Argument(metavar="SOURCE", help="Folder of images, .npy, .npz, .parquet, or the name of a data set."),
]
Features = Annotated[
    list[str] | None,
    typer.Option("--features", help="In place of SOURCE: embeddings of the items; repeat it for each feature space."),
]
Run = Annotated[Path, typer.Argument(help="A run folder, as `coterie fit -o` wrote it.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="No progress on standard error.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")]
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
    """Typer wants a place for the options of `coterie` itself."""


@app.command()
def demo(
    out: Annotated[Path | None, typer.Option("-o", "--output", help="Run folder to write.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of all random numbers.")] = 0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Group 1,797 handwritten digits, to try coterie.

    The digits come with scikit-learn. From start to report it takes about a minute.
    """
    with failures():
        from coterie.cli.fit import FitRequest, fit_source

        # The small net on every machine: larger ones gain nothing on digits of 8 pixels.
        given = {"n_clusters": 10, "seed": seed, "backbone": "small-16"}
        fit_source(FitRequest("digits", given, out, as_json=as_json, quiet=quiet))


@app.command()
def fit(
    source: GivenSource = None,
    k: Annotated[
        str | None, typer.Option("-k", "--n-clusters", help="Number of groups, or auto: see choose-k.")
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="Method; `coterie methods` lists them; auto: by the source.  [default: auto]",
            autocompletion=method_files,
        ),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            help="Embed pictures first: a name of `coterie encoders`, auto or none.  [default: by --method]",
            autocompletion=encoder_names,
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--output", help="Run folder to write.  [default: runs/...]")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of all random numbers.  [default: 0]")] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs of the method's own stage.")] = None,
    preset: Annotated[
        str | None,
        typer.Option(help="practical, paper or paper:DATASET; others: coterie methods NAME.  [default: practical]"),
    ] = None,
    init: Annotated[str | None, typer.Option(help="Start from this run's backbone.")] = None,
    finetune: Annotated[
        bool | None,
        typer.Option("--finetune", help="Train the encoder of --init, a run on its embeddings, lightly."),
    ] = None,
    pretrain: Annotated[
        str | None,
        typer.Option(help="The method that trains the backbone first, or none.  [default: as in the method's paper]"),
    ] = None,
    judged: Annotated[
        str | None, typer.Option(help="With --init: judged items of that run, for the calibration head alone.")
    ] = None,
    calibrate: Annotated[
        bool | None,
        typer.Option(
            "--calibrate/--no-calibrate",
            help="Calibrate the confidences, without labels.  [default: unless the method calibrates itself]",
        ),
    ] = None,
    backbone: Annotated[str | None, typer.Option(help="auto, small-16, small-32, mlp or a timm name.")] = None,
    pretrained: Annotated[
        bool | None, typer.Option("--pretrained", help="Start from timm's weights for --backbone (downloads them).")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="Start from a local file of weights for --backbone or --encoder.")
    ] = None,
    image_size: Annotated[int | None, typer.Option(help="Resize images to this side, in pixels.")] = None,
    family: Annotated[
        str | None, typer.Option(help="photo, glyph (letters: never mirrored) or auto, a guess.  [default: auto]")
    ] = None,
    columns: Annotated[
        str | None, typer.Option(help="Features of a table: names, first..last or 'f*', separated by commas.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, bf16 or fp32.")] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file of settings; options win over it.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="One setting, as method.cells=40 or views.flip=0.")
    ] = None,
    labels: Annotated[str | None, typer.Option(help="True labels for evaluation: a file, or 'folders'.")] = None,
    label_column: LabelColumn = None,
    runs: Annotated[int, typer.Option(help="Number of seeds; with several, also says which run to trust.")] = 1,
    features: Features = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in -o where it stopped.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and show the plan; train nothing.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Sort SOURCE into groups.

    Writes a run folder with the result table, the model and the report.
    """
    with failures():
        from coterie.encoders.weights import check_at_hand

        check_at_hand(encoder, weights)  # what is missing is said before anything heavy is imported
        from coterie.cli.fit import FitRequest, fit_source
        from coterie.cli.settings import OF_THE_RUN, read_config, read_overrides
        from coterie.data.spaces import Spaces, source_given

        given_source = source_given(source, features or [])
        settings: dict[str, Any] = read_config(config) if config is not None else {}
        given = {
            "n_clusters": k,
            "method": method,
            "encoder": encoder,
            "seed": seed,
            "epochs": epochs,
            "preset": preset,
            "init": init,
            "finetune": finetune,
            "judged": judged,
            "pretrain": pretrain,
            "calibrate": calibrate,
            "backbone": backbone,
            "pretrained": pretrained,
            "weights": weights,
            "image_size": image_size,
            "family": family,
            "columns": columns,
            "device": device,
            "precision": precision,
        }
        settings |= {name: value for name, value in given.items() if value is not None}
        overrides = {**settings.get("overrides", {}), **read_overrides(set_ or [])}
        settings |= {name: overrides.pop(name) for name in OF_THE_RUN if name in overrides}
        settings["overrides"] = overrides
        if isinstance(given_source, Spaces):
            settings.setdefault("method", "turtle")
        flags = {"resume": resume, "dry_run": dry_run, "as_json": as_json, "quiet": quiet}
        request = FitRequest(
            given_source, settings, out, labels=labels, label_column=label_column, config=config, **flags
        )
        if runs != 1:
            from coterie.cli.several import fit_several

            fit_several(request, runs)
        else:
            fit_source(request)


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
    precision: Annotated[str, typer.Option(help="auto, bf16 or fp32.")] = "auto",
    max_skipped: Annotated[float, typer.Option(help="Largest share of unreadable pictures.")] = 0.2,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Turn pictures into embeddings by a pretrained encoder.

    Run it again to continue after an interruption, or to embed only pictures that are new.
    """
    with failures():
        from coterie.encoders.weights import check_at_hand

        check_at_hand(encoder, weights)
        from coterie.cli.embed import EmbedRequest, embed_source

        how = (encoder, weights, image_size, pooling, squash, device, precision, max_skipped)
        embed_source(EmbedRequest(source, out, *how, as_json=as_json, quiet=quiet))


@app.command()
def encoders(as_json: Json = False) -> None:
    """List the encoders with their licences.

    Says which of them are on this computer.
    """
    with failures():
        from coterie.cli.embed import show_encoders

        show_encoders(as_json=as_json)


@app.command()
def predict(
    run: Run,
    source: GivenSource = None,
    *,
    out: Annotated[Path, typer.Option("-o", "--output", help="Result table to write (.parquet).")],
    features: Features = None,
    device: Device = "auto",
    embedding: Annotated[bool, typer.Option("--embedding", help="Store the embedding as well.")] = False,
    ood_score: OodScore = None,
    recalibrated: Annotated[
        bool, typer.Option("--recalibrated", help="Correct the confidences as `recalibrate` did.")
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Assign new items to the groups of a run.

    The larger the column ood_score, the more an item is like the run's own items.
    """
    with failures():
        from coterie.cli.predict import predict_source
        from coterie.data.spaces import source_given

        given = {"embedding": embedding, "recalibrated": recalibrated}
        predict_source(
            run,
            source_given(source, features or []),
            out,
            device,
            ood_score=ood_score,
            as_json=as_json,
            quiet=quiet,
            **given,
        )


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
) -> None:
    """Compare a run with true labels.

    Prints accuracy and calibration. With --ood: how well the scores separate foreign items from the run's own.
    """
    with failures():
        from coterie.cli.evaluate import evaluate_finished

        evaluate_finished(run, labels, label_column, ood, ood_score, device, as_json=as_json, quiet=quiet)


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
    held_out: Annotated[float, typer.Option(help="Without --test: share of the items that is kept for scoring.")] = 0.2,
    init: Annotated[Path | None, typer.Option(help="Start from this run's backbone.")] = None,
    backbone: Annotated[str, typer.Option(help="As for fit.")] = "auto",
    epochs: Annotated[int | None, typer.Option(help="Epochs of training.  [default: by the number of items]")] = None,
    seed: Annotated[int, typer.Option(help="Seed of all random numbers.")] = 0,
    device: Device = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train the same net with labels, for comparison.

    It shows what the net can reach when the labels are known. It makes no groups and writes nothing.
    """
    with failures():
        from coterie.cli.supervised import YardstickRequest, teach

        how = (held_out, init, backbone, epochs, seed, device)
        teach(YardstickRequest(source, labels, label_column, test, test_labels, *how, as_json=as_json, quiet=quiet))


@app.command()
def report(run: Run, as_json: Json = False) -> None:
    """Write the report of a run again.

    The report is one self-contained HTML file.
    """
    with failures():
        from coterie.cli.evaluate import renew_report

        renew_report(run, as_json=as_json)


@app.command()
def accept(
    run: Run,
    max_error: Annotated[float, typer.Option(help="Share of the accepted items that may be wrong.")] = 0.05,
    judged: Annotated[Path | None, typer.Option(help="Judged items: columns id and right or label.")] = None,
    confidence_level: Annotated[float, typer.Option(help="Confidence level of the bound from --judged.")] = 0.95,
    out: Annotated[Path | None, typer.Option("-o", "--output", help="Table to write (.csv or .parquet).")] = None,
    draw: Annotated[int | None, typer.Option(help="Write this many random items, to be judged, to -o.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of --draw.")] = 0,
    recalibrated: Annotated[
        bool, typer.Option("--recalibrated", help="Use the confidences that `recalibrate` corrected.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Choose the items to take as they are.

    Finds the largest set of sure items of which at most --max-error is wrong.
    """
    with failures():
        from coterie.cli.accept import AcceptRequest, accept_items

        flags = {"recalibrated": recalibrated, "as_json": as_json}
        accept_items(AcceptRequest(run, max_error, confidence_level, judged, out, draw, seed, **flags))


@app.command()
def recalibrate(
    run: Run,
    judged: Annotated[Path, typer.Option(help="Judged items, as for accept: columns id and right or label.")],
    map_: Annotated[
        str, typer.Option("--map", help="temperature, platt, beta, or isotonic (from 500 items).")
    ] = "platt",
    out: Annotated[
        Path | None, typer.Option("-o", "--output", help="Table.  [default: RUN/result.recalibrated.parquet]")
    ] = None,
    as_json: Json = False,
) -> None:
    """Correct the confidences with a judged sample.

    Writes a table of its own, which says that labels were used.
    """
    with failures():
        from coterie.cli.recalibrate import recalibrate_run

        recalibrate_run(run, judged, map_, out, as_json=as_json)


@app.command()
def review(
    run: Run,
    port: Annotated[int, typer.Option(help="Port on this machine; 0 takes a free one.")] = 8765,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Only print the address.")] = False,
    source: Annotated[str | None, typer.Option(help="Where the pictures are now, if they were moved.")] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the reviewer, for the log.  [default: the user's name]")
    ] = None,
) -> None:
    """Review the groups of a run in the browser.

    Name, merge, split, correct and audit groups. Ctrl-C ends it.
    """
    with failures():
        from coterie.cli.review import review_run

        review_run(run, port, browser=not no_browser, source=source, name=name)


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, as `coterie fit -o` wrote them.")],
    out: Annotated[Path | None, typer.Option("-o", "--output", help="Page to write (.html).")] = None,
    as_json: Json = False,
) -> None:
    """Compare finished runs.

    Shows their numbers, means over seeds, how far any two agree, and which run to trust.
    """
    with failures():
        from coterie.cli.compare import compare_runs

        compare_runs(runs, out, as_json=as_json)


@app.command()
def duplicates(
    source: Annotated[str, typer.Argument(metavar="SOURCE|RUN", help="As for fit, or a finished run's folder.")],
    out: Annotated[Path | None, typer.Option("-o", "--output", help="Table to write (.csv or .parquet).")] = None,
    as_json: Json = False,
) -> None:
    """List near-duplicates.

    Compares content and features. For a run, also says which of them are in different groups.
    """
    with failures():
        from coterie.cli.duplicates import list_duplicates

        list_duplicates(source, out, as_json=as_json)


@app.command("choose-k")
def choose_k(
    source: Annotated[str, typer.Argument(metavar="SOURCE|RUN", help="As for fit, or a finished run's folder.")],
    least: Annotated[int, typer.Option(help="Fewest groups to look at.")] = 2,
    most: Annotated[
        int | None, typer.Option(help="Most groups to look at.  [default: the square root of the items, at most 200]")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of all random numbers.")] = 0,
    columns: Annotated[str | None, typer.Option(help="Features of a table, as for fit.")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Estimate the number of groups.

    Prints a curve and a recommendation, or says that no number stands out.
    """
    with failures():
        from coterie.cli.choose_k import choose_groups

        choose_groups(source, least, most, seed, columns, as_json=as_json, quiet=quiet)


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
    source: Annotated[str | None, typer.Option(help="Where the pictures are now, if they were moved.")] = None,
    document_root: Annotated[str | None, typer.Option(help="Document root of Label Studio's server.")] = None,
    thumbs: Annotated[bool, typer.Option("--thumbs", help="Small pictures in the table of embedding-atlas.")] = False,
    prefix_names: Annotated[
        bool, typer.Option("--prefix-names", help="Name files GROUP_image.jpg, as CVAT reads them.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what an export wrote there.")] = False,
    as_json: Json = False,
) -> None:
    """Write groups and names for other programs.

    With --from it reads back labels that were set there.
    """
    with failures():
        from coterie.cli.export import ExportRequest, export_finished

        given: dict[str, Any] = {"only": only, "link": link, "original": original, "include_rejected": include_rejected}
        given |= {"limit": limit, "source": source, "document_root": document_root, "thumbs": thumbs}
        given |= {"prefix_names": prefix_names, "overwrite": overwrite}
        export_finished(ExportRequest(run, to, out, back, given, as_json=as_json))


@app.command()
def methods(
    name: Annotated[
        str | None, typer.Argument(help="Show one method with all its settings.", autocompletion=method_files)
    ] = None,
    as_json: Json = False,
) -> None:
    """List the methods, or the settings of one."""
    with failures():
        from coterie.cli.methods import show_methods

        show_methods(name, as_json=as_json)
