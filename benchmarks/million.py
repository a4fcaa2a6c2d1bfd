"""1,000,000 × 384 embeddings from a memory map, and as many small pictures in Parquet: seconds, memory, growth.

    python benchmarks/million.py                              # every part, those that are done left out
    python benchmarks/million.py --items 50000                # a smaller size, kept beside the others, shows the growth
    python benchmarks/million.py --parts finch cdc --again    # these anew; --folder keeps data and runs for later calls

The embeddings of `heads.py`, as float16 in a .npy file (768 MB of a million), in 50 groups of unequal size that
overlap; pictures of 32×32×3 as PNG in a folder of Parquet files. Each part is one command, or one call in a process
of its own, with its defaults; a part that needs another one's run makes it first. `own_gb` is the peak of the
process' own memory (`RssAnon`, looked at five times a second); pages of mapped files are the system's to take back.
`cpu_seconds` are those of the processor. `embed-slice` embeds 1,000 pictures, and `extrapolated_seconds` says what
all would take at that rate. `open` is Chromium's time until the report of the kmeans run is loaded. A part that was
not reached is not in the file. Writes benchmarks/results/million.json after each part.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _measure import RESULTS, write_results
from heads import DIM, GROUPS

PART, PER_FILE = 10_000, 100_000  # rows written at once; pictures in a file
SIDE, SLICE, KINDS, DRAWN = 32, 1000, 10, 1000  # pixels; pictures that are embedded; kinds of pictures; of each, drawn
OTHERS = 5  # neighbours


def write_embeddings(path: Path, n: int) -> np.ndarray:
    """Write the file part by part; return the true groups."""
    rng = np.random.default_rng(0)
    sizes, spread = rng.uniform(0.5, 1.5, GROUPS), np.geomspace(1, 0.05, DIM)
    centres, truth = rng.normal(size=(GROUPS, DIM)) * spread, rng.choice(GROUPS, n, p=sizes / sizes.sum())
    rows = np.lib.format.open_memmap(path, "w+", np.float16, (n, DIM))
    for at in range(0, n, PART):
        own = truth[at : at + PART]
        rows[at : at + PART] = centres[own] + rng.normal(size=(len(own), DIM)) * spread
    rows.flush()
    return truth


def write_pictures(folder: Path, n: int) -> None:
    """Noise around ten patterns; each file repeats the same 10,000 drawn pictures in another order."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from PIL import Image

    rng = np.random.default_rng(0)
    patterns = rng.integers(60, 196, (KINDS, 4, 4, 3)).repeat(SIDE // 4, 1).repeat(SIDE // 4, 2)
    drawn = []
    for kind in np.arange(KINDS).repeat(min(DRAWN, n // KINDS)):
        buffer = io.BytesIO()
        pixels = (patterns[kind] + rng.normal(0, 20, patterns[kind].shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
        drawn.append({"bytes": buffer.getvalue()})
    folder.mkdir()
    for number, start in enumerate(range(0, n, PER_FILE)):
        rows = rng.integers(0, len(drawn), min(PER_FILE, n - start)).tolist()
        table = pa.table({"image": [drawn[row] for row in rows]})
        pq.write_table(table, folder / f"{number:04d}.parquet", row_group_size=SLICE)


def own_memory(process: int) -> float:
    """The process' own memory in GB; 0 once it has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 2**20 for line in lines if line.startswith("RssAnon")), 0.0)


def watched(command: list[str], limit: float) -> dict[str, Any]:
    """Run a command; "stopped" after `limit` seconds, "failed" with the last line of its error."""
    begun, before, peak, load = time.monotonic(), os.times(), 0.0, os.getloadavg()[0]
    with (
        tempfile.TemporaryFile("w+") as said,
        subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT, text=True) as running,
    ):
        try:
            while running.poll() is None:
                peak = max(peak, own_memory(running.pid))
                if time.monotonic() - begun > limit:
                    running.kill()
                    running.wait()
                    return {"status": f"stopped after {limit:.0f} s", "own_gb": round(peak, 2)}
                time.sleep(0.2)
        except BaseException:
            running.kill()
            raise
        said.seek(0)
        lines = said.read().strip().splitlines() or [""]
    if running.returncode != 0:
        return {"status": f"failed: {lines[-1][:200]}", "own_gb": round(peak, 2)}
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return {
        "status": "done",
        "seconds": round(time.monotonic() - begun, 1),
        "cpu_seconds": round(spent, 1),
        "own_gb": round(peak, 2),
        "load_before": round(load, 1),
        "said": lines[-1],
    }


def coterie(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "coterie", *map(str, arguments), "-q"]


def here(name: str, *arguments: object) -> list[str]:
    """A function of this file in a process of its own."""
    return [sys.executable, __file__, "--call", name, *map(str, arguments)]


def call_neighbours(rows: str) -> None:
    """The nearest neighbours of all embeddings."""
    import torch

    from coterie.algorithms.neighbours import nearest
    from coterie.data import open_source

    items = open_source(rows).items
    _, found = nearest(items.take(torch.arange(len(items))), OTHERS)
    print(json.dumps({"neighbours": found.numel()}))


def call_slice(pictures: str) -> None:
    """Embed the first pictures by the small encoder that is here."""
    import coterie as library
    from coterie.data.parquet_folder import Joined

    file = Joined(Path(pictures))
    with tempfile.TemporaryDirectory() as folder:
        import pyarrow.parquet as pq

        table = file.read_row_group(0, columns=["image"])
        pq.write_table(table, Path(folder) / "slice.parquet")
        begun = time.process_time()
        rows = library.embed(f"{folder}/slice.parquet", device="cpu")
        rate = (time.process_time() - begun) / len(rows)
    print(json.dumps({"pictures": len(rows), "extrapolated_seconds": round(rate * file.metadata.num_rows)}))


def call_open(page: str) -> None:
    """Chromium's seconds until the page is loaded, the median of three."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium")
    if chromium is None:
        raise SystemExit("no chromium on the path")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        times = []
        for _ in range(3):
            view, begun = browser.new_page(), time.monotonic()
            view.goto(f"file://{page}")
            view.wait_for_load_state("load")
            times.append(time.monotonic() - begun)
            view.close()
        browser.close()
    print(
        json.dumps({"loaded_seconds": round(sorted(times)[1], 2), "page_mb": round(os.stat(page).st_size / 2**20, 2)})
    )


CALLS: dict[str, Callable[[str], None]] = {
    "neighbours": call_neighbours,
    "slice": call_slice,
    "open": call_open,
}


class Place:
    """The data and the runs of one size in a folder, each made when a part needs it."""

    def __init__(self, folder: Path, items: int) -> None:
        self.folder, self.items = folder, items
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def rows(self) -> Path:
        path, labels = self.folder / "embeddings.npy", self.folder / "labels.npy"
        if not labels.exists():
            np.save(labels, write_embeddings(path, self.items))
        return path

    @property
    def pictures(self) -> Path:
        path = self.folder / "pictures"
        if not path.exists():
            beside = self.folder / "pictures.part"
            shutil.rmtree(beside, ignore_errors=True)
            write_pictures(beside, self.items)
            beside.rename(path)
        return path

    def fit(self, method: str) -> list[str]:
        """The command that makes the run of a method, in place of one that is there."""
        run = self.folder / method
        shutil.rmtree(run, ignore_errors=True)
        chosen = ["-k", GROUPS] if method != "finch" else ["-k", "auto"]
        return coterie("fit", self.rows, *chosen, "--method", method, "-o", run, "--seed", 0, "--device", "cpu")

    @property
    def run(self) -> Path:
        """The kmeans run."""
        run = self.folder / "kmeans"
        if not (run / "model").is_dir():
            subprocess.run(self.fit("kmeans"), check=True, stdout=subprocess.DEVNULL)
        return run

    @property
    def picture_run(self) -> Path:
        """A net of 8 channels, trained for one epoch on 1,000 of the pictures."""
        import pyarrow.parquet as pq

        from coterie.data.parquet_folder import Joined

        run, some = self.folder / "of-pictures", self.folder / "some.parquet"
        if not (run / "model").is_dir():
            pq.write_table(Joined(self.pictures).read_row_group(0, columns=["image"]), some)
            how = ("--backbone", "small-8", "--epochs", 1, "--device", "cpu", "--encoder", "none")
            command = coterie("fit", some, "-k", KINDS, "--method", "pica", *how, "-o", run)
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return run


# From the cheapest to the dearest, each with its command.
PARTS: dict[str, Callable[[Place], list[str]]] = {
    "evaluate": lambda at: coterie("evaluate", at.run, "--labels", at.folder / "labels.npy"),
    "accept": lambda at: coterie("accept", at.run, "-o", at.folder / "accepted.csv"),
    "report": lambda at: coterie("report", at.run),
    "open": lambda at: here("open", at.run / "report.html"),
    "predict": lambda at: coterie("predict", at.run, at.rows, "-o", at.folder / "new.parquet", "--device", "cpu"),
    "kmeans": lambda at: at.fit("kmeans"),
    "embed-slice": lambda at: here("slice", at.pictures),
    "predict-pictures": lambda at: coterie(
        "predict", at.picture_run, at.pictures, "-o", at.folder / "pictures.parquet", "--device", "cpu"
    ),
    "neighbours": lambda at: here("neighbours", at.rows),
    "finch": lambda at: at.fit("finch"),
    "cdc": lambda at: at.fit("cdc"),
}


def measured(at: Place, part: str, limit: float) -> dict[str, Any]:
    """One part, and what its run reaches against the true groups."""
    found = watched(PARTS[part](at), limit)
    said = found.pop("said", "")
    if said.startswith("{"):
        found |= json.loads(said)
    if found["status"] == "done" and part in ("kmeans", "finch", "cdc"):
        from sklearn.metrics import adjusted_rand_score

        from coterie.prediction.results import read_result

        labels = read_result(at.folder / part / "result.parquet").labels
        truth = np.load(at.folder / "labels.npy")
        found |= {"ari": round(float(adjusted_rand_score(truth, labels)), 3), "groups": len(np.unique(labels))}
    return found


def growth(sizes: dict[str, dict[str, Any]]) -> dict[str, float]:
    """For each part the power of n with which its processor seconds grow, between the two largest sizes."""
    powers = {}
    for part in PARTS:
        known = [
            (int(n), parts[part]["cpu_seconds"]) for n, parts in sizes.items() if "cpu_seconds" in parts.get(part, {})
        ]
        if len(known) > 1:
            (few, short), (many, long) = sorted(known)[-2:]
            powers[part] = round(math.log(long / short) / math.log(many / few), 2)
    return powers


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument(
        "--parts", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=", ".join(PARTS)
    )
    options.add_argument("--items", type=int, default=1_000_000)
    options.add_argument("--limit", type=float, default=3600.0, help="seconds for each part")
    options.add_argument("--again", action="store_true", help="measure parts anew that are done")
    options.add_argument("--folder", type=Path, help="keep data and runs here  [default: a temporary folder]")
    options.add_argument("--note", default="", help="said in the file, such as what else the machine did")
    options.add_argument("--call", nargs=2, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.call:
        CALLS[given.call[0]](given.call[1])
        return
    path = RESULTS / "million.json"
    sizes = json.loads(path.read_text(encoding="utf-8"))["sizes"] if path.is_file() else {}
    own = sizes.setdefault(str(given.items), {})
    with tempfile.TemporaryDirectory() as temporary:
        at = Place((given.folder or Path(temporary)) / str(given.items), given.items)
        for part in given.parts:
            if own.get(part, {}).get("status") == "done" and not given.again:
                continue
            own[part] = measured(at, part, given.limit) | ({"note": given.note} if given.note else {})
            print(part, own[part], flush=True)
            ordered = {n: sizes[n] for n in sorted(sizes, key=int)}
            write_results("million", "python benchmarks/million.py", dim=DIM, growth=growth(ordered), sizes=ordered)


if __name__ == "__main__":
    main()
