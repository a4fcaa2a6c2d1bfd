"""Sort items into groups: `demo` and `fit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from coterie.cli.commands.options import (
    Features,
    GivenSource,
    ImageSize,
    Json,
    LabelColumn,
    Quiet,
    RunFolder,
    Seed,
    Verbose,
    app,
)
from coterie.cli.completing import encoder_names, method_files
from coterie.cli.failing import failures
from coterie.cli.speech import Speech

Groups = Annotated[str | None, typer.Option("-k", "--n-clusters", help="Number of groups, or auto: see choose-k.")]
MethodName = Annotated[
    str | None,
    typer.Option(
        help="Method; `coterie methods` lists them; auto: by the source.  [default: auto]", autocompletion=method_files
    ),
]
Encoder = Annotated[
    str | None,
    typer.Option(
        help="Embed pictures first: a name of `coterie encoders`, auto or none.  [default: by --method]",
        autocompletion=encoder_names,
    ),
]
GivenSeed = Annotated[int | None, typer.Option(help="Seed of all random numbers.  [default: 0]")]
Epochs = Annotated[int | None, typer.Option(help="Epochs of the method's own stage.")]
Preset = Annotated[
    str | None,
    typer.Option(help="practical, paper or paper:DATASET; others: coterie methods NAME.  [default: practical]"),
]
Init = Annotated[str | None, typer.Option(help="Start from this run's backbone.")]
Finetune = Annotated[bool | None, typer.Option("--finetune", help="Fine-tune the encoder of the run given by --init.")]
Pretrain = Annotated[
    str | None,
    typer.Option(help="The method that trains the backbone first, or none.  [default: as in the method's paper]"),
]
Judged = Annotated[
    str | None, typer.Option(help="With --init: judged items of that run, for the calibration head alone.")
]
Calibrate = Annotated[
    bool | None,
    typer.Option(
        "--calibrate/--no-calibrate",
        help="Calibrate the confidences, without labels.  [default: unless the method calibrates itself]",
    ),
]
Backbone = Annotated[str | None, typer.Option(help="auto, small-16, small-32, mlp or a timm name.")]
Pretrained = Annotated[
    bool | None, typer.Option("--pretrained", help="Start from timm's weights for --backbone (downloads them).")
]
Weights = Annotated[str | None, typer.Option(help="Start from a local file of weights for --backbone or --encoder.")]
Family = Annotated[
    str | None, typer.Option(help="photo, glyph (letters: never mirrored) or auto, a guess.  [default: auto]")
]
Columns = Annotated[
    str | None, typer.Option(help="Features of a table: names, first..last or 'f*', separated by commas.")
]
GivenDevice = Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")]
GivenPrecision = Annotated[str | None, typer.Option(help="auto, bf16 or fp32.")]
Config = Annotated[Path | None, typer.Option(help="YAML file of settings; options win over it.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="One setting, as method.cells=40 or views.flip=0.")]
Labels = Annotated[str | None, typer.Option(help="True labels for evaluation: a file, or 'folders'.")]
Runs = Annotated[int, typer.Option(help="Number of seeds; with several, also says which run to trust.")]
SkipFailed = Annotated[
    bool, typer.Option("--skip-failed", help="With --runs: leave seeds out whose run fails, and compare the others.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue the run in -o where it stopped.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check and show the plan; train nothing.")]


@app.command()
def demo(
    out: RunFolder = None,
    seed: Seed = 0,
    resume: Resume = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Group 1,797 handwritten digits, to try coterie.

    The digits come with scikit-learn. From start to report it takes about a minute.
    """
    with failures():
        from coterie.cli.fit import FitRequest, fit_source

        # The small net on every machine: larger ones gain nothing on digits of 8 pixels.
        given = {"n_clusters": 10, "seed": seed, "backbone": "small-16"}
        fit_source(FitRequest("digits", given, out, resume, as_json=as_json, speech=Speech(quiet, verbose)))


@app.command()
def fit(
    context: typer.Context,
    source: GivenSource = None,
    n_clusters: Groups = None,
    method: MethodName = None,
    encoder: Encoder = None,
    out: RunFolder = None,
    seed: GivenSeed = None,
    epochs: Epochs = None,
    preset: Preset = None,
    init: Init = None,
    finetune: Finetune = None,
    pretrain: Pretrain = None,
    judged: Judged = None,
    calibrate: Calibrate = None,
    backbone: Backbone = None,
    pretrained: Pretrained = None,
    weights: Weights = None,
    image_size: ImageSize = None,
    family: Family = None,
    columns: Columns = None,
    device: GivenDevice = None,
    precision: GivenPrecision = None,
    config: Config = None,
    set_: Set = None,
    labels: Labels = None,
    label_column: LabelColumn = None,
    runs: Runs = 1,
    skip_failed: SkipFailed = False,
    features: Features = None,
    resume: Resume = False,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Sort SOURCE into groups.

    Writes a run folder with the result table, the model and the report.
    """
    with failures(sources=[source, *(features or [])]):
        from coterie.encoders.weights import check_at_hand

        check_at_hand(encoder, weights)  # what is missing is said before anything heavy is imported
        from coterie.cli.fit import FitRequest, fit_source
        from coterie.cli.settings import settings_given
        from coterie.data.spaces import source_given
        from coterie.types import InputError

        given_source = source_given(source, features or [])
        settings = settings_given(context.params, config, set_ or [])
        speech = Speech(quiet, verbose)
        how: dict[str, Any] = {"labels": labels, "label_column": label_column, "config": config, "speech": speech}
        request = FitRequest(given_source, settings, out, resume, dry_run, as_json, **how)
        if runs == 1:
            if skip_failed:
                raise InputError("--skip-failed is about several seeds: give their number with --runs.")
            fit_source(request)
        else:
            from coterie.cli.several import fit_several

            fit_several(request, runs, skip_failed=skip_failed)
