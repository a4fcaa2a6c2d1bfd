"""How long the review app takes at 100,000 rows and 100 groups, and at 10,000: the server's answers and the browser's.

    python benchmarks/review_times.py [--rows 10000,100000] [--groups 100] [--pictures 2000] [--json]

The run is made by hand: random probabilities, an embedding of 64 numbers, and so many JPEGs of 12 megapixels' content
at 4000x3000 for the cold thumbnails as `--pictures` says; the other items are links to them. Prints, for each number of
rows, the seconds to the first page (process started until the address answers), the median of 5 for the overview, 60
rows, a decision, a queue's next task and undo, 60 cold and warm thumbnails, resident memory at the end, nodes of the
grid in Chromium after scrolling to its middle, and the seconds of a replay of 10,000 events.
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
from pathlib import Path
from typing import Any

import numpy as np


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


def measure(run: Path, n: int) -> dict[str, float]:
    code = "import sys; from pathlib import Path; from coterie.app.server import serve\n"
    code += "serve(Path(sys.argv[1]), 0, browser=False, source=None, name='times')"
    begun = time.monotonic()
    process = subprocess.Popen([sys.executable, "-c", code, str(run)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    address = process.stdout.readline().strip()
    found: dict[str, float] = {"rows": n}
    try:
        get(address)
        found["first_page"] = time.monotonic() - begun
        found["overview"] = median(lambda: get(address))
        found["items"] = median(lambda: get(f"{address}items?group=1&order=surest&offset=60&limit=60"))
        rows = list(range(min(n, 60)))
        found["thumbs_cold"] = seconds(lambda: [get(f"{address}thumb/{row}") for row in rows])
        found["thumbs_warm"] = seconds(lambda: [get(f"{address}thumb/{row}") for row in rows])
        found["queue"] = median(lambda: get(f"{address}queue/next"))
        numbers = iter(range(1, 1000))

        def decide() -> None:
            number = next(numbers)
            data = {"rows": str(number * 7 % n), "to": number % 50}
            post(f"{address}events", {"op": f"times-x-{number}", "after": 0, "type": "move", "data": data})

        found["decision"] = median(decide)
        found["overview_after"] = seconds(lambda: get(address))
        found["undo"] = median(lambda: post(f"{address}undo", {"op": f"times-x-{next(numbers)}", "after": 0}))
        found["points"] = seconds(lambda: get(f"{address}points"))
        found |= browse(address)
        status = Path(f"/proc/{process.pid}/status").read_text()
        found["peak_mb"] = int(status.split("VmHWM:")[1].split()[0]) / 1024
    finally:
        process.terminate()
        process.wait()
    found["replay_10000"] = replayed(run, n)
    return found


def browse(address: str) -> dict[str, float]:
    """Nodes of the grid, and the seconds until a group's tiles are there, in Chromium."""
    chromium = shutil.which("chromium")
    if chromium is None:
        return {}
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        begun = time.monotonic()
        page.goto(f"{address}g/1")
        page.wait_for_selector("#grid .cell[data-row]")
        shown = time.monotonic() - begun
        page.evaluate("() => window.scrollTo(0, document.body.scrollHeight / 2)")
        page.wait_for_function("() => [...document.querySelectorAll('#grid .cell')].every((cell) => cell.dataset.row)")
        nodes = page.evaluate("() => document.querySelectorAll('#grid *').length")
        begun = time.monotonic()
        page.goto(f"{address}map")
        page.wait_for_selector("#in-view .cell")
        browser.close()
        return {"group_in_browser": shown, "grid_nodes": nodes, "map_in_browser": time.monotonic() - begun}


def replayed(run: Path, n: int) -> float:
    """The fold of 10,000 events, as at a start or an undo."""
    from coterie.review.base import read_base
    from coterie.review.events import Event, content_of, plain
    from coterie.review.state import replay

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
    return seconds(lambda: replay(events, base.labels, base.k))


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=60) as answer:
        return bytes(answer.read())


def post(url: str, body: dict[str, Any]) -> None:
    origin = "/".join(url.split("/")[:3])
    headers = {"Content-Type": "application/json", "X-Coterie": "1", "Origin": origin, "Sec-Fetch-Site": "same-origin"}
    with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), headers), timeout=60) as answer:
        answer.read()


def seconds(work: Callable[[], Any]) -> float:
    begun = time.monotonic()
    work()
    return time.monotonic() - begun


def median(work: Callable[[], Any]) -> float:
    return statistics.median(seconds(work) for _ in range(5))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="10000,100000")
    parser.add_argument("--groups", type=int, default=100)
    parser.add_argument("--pictures", type=int, default=100)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    results = []
    for n in map(int, asked.rows.split(",")):
        with tempfile.TemporaryDirectory() as temporary:
            results.append(measure(make_run(Path(temporary), n, asked.groups, min(n, asked.pictures)), n))
    if asked.json:
        print(json.dumps({"machine": os.uname().machine, "cores": os.cpu_count(), "results": results}))
        return
    for name in results[0]:
        print(f"{name:18}" + "".join(f"{result.get(name, float('nan')):12.3f}" for result in results))


if __name__ == "__main__":
    main()
