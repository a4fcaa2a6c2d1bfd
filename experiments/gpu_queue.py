"""The most telling runs for a card, in order, many at once, in pieces of a few minutes.

    python experiments/gpu_queue.py claim grey --minutes 8 --at-once 16 --work runs/gpu --state state/

A queue is a list of commands of this folder, each with the ones that it waits for; the queues that are named are worked
off together, those named first before the others. Nets as small as these keep a card waiting for the processor, so many
processes share it: one for each core, and where NVIDIA's multi-process service is installed, through it (--mps).

After --minutes the commands that are still at work are stopped; their runs have checkpoints. Records, and those other
files below --work that --keep names, are packed into --state, at most eight files of 15 MB; what did not fit is told.
A machine that begins with nothing is given them again (--from state/), and the same command goes on. --list prints
the commands, and runs nothing.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
FILES, FILE_BYTES = 8, 15 * 10**6
GRACE = 4  # seconds that stopped commands have for a last checkpoint
KEPT = ("**/result.parquet", "**/checkpoints/*")
TEXT = {".json", ".jsonl", ".yaml", ".md", ".log"}
CARD = "--device cuda"
THEIRS = " ".join(
    f"--set acai.{text}" for text in ("alpha_folded=false", "critic_pairing=all", "critic_frozen=true", "warm_up=0")
)


@dataclass(frozen=True)
class Job:
    """A command of this folder; it begins when those in `after` are done, and not where one of them has failed."""

    name: str
    command: str  # without python and the folder
    after: tuple[str, ...] = ()


def claim(seeds: Sequence[int] = (0, 1, 2)) -> Iterator[Job]:
    """R-DC's claim on all of Fashion-MNIST: one phase 1 a seed, then its rows side by side."""
    rows = ["code", "text", "code, no augmentation", "code, no core items (augmentation alone)", "code, κ = 30"]
    base = f"rdc_claim.py fashion-mnist -k 10 {CARD} {THEIRS} --refreshes 20 --runs runs/claim"
    for seed in seeds:
        yield Job(f"claim-{seed}", f"{base} --seeds {seed} --rows --results scratch/claim-{seed}")
    for at, row in enumerate(rows):
        for seed in seeds:
            name = f"claim-{seed}-{at}"
            own = f"--results scratch/{name}"
            yield Job(name, f'{base} --seeds {seed} --rows "{row}" {own}', (f"claim-{seed}",))


def grey(sources: Sequence[str], seeds: Sequence[int] = (0, 1)) -> Iterator[Job]:
    """The search for CDC's recipe on grey pictures, on sets that are not reported."""
    recipes = ["practical", "crops from 40 %", "crops from 60 %", "crops of the image's shape", "stronger jitter"]
    recipes += ["no jitter", "temperature 0.1", "temperature 0.4"]
    for recipe in recipes:
        for source in sources:
            for seed in seeds:
                name = f"grey-{Path(source).stem}-{recipes.index(recipe)}-{seed}"
                own = f'--recipes "{recipe}" --seeds {seed} --runs runs/grey --results scratch/{name}'
                yield Job(name, f"cdc_grey.py {source} -k 10 {CARD} --backbone small-16 {own}")


def cdc(seeds: Sequence[int] = (0, 1, 2)) -> Iterator[Job]:
    """CDC on all of Fashion-MNIST with the crops that the search on other grey sets gave, and 40 images each beside."""
    crops = "--set 'views.crop_scale=[0.6,1.0]' --name fashion-mnist-crops"
    own = f"-k 10 {CARD} --backbone small-16 {crops} --runs runs/cdc"
    for seed in seeds:
        yield Job(f"cdc-{seed}", f"cdc_reference.py fashion-mnist {own} --seeds {seed} --results scratch/cdc-{seed}")
    for seed in seeds:
        cells = f"mini_clusters.py fashion-mnist --each 40 {own} --seeds {seed} --results scratch/cells-{seed}"
        yield Job(f"cells-{seed}", cells, (f"cdc-{seed}",))


def pica(seeds: Sequence[int] = (0, 1, 2)) -> Iterator[Job]:
    """PICA on all of Fashion-MNIST, and what its evaluation view changes."""
    base = f"pica_reference.py fashion-mnist -k 10 {CARD} --backbone sobel+small-16 --runs runs/pica"
    for seed in seeds:
        yield Job(f"pica-{seed}", f"{base} --seeds {seed} --results scratch/pica-{seed}")
    runs = " ".join(f"runs/pica/fashion-mnist-pica-{seed}" for seed in seeds)
    after = tuple(f"pica-{seed}" for seed in seeds)
    yield Job("pica-view", f"pica_view.py fashion-mnist {runs} --results scratch/pica-view", after)


def board(paper: str, source: str, seeds: str, workers: int, more: str = "") -> Iterator[Job]:
    """A paper's table, by several processes on one folder; the nets that a processor gets."""
    name = f"board-{paper}-{Path(source).stem}"
    own = f"board.py {source} -k 10 --papers {paper} --items 10000 --seeds {seeds} {CARD} --nets-on cpu {more}".rstrip()
    for at in range(workers):
        yield Job(f"{name}-{at}", f"{own} --runs runs/board --results scratch/{name}-{at}")


def frozen(table: str, seeds: str = "0 1 2", workers: int = 6) -> Iterator[Job]:
    """Heads on the embeddings of a pretrained encoder, by several processes on one folder."""
    own = f"frozen_heads.py {table} --seeds {seeds} {CARD} --folder runs/frozen"
    for at in range(workers):
        yield Job(f"frozen-{Path(table).stem}-{at}", f"{own} --results scratch/frozen-{at}")


@dataclass
class Worker:
    """Jobs at work in `folder`, at most so many at once, each with its log."""

    folder: Path
    environment: dict[str, str]
    at_once: int
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    ended: dict[str, int] = field(default_factory=dict)
    begun: dict[str, float] = field(default_factory=dict)

    def begin(self, job: Job) -> None:
        logs = self.folder / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        script, *words = shlex.split(job.command)
        with open(logs / f"{job.name}.log", "ab") as log:
            self.running[job.name] = subprocess.Popen(
                [sys.executable, str(HERE.resolve() / script), *words],
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # so that its own processes are stopped with it
            )
        self.begun[job.name] = time.monotonic()

    def reap(self) -> list[str]:
        done = [name for name, process in self.running.items() if process.poll() is not None]
        for name in done:
            self.ended[name] = self.running.pop(name).returncode
        return done

    def stop(self) -> list[str]:
        """End what is still at work: first a request, after some seconds by force."""
        stopped = list(self.running)
        for number, wait in ((signal.SIGINT, GRACE), (signal.SIGKILL, 5)):
            for process in self.running.values():
                try:
                    os.killpg(process.pid, number)
                except ProcessLookupError:
                    continue
            until = time.monotonic() + wait
            while self.running and time.monotonic() < until:
                self.reap()
                time.sleep(0.2)
        return stopped


def work_off(jobs: Sequence[Job], worker: Worker, until: float) -> list[str]:
    """The names of the jobs that were stopped or never begun. A failed one is told, with the end of its log."""
    waiting = list(jobs)
    while (waiting or worker.running) and time.monotonic() < until:
        for name in worker.reap():
            code, seconds = worker.ended[name], time.monotonic() - worker.begun[name]
            print(f"{name}: {'done' if code == 0 else f'failed with {code}'} after {seconds:.0f} s", flush=True)
            if code:
                print((worker.folder / "logs" / f"{name}.log").read_text(errors="replace")[-1500:], flush=True)
        failed = {name for name, code in worker.ended.items() if code}
        waiting = [job for job in waiting if not failed & set(job.after)]
        for job in [job for job in waiting if all(worker.ended.get(name) == 0 for name in job.after)]:
            if len(worker.running) < worker.at_once:
                worker.begin(job)
                waiting.remove(job)
        time.sleep(0.3)
    return worker.stop() + [job.name for job in waiting]


def pack(work: Path, state: Path, keep: Sequence[str]) -> list[str]:
    """Write texts below `work`, and the files that `keep` names, to at most eight files; those that had no place."""
    state.mkdir(parents=True, exist_ok=True)
    with tarfile.open(state / "state-0.tar.gz", "w:gz") as tar:
        for path in sorted(path for path in work.rglob("*") if path.suffix in TEXT and path.is_file()):
            tar.add(path, path.relative_to(work))
    left, full = [], [10_240] * (FILES - 1)  # a tar file ends with so many bytes at most
    places: list[list[Path]] = [[] for _ in full]
    for path in dict.fromkeys(path for like in keep for path in sorted(work.glob(like)) if path.is_file()):
        size = path.stat().st_size + 2048
        at = next((at for at, before in enumerate(full) if before + size < FILE_BYTES), None)
        if at is None:
            left.append(str(path.relative_to(work)))
            continue
        places[at].append(path)
        full[at] += size
    for at, paths in enumerate(places, 1):
        with tarfile.open(state / f"state-{at}.tar", "w") as tar:
            for path in paths:
                tar.add(path, path.relative_to(work))
    return left


def unpack(state: Path, work: Path) -> None:
    """Put back what `pack` wrote."""
    work.mkdir(parents=True, exist_ok=True)
    for part in sorted(state.glob("state-*.tar*")):
        with tarfile.open(part) as tar:
            tar.extractall(work, filter="data")


def service(folder: Path, environment: dict[str, str]) -> bool:
    """Start NVIDIA's multi-process service for this queue; False where it is not installed or does not answer."""
    own = {
        name: str((folder / name.lower()).resolve()) for name in ("CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY")
    }
    for path in own.values():
        Path(path).mkdir(parents=True, exist_ok=True)
    ask = [sys.executable, "-c", "import torch; print((torch.ones(4, device='cuda') * 2).sum().item())"]
    try:
        subprocess.run(["nvidia-cuda-mps-control", "-d"], env={**environment, **own}, check=True, timeout=20)
        subprocess.run(ask, env={**environment, **own}, check=True, timeout=60, stdout=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError):
        end_service({**environment, **own})
        return False
    environment.update(own)
    return True


def end_service(environment: dict[str, str]) -> None:
    try:
        subprocess.run(["nvidia-cuda-mps-control"], input=b"quit\n", env=environment, timeout=20, check=False)
    except (OSError, subprocess.SubprocessError):
        return


def queues_of(data: Path) -> dict[str, Iterator[Job]]:
    """All queues by name; the data sets that no package has lie in the folder `data`."""
    photos = str(data / "cifar10-jpeg.parquet")
    return {
        "claim": claim(),
        "grey": grey([str(data / "mnist-5000.npz"), str(data / "glyphs.npz")]),
        "cdc": cdc(),
        "pica": pica(),
        "board-cdc": board("cdc", "fashion-mnist", "0 1 2", 6, "--with-labels"),
        "board-cdc13": board("cdc13", "fashion-mnist", "0 1 2", 2),
        "board-pica": board("pica", "fashion-mnist", "0 1 2", 3),
        "board-rdc": board("rdc", "fashion-mnist", "0 1 2", 2),
        "board-cifar": board("cdc", photos, "0", 4),
        "frozen": frozen(photos),
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("queues", nargs="+", help=", ".join(queues_of(Path())))
    options.add_argument("--minutes", type=float, default=9.0)
    options.add_argument("--at-once", type=int, default=os.cpu_count() or 1)
    options.add_argument("--work", type=Path, default=Path("runs/gpu"))
    options.add_argument("--state", type=Path, help="where the state is packed at the end")
    options.add_argument("--from", dest="before", type=Path, help="the packed state of an earlier piece")
    options.add_argument("--data", type=Path, default=Path(), help="folder of mnist-5000.npz, glyphs.npz, the tables")
    options.add_argument("--keep", nargs="+", default=KEPT, help="files that are packed beside the texts, in order")
    options.add_argument("--mps", action="store_true", help="share the card through NVIDIA's multi-process service")
    options.add_argument("--list", action="store_true")
    given = options.parse_args()
    until = time.monotonic() + 60 * given.minutes
    queues = queues_of(given.data.resolve())
    if unknown := set(given.queues) - set(queues):
        options.error(f"there is no queue {', '.join(sorted(unknown))}: {', '.join(queues)}")
    jobs = [job for name in given.queues for job in queues[name]]
    if given.list:
        print("\n".join(f"{job.name}: python experiments/{job.command}" for job in jobs))
        return
    work = given.work.resolve()
    if given.before is not None:
        unpack(given.before, work)
    work.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    shared = given.mps and service(work, environment)
    print(f"{len(jobs)} jobs, {given.at_once} at once, multi-process service: {'yes' if shared else 'no'}", flush=True)
    try:
        rest = work_off(jobs, Worker(work, environment, given.at_once), until)
        print(f"not done: {', '.join(rest) or 'none'}", flush=True)
    finally:
        if shared:
            end_service(environment)
        if given.state is not None:
            left = pack(work, given.state, given.keep)
            print(f"not packed: {', '.join(left) or 'none'}", flush=True)


if __name__ == "__main__":
    main()
