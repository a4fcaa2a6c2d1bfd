"""Odd, damaged and hostile input for every command: counts of tracebacks, hangs and broken promises, by kind.

A try makes its files in a folder of its own, calls `coterie` once to three times inside a worker process, and asks:
no traceback, an answer in time, within a memory limit; exit code 0, 1 or 2; with 0 and --json one object on standard
output; with 2 nothing there and one sentence on standard error; nothing that was read is changed. Everything is drawn
from the seed and the number of the try, so `--only 17` does one again and shows it. Exit code 1 if anything was found.

    python benchmarks/fuzz.py --tries 3000 --seed 0
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import multiprocessing
import os
import random
import resource
import shlex
import shutil
import stat
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import MISSING, asdict, dataclass, field, fields
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import _attacks as attacks
import numpy as np
from _measure import write_results

SECONDS = 60  # for one try; most take a tenth of one
MEMORY = 3 << 30  # bytes beyond what the libraries have taken
WRITTEN = {"report.html", "metrics.json", "ood.json"}  # in a run folder, by `evaluate` and `report`
MORE = ["--set", "cdc.hidden=16", "--set", "moco.projector_hidden=16", "--set", "cdc.init=kmeans"]
TINY = {
    "vectors": ["-k", "3", "--epochs", "1", "--device", "cpu", "--set", "cdc.hidden=16"],
    "pixels": ["-k", "3", "--device", "cpu", "--backbone", "small-4", "--epochs", "1", "--set", "moco.epochs=1", *MORE],
}


@dataclass
class Found:
    """What one try came to: exit codes, and a sentence for each thing that is wrong."""

    number: int
    kind: str
    calls: list[str]
    codes: list[int] = field(default_factory=list)
    tracebacks: list[str] = field(default_factory=list)
    hang: bool = False
    broken: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)


def make_base(base: Path) -> None:
    """The good data and the finished runs that tries take copies of."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from PIL import Image
    from sklearn.datasets import load_digits, make_blobs

    points, classes = make_blobs(40, n_features=8, centers=3, random_state=0)
    np.save(base / "vectors.npy", points.astype(np.float32))
    pq.write_table(pa.table({"embedding": points.astype(np.float32).tolist()}), base / "vectors.parquet")
    digits = load_digits(n_class=3)
    images = (digits.images[:36] * (255 / 16)).astype(np.uint8)
    np.savez(base / "pixels.npz", images=images)
    (base / "photos").mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image).save(base / "photos" / f"{number:02}.png")
    for kind, source, labels in (("vectors", "vectors.npy", classes), ("pixels", "pixels.npz", digits.target[:36])):
        lines = ["id,label", *(f"{row},class {label}" for row, label in enumerate(labels))]
        (base / f"{kind}.csv").write_text("\n".join(lines).replace("class ", "c") + "\n")
        (base / f"{kind}.args").write_text(" ".join(TINY[kind]))
        (base / "in").mkdir(exist_ok=True)
        shutil.copy(base / source, base / "in" / source)
        run = ["fit", f"in/{source}", "-o", f"runs/{kind}", "--labels", f"{kind}.csv", *TINY[kind]]
        with contextlib.chdir(base):
            code, _, err = call(run)
        if code != 0:
            raise SystemExit(f"The run to take copies of failed: {err}")


def call(arguments: list[str]) -> tuple[int, str, str]:
    """One command inside this process: exit code, standard output, standard error."""
    from coterie import load
    from coterie.cli import main
    from coterie.types import CoterieError

    # What a terminal in UTF-8 is to Python: names that are no UTF-8 are written as the bytes that they are.
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", "surrogateescape") for _ in range(2))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if arguments[0] == "load":
            code = 0
            try:
                load(arguments[1])
            except CoterieError as error:
                code = 2
                print(f"coterie: {error}", file=err)
        else:
            code = main(arguments)
    texts = []
    for stream in (out, err):
        stream.flush()
        texts.append(stream.buffer.getvalue().decode("utf-8", "surrogateescape"))  # type: ignore[attr-defined]
    return code, *texts  # type: ignore[return-value]


def try_once(
    number: int, kind: str, seed: int, base: Path, settings: attacks.Settings, begin: Callable[[list[str]], object]
) -> Found:
    """One try, in a folder that is removed afterwards; `begin` hears what will be called."""
    rng = random.Random(f"{seed}/{number}")
    with tempfile.TemporaryDirectory(dir=base.parent, ignore_cleanup_errors=True) as folder:
        here = Path(folder) / "deep" / "down"
        (here / "in").mkdir(parents=True)
        place = attacks.Place(base, here, rng, settings)
        calls = attacks.KINDS[kind](place)
        found = Found(number, kind, [shlex.join(["coterie", *arguments]) for arguments in calls])
        begin(found.calls)
        with contextlib.chdir(here):
            for arguments in calls:
                before = digests(arguments)
                try:
                    code, out, err = call(arguments)
                except BaseException as error:
                    found.tracebacks.append(place_of(error))
                    found.said.append(traceback.format_exc()[-3000:])
                    break
                found.codes.append(code)
                found.said.append((out[-300:] + err[-1500:]).encode("utf-8", "replace").decode())
                found.broken += promises(arguments, code, out, err)
                changed = [name for name, digest in digests(arguments).items() if before.get(name, digest) != digest]
                gone = [name for name in before if not os.path.lexists(name)]
                found.broken += [f"{name} was changed by {arguments[0]}" for name in changed]
                found.broken += [f"{name} is gone after {arguments[0]}" for name in gone]
    return found


def digests(arguments: list[str]) -> dict[str, str]:
    """Digests of all regular files here that this command may only read."""
    writes_into = arguments[arguments.index("-o") + 1] if "-o" in arguments[:-1] else ""
    found = {}
    for above, _, names in os.walk("."):
        for name in names:
            path = os.path.normpath(os.path.join(above, name))
            first = Path(path).parts[0]
            mine = arguments[0] == "fit" and first in (writes_into, "out", "runs")
            if mine or (first in ("run", "other") and name in WRITTEN) or path == writes_into:
                continue
            if stat.S_ISREG(os.lstat(path).st_mode):
                found[path] = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    return found


def promises(arguments: list[str], code: int, out: str, err: str) -> list[str]:
    """What the command line promises of its exit codes and streams, and did not keep."""
    broken = []
    last = err.rstrip("\n").rpartition("\n")[2]
    if code not in (0, 1, 2):
        broken.append(f"exit code {code}")
    if code == 0 and "--json" in arguments and "--help" not in arguments and "--version" not in arguments:
        try:
            json.loads(out)
        except ValueError:
            broken.append("exit code 0 with --json, and no object on standard output")
    if code in (1, 2) and not (last.startswith("coterie: ") and len(last) > 20):
        broken.append(f"exit code {code} without its sentence")
    if code == 2 and out:
        broken.append("exit code 2, and something on standard output")
    if "Traceback (most recent call last)" in err:
        broken.append("a traceback on standard error")
    return broken


def place_of(error: BaseException) -> str:
    """The innermost line of coterie that an error came through, and its kind."""
    where = "?"
    for frame in traceback.extract_tb(error.__traceback__):
        if "/coterie/" in frame.filename:
            where = f"{frame.filename.rpartition('/coterie/')[2]}:{frame.lineno}"
    return f"{where} {type(error).__name__}"


def work(pipe: Connection, seed: int, base: Path, settings: attacks.Settings) -> None:
    """A worker: takes numbers of tries, gives back what they came to."""
    import coterie.cli.accept
    import coterie.cli.compare
    import coterie.cli.evaluate
    import coterie.posthoc  # noqa: F401  # so that the memory limit counts tries and not libraries

    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    with open("/proc/self/statm") as file:
        taken = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, taken + MEMORY))
    while (task := pipe.recv()) is not None:
        pipe.send(asdict(try_once(*task, seed, base, settings, pipe.send)))


def run_all(tasks: list[tuple[int, str]], seed: int, base: Path, processes: int, seconds: float) -> list[Found]:
    """All tries, spread over worker processes; one that hangs or dies is replaced."""
    context = multiprocessing.get_context("spawn")
    settings = known_settings()
    waiting, found = tasks[::-1], []
    workers: dict[Any, tuple[Any, tuple[int, str] | None, float]] = {}
    begun_calls: dict[Any, list[str]] = {}

    def give(pipe: Any, worker: Any) -> None:
        task = waiting.pop() if waiting else None
        pipe.send(task)
        workers[pipe] = (worker, task, time.monotonic())
        if task is None:
            workers.pop(pipe)

    def start() -> None:
        pipe, other = context.Pipe()
        worker = context.Process(target=work, args=(other, seed, base, settings), daemon=True)
        worker.start()
        other.close()
        give(pipe, worker)

    for _ in range(min(processes, len(tasks))):
        start()
    while workers:
        for pipe in wait(list(workers), timeout=1):
            worker, task, _ = workers[pipe]
            assert task is not None
            try:
                told = pipe.recv()  # type: ignore[union-attr]
                if isinstance(told, list):
                    begun_calls[pipe] = told
                    continue
                found.append(Found(**told))
            except EOFError:
                worker.join()
                found.append(
                    Found(
                        *task, begun_calls.get(pipe, []), broken=[f"the process died with exit code {worker.exitcode}"]
                    )
                )
                workers.pop(pipe)
                start()
                continue
            give(pipe, worker)
            if len(found) % 250 == 0:
                print(f"{len(found)} of {len(tasks)} tries", file=sys.stderr, flush=True)
        for pipe, (worker, task, begun) in list(workers.items()):
            if time.monotonic() - begun > seconds + 60 * (len(found) < processes):  # the first ones import torch
                worker.kill()
                worker.join()
                assert task is not None
                found.append(Found(*task, begun_calls.get(pipe, []), hang=True))
                workers.pop(pipe)
                start()
    return sorted(found, key=lambda one: one.number)


def known_settings() -> attacks.Settings:
    """All settings with their defaults: of each method, of the views, of a run."""
    from coterie.catalogue import method_class, method_names
    from coterie.training.plan import RunSettings
    from coterie.views.settings import ViewSettings

    kinds = {name: method_class(name) for name in method_names()} | {"views": ViewSettings, "run": RunSettings}
    # Settings without a default, such as a mapping's, are given as they come.
    return {
        stage: {f.name: "null" if f.default is MISSING else json.dumps(f.default) for f in fields(kind)}
        for stage, kind in kinds.items()
    }


def summary(found: list[Found]) -> dict[str, Any]:
    """Counts by kind, and every place of a traceback with how often and in which try first."""
    kinds = {}
    for kind in attacks.KINDS:
        own = [one for one in found if one.kind == kind]
        codes = Counter(code for one in own for code in one.codes)
        kinds[kind] = {
            "tries": len(own),
            "calls": sum(codes.values()),
            **{f"exit code {code}": codes[code] for code in sorted({0, 1, 2, *codes})},
            "tracebacks": sum(bool(one.tracebacks) for one in own),
            "hangs": sum(one.hang for one in own),
            "broken promises": sum(bool(one.broken) for one in own),
        }
    places: dict[str, dict[str, Any]] = {}
    for one in found:
        for what in [*one.tracebacks, *one.broken, *(["a hang"] if one.hang else [])]:
            entry = places.setdefault(what, {"times": 0, "first_try": one.number, "kind": one.kind, "calls": one.calls})
            entry["times"] += 1
    return {"kinds": kinds, "places": dict(sorted(places.items(), key=lambda item: -item[1]["times"]))}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tries", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=list(attacks.KINDS), help="only tries of one kind")
    parser.add_argument("--only", type=int, help="one try again, with what it says")
    parser.add_argument("--log", type=Path, help="a line of JSON for each try")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="after which a try hangs")
    given = parser.parse_args()
    # Nothing is fetched; two workers, a core each; an error that nobody foresaw is no sentence but a traceback.
    os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "COTERIE_DEBUG": "1"}
    names = list(attacks.KINDS)
    tasks = [(number, names[number % len(names)]) for number in range(given.tries)]
    if given.only is not None:
        tasks = [(given.only, names[given.only % len(names)])]
    tasks = [task for task in tasks if given.kind in (None, task[1])]
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        base = Path(folder) / "base"
        base.mkdir()
        make_base(base)
        found = run_all(tasks, given.seed, base, given.processes, given.seconds)
    if given.log is not None:
        given.log.write_text("".join(json.dumps(asdict(one)) + "\n" for one in found))
    said = summary(found)
    wrong = [one for one in found if one.tracebacks or one.hang or one.broken]
    if given.only is not None:
        print(json.dumps(asdict(found[0]), indent=1))
        return bool(wrong)
    print(json.dumps(said, indent=1))
    if given.kind is None:
        command = f"python benchmarks/fuzz.py --tries {given.tries} --seed {given.seed}"
        print(write_results("fuzz", command, seconds=round(time.monotonic() - begun), wrong=len(wrong), **said))
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
