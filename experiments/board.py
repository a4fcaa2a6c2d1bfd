"""A paper's table of rivals on the same images, backbone and seeds: every row that a method here can run.

    python experiments/board.py fashion-mnist -k 10 --papers cdc --items 10000 --seeds 0 1 2 --runs runs/board
    python experiments/board.py cifar10-jpeg.parquet -k 10 --papers cdc pica --items 10000 --minutes 30

The papers' own sets, where $COTERIE_DATA has them, are the same command with their names: cifar10, cifar20, stl10,
imagenet10, imagenet-dogs, tiny-imagenet (`--items 0 --preset paper --device cuda`): with `--items 0` the set itself is
grouped, and each method has its published row of it where it has one.

The budget is that of each method's preset, or with --epochs so many epochs of every row's own stage; the epochs stand
in the table. Rows that begin with one pre-training share its run, by seed. Every row runs in a process of its own, for
its memory. Each is a run folder and a record below --runs: the same command goes on where it was stopped, several
processes (and machines on a shared folder) may be at work side by side, and with --minutes no row is begun later.
`--done` trains nothing. The last epoch is read; labels are read after each run, for the numbers only. The rows that
learn from labels (`supervised`) need --with-labels, and stand apart. Writes results/board_<paper>_<data>.json.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import signal
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from _boards import BOARDS, FINE_TUNED, SUPERVISED, Board
from _rows import Rows, with_starts
from _runs import command_for_drawn, ground, overrides_of, parser_for_drawn, preset_on, write_records
from _tables import draw, trained_on

from coterie.catalogue import method_class, method_names
from coterie.contract import is_trained
from coterie.data import open_source
from coterie.networks.backbones import choose_backbone
from coterie.training.device import machine
from coterie.training.plan import RunSettings, image_size_of
from coterie.types import InputError, ItemSpec, RunFailed
from coterie.yardstick import supervised

METRICS = ("acc", "balanced_accuracy", "f1", "nmi", "ari", "ece", "ece_debiased", "confidence", "auroc")


class Refused(Exception):
    """A row that cannot be asked for so; `record` says why."""

    def __init__(self, record: dict[str, Any]) -> None:
        super().__init__(record["failed"])
        self.record = record


@dataclass(frozen=True)
class RowsInOwnProcess(Rows):
    """Rows that are made in a process of their own, with the most memory that it had.

    Of a row that is refused no record is kept: the next command may ask for what can be.
    """

    epochs: int | None = None  # of every row's own stage; None: the preset's
    spec: ItemSpec | None = None  # of the items, where backbones are those that `nets_on` gets
    nets_on: str | None = None

    def settings(self, name: str, seed: int) -> RunSettings:
        line, own = self.lines[name], super().settings(name, seed)
        trained = line.method != SUPERVISED and is_trained(method_class(line.method))
        backbone = own.backbone
        if line.start is not None:
            backbone = "auto"  # that of the run that it goes on from
        elif self.nets_on is not None and self.spec is not None:
            backbone = usual_backbone(line.method, own, self.spec, self.nets_on)
        elif not trained and line.method != SUPERVISED:
            backbone = "auto"  # one that is asked for is of the rows that train
        return replace(own, backbone=backbone, epochs=self.epochs if trained else None)

    def record(self, name: str, seed: int, *, wait: bool) -> dict[str, Any] | None:
        """As all rows do. Raises InputError for a record that was made with another budget or other settings."""
        try:
            found, settings = super().record(name, seed, wait=wait), self.settings(name, seed)
        except Refused as refused:
            return refused.record
        if found is not None and found["asked"] != _asked(settings):
            raise InputError(
                f"{self.out(name, seed)} was made with {found['asked']}, and not with {_asked(settings)}: give another "
                "folder with --runs."
            )
        return found

    def made(self, name: str, settings: RunSettings, out: Path) -> dict[str, Any]:
        # A process with the libraries in it is kept, and each row's is forked from it: their import takes seconds.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["_rows", "coterie.yardstick"])
        with ProcessPoolExecutor(1, mp_context=context, initializer=end_with_parent) as pool:
            record, peak = pool.submit(_made, self, name, settings, out).result()
        record = {**record, "asked": _asked(settings), "peak_mib": round(peak / 1024)}
        if record["failed"]:
            print(out.name, record["failed"], flush=True)
        if record.pop("refused", False):
            raise Refused(record)
        return record


def end_with_parent() -> None:
    """From now on this process is asked to stop when the one that started it is gone, however that ended.

    A row left to itself would train on beside the next command, which goes on with the same run folder.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None, "of a process that multiprocessing started"

    def wait() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def usual_backbone(method: str, settings: RunSettings, spec: ItemSpec, device: str) -> str:
    """What `coterie fit` takes for a method and such items on a device."""
    card = None if method == SUPERVISED else method_class(method).card
    if card is not None and card.backbone is not None:
        return card.backbone(spec, device, settings.preset != "practical")
    return choose_backbone("auto", spec, device, as_published=settings.preset != "practical").name


def _asked(settings: RunSettings) -> dict[str, Any]:
    """What a row was asked for, as JSON gives it back."""
    asked = {name: getattr(settings, name) for name in ("preset", "epochs", "backbone")}
    found: dict[str, Any] = json.loads(json.dumps({**asked, "set": dict(settings.overrides)}))
    return found


def _made(rows: RowsInOwnProcess, name: str, settings: RunSettings, out: Path) -> tuple[dict[str, Any], int]:
    try:
        made = (
            with_labels(rows, name, settings) if settings.method == SUPERVISED else Rows.made(rows, name, settings, out)
        )
        record = {**made, "failed": None}
    except (RunFailed, InputError) as error:
        refused = isinstance(error, InputError)
        reason = str(error) if refused else error.reason
        record = {"data": rows.data, "row": name, "seed": settings.seed, "failed": reason, "refused": refused}
    return record, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def with_labels(rows: RowsInOwnProcess, name: str, settings: RunSettings) -> dict[str, Any]:
    """The record of a yardstick: the same items, a fifth of which is not taught and is scored."""
    own: dict[str, Any] = {}
    size = None
    if settings.preset != "practical":  # CDC's appendix B.1
        own = {"epochs": 500 if settings.init is None else 50, "batch_size": 256}
        if settings.init is None:  # the size at which CDC pre-trains on the set
            preset = preset_on(settings.preset, "moco", rows.part_of)
            size = image_size_of(replace(settings, method="moco", preset=preset), rows.source)
    if rows.epochs is not None:
        own["epochs"] = rows.epochs
    options: dict[str, Any] = {"init": settings.init, "backbone": settings.backbone, "device": settings.device}
    found = supervised(rows.source, rows.labels, image_size=size, random_state=settings.seed, settings=own, **options)
    numbers = found.metrics()
    return {
        "data": rows.data,
        "row": name,
        "method": SUPERVISED,
        "starts_from": rows.lines[name].start,
        "n": len(found.rows),
        "k": settings.n_clusters,
        "seed": settings.seed,
        "seconds": found.seconds,
        "epochs": {SUPERVISED: found.settings.epochs},
        "metrics": {key: numbers[key] for key in rows.metrics},
        "heads": {},
        "calibrated_after": False,
        "taught": found.labels_used,
        "backbone": found.backbone,
        "machine": machine(),
    }


def rows_here(board: Board, names: list[str] | None) -> list[str]:
    """Those of a board's rows that can run: their method is here, and so are those that they start from."""
    known = [*method_names(), SUPERVISED]
    able = [name for name, line in board.lines.items() if line.method in known]
    able = [name for name in able if set(with_starts(board.lines, [name])) <= set(able)]
    return [name for name in able if names is None or name in names]


def records_of(
    rows: RowsInOwnProcess, names: list[str], seeds: list[int], until: float, *, done: bool
) -> list[dict[str, Any]]:
    """The records of these rows, seed by seed; none is begun after `until`, nor where nothing may be trained."""
    found: dict[tuple[str, int], dict[str, Any]] = {}
    jobs = [(name, seed) for seed in seeds for name in with_starts(rows.lines, names)]
    for wait in (False, True):
        for name, seed in jobs:
            start = rows.lines[name].start
            there = (rows.runs / "records" / f"{rows.data}-{name}-{seed}.json").exists()
            begun = start is None or ((start, seed) in found and not found[start, seed]["failed"])
            if (name, seed) in found or not begun or (not there and (done or time.monotonic() > until)):
                continue
            if (record := rows.record(name, seed, wait=wait)) is not None:
                found[name, seed] = record
    return [found[job] for job in jobs if job in found]


def main() -> None:
    options = parser_for_drawn(__doc__, Path("runs/board"))
    options.add_argument("--papers", nargs="+", choices=list(BOARDS), default=list(BOARDS))
    options.add_argument("--rows", nargs="+", help="some rows only, by their names in _boards.py")
    options.add_argument("--epochs", type=int, help="of every row's own stage  [default: the preset's]")
    options.add_argument(
        "--nets-on", choices=("cpu", "cuda"), help="backbones that fit takes there  [default: --device]"
    )
    options.add_argument("--minutes", type=float, default=float("inf"), help="begin no row after so many")
    options.add_argument("--done", action="store_true", help="train nothing, write what is there")
    options.add_argument("--with-labels", action="store_true", help="also the rows that learn from labels")
    given = options.parse_args()
    known = {row: line.method for paper in given.papers for row, line in BOARDS[paper].lines.items()}
    if unknown := set(given.rows or ()) - set(known):
        options.error(f"no row {' '.join(sorted(unknown))}: give some of {' '.join(known)}")
    if given.rows and not given.with_labels and (taught := {SUPERVISED, FINE_TUNED} & set(given.rows)):
        options.error(f"{' '.join(sorted(taught))} learns from labels: add --with-labels")
    if given.nets_on and given.backbone != "auto":
        options.error(
            f"--backbone {given.backbone} is for all rows and --nets-on picks one for each: give one of the two"
        )
    overrides = overrides_of(given.set, known.values())
    until = time.monotonic() + 60 * given.minutes
    given.runs.mkdir(parents=True, exist_ok=True)
    name, file, labels, family = draw(given.source, given.items, given.runs)
    base, items = replace(ground(given), family=family, calibrate="auto"), trained_on(given.source, given.items, file)
    for paper in given.papers:
        board = BOARDS[paper]
        rows = RowsInOwnProcess(
            name, items, base, given.runs, overrides, board.lines, METRICS, labels, given.source, given.epochs
        )
        if given.nets_on:
            rows = replace(rows, spec=open_source(items).items.spec, nets_on=given.nets_on)
        names = [
            row for row in rows_here(board, given.rows) if given.with_labels or board.lines[row].method != SUPERVISED
        ]
        records = records_of(rows, names, given.seeds, until, done=given.done)
        command = command_for_drawn("board", given, "papers") + (f" --epochs {given.epochs}" if given.epochs else "")
        command += f" --nets-on {given.nets_on}" if given.nets_on else ""
        command += f" --rows {' '.join(given.rows)}" if given.rows else ""
        command += " --with-labels" if given.with_labels else ""
        write_records(f"board_{paper}_{name}", command, records, given.results)


if __name__ == "__main__":
    main()
