"""What experiments on one source share: a run folder that is made, gone on with or only read, and the options."""

from __future__ import annotations

import argparse
import fcntl
import io
import json
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from coterie.catalogue import method_class, method_names
from coterie.cli.settings import read_overrides
from coterie.cli.several import check_alike
from coterie.common.outputs import write_atomically
from coterie.data import GROUPS, Labels, labels_of
from coterie.measuring import evaluate_run
from coterie.pipeline import run
from coterie.prediction.results import read_result
from coterie.records import Record, judgements_in, read_record
from coterie.running.prepared import Watch
from coterie.training.device import machine
from coterie.training.plan import RunSettings
from coterie.training.presets import preset_names
from coterie.types import CoterieError, InputError

RESULTS = Path(__file__).parent / "results"
FIGURES = RESULTS.parents[1] / "docs" / "figures"
METRICS = ("acc", "nmi", "ari", "ece", "confidence")
GROUND = ("device", "backbone", "preset")


def say_plainly(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
    """Print an error that a user can do something about as its sentence alone, any other with its traceback."""
    if isinstance(error, CoterieError):
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, where)


sys.excepthook = say_plainly  # of every script that imports this; each then ends with exit code 1


def label_free(run: Path) -> Record:
    """The record of a run. Raises InputError where a person's judgements took part: no table here has such numbers."""
    record = read_record(run)
    if judgements_in(record):
        raise InputError(
            f"Judged labels took part in {run}, so it stands in no table of label-free numbers: leave it out."
        )
    return record


def row(
    source: str,
    settings: RunSettings,
    out: Path,
    metrics: tuple[str, ...] = METRICS,
    *,
    labels: Labels | None = None,
) -> dict[str, Any]:
    """One run, from its folder where it is there already; its metrics by head, by the source's labels or `labels`.

    Raises InputError for a folder with a run of other settings, whose numbers would stand under a wrong title.
    """
    check_alike(out, settings)
    done = (out / "run.yaml").exists() and label_free(out)["status"] == "done"
    if not done:
        watch = Watch(
            after_epoch=[lambda record, net: print(out.name, record.stage, record.epoch, record.losses, flush=True)]
        )
        run(source, settings, out, resume=(out / "run.yaml").exists(), watch=watch)
    labels = labels or labels_of(source, read_result(out / "result.parquet").ids)
    assert labels is not None, f"{source} carries no labels"
    found, record = evaluate_run(out, labels), label_free(out)
    heads = {name: {key: head[key] for key in metrics} for name, head in found["heads"].items()}
    print(out.name, heads, flush=True)
    return {"heads": heads, "seconds": record["seconds"], "stages": record["stages"], "record": record}


@contextmanager
def claim(path: Path, *, wait: bool) -> Iterator[bool]:
    """Whether this process alone may now make the file `path`. A process that dies lets go of its claim."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_name(f".{path.name}.lock"), "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True


def kept_once(path: Path, make: Callable[[], dict[str, Any]], *, wait: bool) -> dict[str, Any] | None:
    """A record from its file, made and written whole where there is none; None while another process makes it."""
    with claim(path, wait=wait) as mine:
        if not path.exists():
            if not mine:
                return None
            write_atomically(path, json.dumps(make(), indent=1) + "\n")
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def reference(
    script: str, given: argparse.Namespace, method: str, asked: str = "", metrics: tuple[str, ...] = METRICS
) -> None:
    """A method and its calibration on one source, by seed; `asked` are options that only this script has.

    `metrics` of a record are those of the method's own first head. Writes SCRIPT_<data>.json, or with `asked`
    SCRIPT_<method>_<data>.json, after each seed.
    """
    name, overrides = given.name or given.source, read_overrides(given.set)
    records: list[dict[str, Any]] = []
    for at, seed in enumerate(given.seeds):
        settings = replace(ground(given), method=method, seed=seed, calibrate="auto", overrides=overrides)
        found = row(given.source, settings, given.runs / f"{name}-{method}-{seed}", metrics)
        record, heads = found["record"], found["heads"]
        own = [head for head in heads if head != "cal"] or list(heads)
        records.append(
            {
                "data": name,
                "method": method,
                "n": record["source"]["n"],
                "k": given.k,
                "seed": seed,
                "seconds": found["seconds"],
                "skipped": len(record["source"]["skipped"]),
                "metrics": heads[own[0]],
                "heads": heads,
                "settings": record["stages"][-1]["settings"],
                "calibration": record["calibration"],
                "views": record["views"],
                "backbone": record["backbone"]["name"],
                "precision": record["precision"]["value"],
                "machine": record["machine"],
            }
        )
        command = command_line(script, given, given.seeds[: at + 1], asked)
        title = f"{script}_{method}_{name}" if asked else f"{script}_{name}"
        write_records(title, command, records, given.results)


def overrides_of(assignments: list[str], methods: Collection[str]) -> dict[str, Any]:
    """What --set gave. Raises InputError for a setting of a stage that no run here has: no row would take it."""
    overrides, stages = read_overrides(assignments), [*dict.fromkeys(methods), "views"]
    for path in overrides:
        if path.rpartition(".")[0] not in stages:
            raise InputError(f"--set {path}: no run here has such a setting; they begin with {', '.join(stages)}.")
    return overrides


def of_stage(overrides: Mapping[str, Any], stage: str) -> dict[str, Any]:
    """What --set gave for one method, and for its views: where stages are runs of their own, each takes its part."""
    return {key: value for key, value in overrides.items() if key.startswith((f"{stage}.", "views."))}


def command_line(script: str, given: argparse.Namespace, seeds: list[int], asked: str = "") -> str:
    """The command that makes a record, without the folders of the machine it was made on."""
    source = f"{Path(given.source).name} --name {given.name}" if given.name else given.source
    words = [f"python experiments/{script}.py", source, "-k", str(given.k)]
    words += [*([asked] if asked else []), "--seeds", *map(str, seeds)]
    return " ".join([*words, *ground_words(given)])


def given_seed(text: str) -> int:
    """A seed of the command line."""
    seed = int(text)
    if seed < 0:
        raise argparse.ArgumentTypeError(f"{text} is below 0")
    return seed


def parser(description: str | None) -> argparse.ArgumentParser:
    """The options that experiments on one source share."""
    found = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("source")
    found.add_argument("-k", type=int, required=True)
    found.add_argument("--name")
    found.add_argument("--seeds", type=given_seed, nargs="+", default=[0])
    found.add_argument("--runs", type=Path, default=Path("runs/reference"))
    found.add_argument("--results", type=Path, default=RESULTS)
    return with_ground(found)


class OnDrawn(argparse.ArgumentParser):
    """Without -k as many groups are asked for as the named set has."""

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        given = super().parse_args(args, namespace)
        if given.k is None:
            given.k = GROUPS.get(given.source, 10)
        return given


def parser_for_drawn(description: str | None, runs: Path) -> argparse.ArgumentParser:
    """The options that experiments on images drawn from a named set share."""
    found = OnDrawn(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("source", nargs="?", default="fashion-mnist", help="a named data set with labels")
    found.add_argument("-k", type=int, help="groups  [default: those of the set, else 10]")
    found.add_argument("--items", type=int, default=10_000, help="images that are drawn; 0: all")
    found.add_argument(
        "--seeds", type=given_seed, nargs="+", default=[0], help="of training; images are drawn by one of their own"
    )
    found.add_argument("--runs", type=Path, default=runs)
    found.add_argument("--results", type=Path, default=RESULTS)
    return with_ground(found)


def with_ground(options: argparse.ArgumentParser) -> argparse.ArgumentParser:
    for name in GROUND:
        options.add_argument(f"--{name}", default=getattr(RunSettings(), name), help="as in coterie fit")
    options.add_argument("--set", action="append", default=[], help="as in coterie fit, e.g. cdc.epochs=15")
    return options


def ground_words(given: argparse.Namespace) -> list[str]:
    """What was asked for of these options, as words of the command."""
    asked = [name for name in GROUND if getattr(given, name) != getattr(RunSettings(), name)]
    return [*(f"--{name} {getattr(given, name)}" for name in asked), *(f"--set {text}" for text in given.set)]


def ground(given: argparse.Namespace) -> RunSettings:
    """What all runs of an experiment share: groups, device, backbone, preset; each run replaces the rest."""
    # The methods' own heads are what is measured; confidences are calibrated afterwards by calibrate_others.py.
    return RunSettings(given.k, calibrate=False, **{name: getattr(given, name) for name in GROUND})


def preset_on(preset: str, method: str, source: str) -> str:
    """The preset for a part of the named set `source`, whose file has not its name: the set's published row, if any."""
    row = f"{preset}:{source}"
    return row if method in method_names() and row in preset_names(method_class(method).card) else preset


def command_for_drawn(script: str, given: argparse.Namespace, *lists: str) -> str:
    """The command that makes a result, without the folders of the machine; `lists` are options of the script's own."""
    source = Path(given.source).name
    words = [f"python experiments/{script}.py", source, "-k", str(given.k), "--items", str(given.items)]
    for name in (*lists, "seeds"):
        words += [f"--{name}", *map(str, getattr(given, name))]
    return " ".join([*words, *ground_words(given)])


def write_records(name: str, command: str, records: list[dict[str, Any]], folder: Path | None = None) -> Path:
    """Write experiments/results/NAME.json: the command, the machine and one record for each seed (and row)."""
    folder = folder or RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    write_atomically(path, json.dumps({"command": command, "machine": machine(), "records": records}, indent=1) + "\n")
    return path


def saved(figure: Any) -> bytes:
    """A figure of matplotlib as a PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=90)
    return buffer.getvalue()


def write_study(
    name: str, given: argparse.Namespace, command: str, records: list[dict[str, Any]], figure: bytes
) -> None:
    """Write NAME.json to --results and NAME.png to --figures."""
    content = {"command": command, "machine": machine(), "records": records}
    for folder, file, what in (
        (given.results, f"{name}.json", json.dumps(content, indent=1) + "\n"),
        (given.figures, f"{name}.png", figure),
    ):
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / file, what)


def finished_record(record: dict[str, Any], n: int, seconds: float, **numbers: Any) -> dict[str, Any]:
    """What every record of a finished run says of it, with the numbers of a study."""
    return {
        "data": record["source"]["name"],
        "method": record["stages"][-1]["name"],
        "n": n,
        "k": record["n_clusters"],
        "seed": record["seed"],
        "seconds": round(seconds, 1),
        "skipped": len(record["source"]["skipped"]),
        **numbers,
        "settings": {"stages": record["stages"], "backbone": record["backbone"]["name"]},
    }


def study_finished(
    script: str,
    description: str | None,
    make: Callable[[str, list[Path]], dict[str, Any]],
    words: list[str] | None = None,
) -> None:
    """The command of a study of finished runs: what `make` says of them goes to results/SCRIPT_NAME.json."""
    options = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("source")
    options.add_argument("--runs", nargs="+", type=Path, required=True)
    options.add_argument("--name", help="Of the record.  [default: the source's]")
    given = options.parse_args(words)
    for folder in given.runs:
        label_free(folder)
    command = (
        f"python experiments/{script}.py {Path(given.source).name} --runs {' '.join(run.name for run in given.runs)}"
    )
    command += f" --name {given.name}" if given.name else ""
    found = {"command": command, "machine": machine(), **make(given.source, given.runs)}
    path = RESULTS / f"{script}_{given.name or Path(given.source).stem}.json"
    write_atomically(path, json.dumps(found, indent=1) + "\n")
