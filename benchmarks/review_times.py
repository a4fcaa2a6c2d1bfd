"""How long the review app takes at 100,000 rows and 100 groups, and at 10,000: the server's answers and the browser's.

    python benchmarks/review_times.py [--rows 10000 100000] [--groups 100] [--pictures 100]

The run is made by hand: random probabilities, an embedding of 64 numbers, and so many JPEGs of 12 megapixels as
`--pictures` says; the other items are links to them. For each number of rows: the first page (process started until
the address answers), and the median of 5 of the overview, 60 rows, the queue's next task, a decision and an undo; 60
cold and warm thumbnails, six at a time as a browser asks; in Chromium the first page with its pictures, a group, the
map, and the nodes of a grid that was scrolled to its middle; the peak of resident memory; the fold of 10,000 events; a
split of 20,000 items into two. `seconds` are those of the clock, `processor` those that the server (or, of the last
two, this process) worked: where a machine does other things, only they mean much. `review_refit.py` has the head.
Writes benchmarks/results/review_times.json.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from _measure import write_results


def make_run(folder: Path, n: int, k: int, pictures: int) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq
    import yaml
    from PIL import Image

    rng = np.random.default_rng(0)
    photos = folder / "photos"
    photos.mkdir(parents=True)
    small = rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)
    for row in range(n):
        path = photos / f"{row:06}.jpg"
        if row < pictures:
            turned = np.roll(small, row, axis=1)
            Image.fromarray(turned).resize((4000, 3000)).save(path, quality=70)
        else:
            path.symlink_to(photos / f"{row % pictures:06}.jpg")
    label = rng.integers(0, k, n)
    logits = rng.normal(size=(n, k)).astype(np.float32)
    logits[np.arange(n), label] += 8 * rng.random(n).astype(np.float32)
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    run = folder / "run"
    run.mkdir()
    spec = {"kind": "images", "channels": 3, "height": 64, "width": 64}
    source = {"name": "photos", "origin": str(photos), "n": n, "kind": "images", "spec": spec, "fingerprint": "0" * 64}
    (run / "run.yaml").write_text(yaml.safe_dump({"status": "done", "source": source, "n_clusters": k}))
    embedding = (rng.normal(size=(k, 64))[label] * 2 + rng.normal(size=(n, 64))).astype(np.float32)
    columns: dict[str, Any] = {"id": [f"{row:06}.jpg" for row in range(n)], "label": pa.array(p.argmax(1), pa.int32())}
    columns |= {"confidence": p.max(1), "probabilities": pa.FixedSizeListArray.from_arrays(pa.array(p.ravel()), k)}
    columns["embedding"] = pa.FixedSizeListArray.from_arrays(pa.array(embedding.ravel()), 64)
    pq.write_table(pa.table(columns), run / "result.parquet")
    return run


class Watched:
    """A server process, and what each thing takes it: seconds of the clock and of the processor."""

    def __init__(self, run: Path) -> None:
        code = "import sys; from pathlib import Path; from coterie.app.server import serve\n"
        code += "serve(Path(sys.argv[1]), 0, browser=False, source=None, name='times')"
        self.found: list[dict[str, Any]] = []
        begun = time.monotonic()
        self.process = subprocess.Popen([sys.executable, "-c", code, str(run)], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().strip()
        get(self.address)
        self.note("first page", time.monotonic() - begun, self.worked())

    def worked(self) -> float:
        """Processor seconds so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def note(self, name: str, seconds: float, processor: float) -> None:
        self.found.append({"what": name, "seconds": round(seconds, 3), "processor": round(processor, 3)})
        print(f"{name:34}{seconds:10.3f}{processor:10.3f}", flush=True)

    def time(self, name: str, work: Callable[[], Any], repeats: int = 5) -> None:
        """The median over the repeats of the clock's seconds, and the mean of the processor's, whose tick is 10 ms."""
        before, times = self.worked(), []
        for _ in range(repeats):
            begun = time.monotonic()
            work()
            times.append(time.monotonic() - begun)
        self.note(name, statistics.median(times), (self.worked() - before) / repeats)

    def peak(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024


def measure(run: Path, n: int) -> dict[str, Any]:
    server = Watched(run)
    address, numbers = server.address, iter(range(1, 1000))

    def decide() -> None:
        number = next(numbers)
        data = {"rows": str(number * 7 % n), "to": number % 50}
        post(f"{address}events", {"op": f"times-x-{number}", "after": 0, "type": "move", "data": data})

    def thumbs() -> None:
        with ThreadPoolExecutor(6) as pool:
            list(pool.map(get, [f"{address}thumb/{row}" for row in range(min(n, 60))]))

    try:
        server.time("overview", lambda: get(address))
        server.time("60 rows", lambda: get(f"{address}items?group=1&order=surest&offset=60&limit=60"))
        server.time("60 thumbnails, cold", thumbs, 1)
        server.time("60 thumbnails, warm", thumbs)
        server.time("next doubtful item", lambda: get(f"{address}queue/next"))
        server.time("decision", decide, 20)
        server.time("overview after a decision", lambda: get(address), 1)
        undo = lambda: post(f"{address}undo", {"op": f"times-x-{next(numbers)}", "after": 0})  # noqa: E731
        server.time("undo", undo)
        server.time("all points of the map", lambda: get(f"{address}points"), 1)
        nodes = browse(server)
        return {"rows": n, "peak_mib": round(server.peak()), "grid_nodes": nodes, "times": server.found}
    finally:
        server.process.terminate()
        server.process.wait()


def browse(server: Watched) -> int | None:
    """Pages in Chromium, and how many nodes a grid has that was scrolled to its middle."""
    chromium = shutil.which("chromium")
    if chromium is None:
        return None
    from playwright.sync_api import sync_playwright

    pictures = "(all) => all.length > 0 && all.every((image) => image.complete && image.naturalWidth > 0)"
    shown = "() => (%s)([...document.images].filter((one) => { const box = one.getBoundingClientRect(); "
    shown = shown % pictures + "return one.src && box.bottom > 0 && box.top < innerHeight; }))"

    def opened(path: str, ready: str) -> None:
        page.goto(server.address + path)
        page.wait_for_selector(ready)
        page.wait_for_function(shown)

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(120_000)
        server.time("in Chromium: overview, pictures", lambda: opened("", ".review"), 1)
        server.time("in Chromium: group, pictures", lambda: opened("g/1", "#grid .cell[data-row]"), 1)
        page.evaluate("() => window.scrollTo(0, document.body.scrollHeight / 2)")
        page.wait_for_function("() => [...document.querySelectorAll('#grid .cell')].every((cell) => cell.dataset.row)")
        nodes = page.evaluate("() => document.querySelectorAll('#grid *').length")
        server.time("in Chromium: the map", lambda: opened("map", "#in-view .cell"), 1)
        browser.close()
        return int(nodes)


def computed(run: Path, n: int) -> list[dict[str, Any]]:
    """What is computed rather than answered, in this process."""
    from coterie.prediction.parts import propose_parts

    z = np.random.default_rng(0).standard_normal((min(n, 20_000), 64), dtype=np.float32)
    works: dict[str, Callable[[], Any]] = {
        "fold of 10,000 events": replayed(run, n),
        f"split of {len(z):,} x 64": lambda: propose_parts(z, 2, 0),
    }
    found = []
    for name, work in works.items():
        begun, worked = time.monotonic(), time.process_time()
        work()
        seconds, processor = time.monotonic() - begun, time.process_time() - worked
        found.append({"what": name, "seconds": round(seconds, 3), "processor": round(processor, 3)})
        print(f"{name:34}{seconds:10.3f}{processor:10.3f}", flush=True)
    return found


def replayed(run: Path, n: int) -> Callable[[], Any]:
    """The fold of 10,000 events, as at a start or an undo."""
    from coterie.review.base import read_base
    from coterie.review.events import Event, content_of, plain
    from coterie.review.fold import replay

    base, rng, events = read_base(run), np.random.default_rng(0), []
    opened = {"format": 1, "sha256": "0" * 64, "fingerprint": None, "n": n, "k": base.k}
    for seq in range(10_001):
        first = int(rng.integers(0, n - 60))
        data = {"rows": f"{first}-{first + 59}", "to": int(rng.integers(0, 50))}
        kind, data = ("open", opened) if not seq else ("move", data)
        if seq and seq % 500 == 0:
            kind, data = "merge", {"into": 0, "from": [base.k - 1 - seq // 500]}
        content = content_of(kind, data)
        event = Event(seq=seq, op=str(seq), after=0, at="", by="", type=kind, data=plain(content))
        events.append((event, content))
    return lambda: replay(events, base.labels, base.k)


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=60) as answer:
        return bytes(answer.read())


def post(url: str, body: dict[str, Any]) -> None:
    origin = "/".join(url.split("/")[:3])
    headers = {"Content-Type": "application/json", "X-Coterie": "1", "Origin": origin, "Sec-Fetch-Site": "same-origin"}
    with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), headers), timeout=60) as answer:
        answer.read()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--groups", type=int, default=100)
    parser.add_argument("--pictures", type=int, default=100)
    asked = parser.parse_args()
    words = f"--rows {' '.join(map(str, asked.rows))} --groups {asked.groups} --pictures {asked.pictures}"
    results: list[dict[str, Any]] = []
    for n in asked.rows:
        print(f"{n:,} rows: seconds, processor seconds", flush=True)
        with tempfile.TemporaryDirectory() as temporary:
            run = make_run(Path(temporary), n, asked.groups, min(n, asked.pictures))
            load = os.getloadavg()[0]
            found = measure(run, n)
            found["times"] += computed(run, n)
        results.append({**found, "others_running": round(load, 1)})
    write_results("review_times", f"python benchmarks/review_times.py {words}", groups=asked.groups, results=results)


if __name__ == "__main__":
    main()
