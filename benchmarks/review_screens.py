"""Screenshots of every screen of the review app, light and dark, 1280 and 390 pixels wide, to be looked at.

    python benchmarks/review_screens.py -o OUT [--run RUN]

Without a run it takes the digits of scikit-learn, 600 of them, grouped as their nearest mean says. Needs the extra
`review`, playwright, and Chromium as `chromium` on the path.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np

IN_VIEW = "(i) => { const box = i.getBoundingClientRect(); return i.src && box.bottom > 0 && box.top < innerHeight; }"
LOADED = f"() => [...document.images].filter({IN_VIEW}).every((i) => i.complete && i.naturalWidth)"
SIZES = {"wide": (1280, 900), "narrow": (390, 844)}


def digits_run(folder: Path) -> Path:
    """A finished run over pictures of digits, made by hand: no training."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    import yaml
    from PIL import Image
    from sklearn.cluster import KMeans
    from sklearn.datasets import load_digits
    from sklearn.decomposition import PCA

    images = load_digits().images[:600]
    (folder / "digits").mkdir(parents=True)
    ids = [f"digit_{row:04}.png" for row in range(len(images))]
    for name, image in zip(ids, images, strict=True):
        Image.fromarray((255 - image * 255 / 16).astype(np.uint8)).save(folder / "digits" / name)
    flat = images.reshape(len(images), -1)
    centres = KMeans(10, n_init=4, random_state=0).fit(flat).cluster_centers_
    distance = ((flat[:, None] - centres[None]) ** 2).sum(axis=2)
    p = np.exp(-(distance - distance.min(axis=1, keepdims=True)) / 120)
    p = (p / p.sum(axis=1, keepdims=True)).astype(np.float32)
    run = folder / "run"
    run.mkdir()
    spec = {"kind": "images", "channels": 1, "height": 8, "width": 8}
    source = {"name": "digits", "origin": str(folder / "digits"), "n": len(ids), "spec": spec, "fingerprint": "0" * 64}
    record = {"status": "done", "source": source, "n_clusters": 10, "seed": 0, "calibrated": True, "seconds": 1.0}
    (run / "run.yaml").write_text(yaml.safe_dump(record))
    columns: dict[str, Any] = {"id": ids, "label": pa.array(p.argmax(1), pa.int32()), "confidence": pa.array(p.max(1))}
    columns["probabilities"] = pa.FixedSizeListArray.from_arrays(pa.array(p.ravel()), 10)
    columns["embedding"] = pa.FixedSizeListArray.from_arrays(pa.array(flat.astype(np.float32).ravel()), flat.shape[1])
    marks = {"coterie.table": "result", "coterie.heads": "cal", "coterie.k": "10"}
    pq.write_table(pa.table(columns).replace_schema_metadata(marks), run / "result.parquet")
    rows = np.arange(0, len(ids), 2)
    np.savez(run / "map.npz", rows=rows, xy=PCA(2).fit_transform(flat[rows]).astype(np.float32))
    return run


def decide(review: Any) -> None:
    """Some of everything, so that no screen is empty."""
    review.rename(0, "zeros, I think").rename(3, "Dreien")
    review.approve(0, seen=review.state.members(0)[:30])
    review.move(review.state.members(1)[:5], 2).reject(review.state.members(4)[:3])
    review.merge(7, [8])
    for row in review.draw(80, max_error=0.1, seed=0).tolist():
        review.judge(row, "right" if row % 29 else "wrong")
    review.end_audit()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--only", default="", help="screens, parted by commas")
    asked = parser.parse_args()
    from playwright.sync_api import sync_playwright

    from coterie.app.server import opened

    asked.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        run = asked.run or digits_run(Path(temporary))
        with opened(run, 0, None, "ana") as (server, listening, address), sync_playwright() as playwright:
            review = server.site.review
            if asked.run is None:
                decide(review)
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
            thread.start()
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            shoot(browser, review, address, asked.out, asked.only.split(",") if asked.only else [])
            browser.close()
            server.stop()
            thread.join()
    print(f"{len(list(asked.out.glob('*.png')))} screenshots: {asked.out}")


def shoot(browser: Any, review: Any, address: str, out: Path, only: list[str]) -> None:
    """A picture of every screen, or of some, in both schemes and all sizes."""
    wanted = [screen for screen in screens(review) if not only or screen[0] in only]
    for scheme, (size, (width, height)) in itertools.product(("light", "dark"), SIZES.items()):
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion="reduce"
        )
        page = context.new_page()
        for name, path, wait in wanted:
            page.goto(address + path)
            page.wait_for_selector(wait, state="attached")
            act(page, name)
            page.wait_for_load_state("load")
            page.wait_for_function(LOADED)
            page.screenshot(path=out / f"{name}-{scheme}-{size}.png")
        context.close()


def screens(review: Any) -> list[tuple[str, str, str]]:
    """Name, address and what is there when it is ready."""
    return [
        ("overview", "", ".review"),
        ("group", "g/2", "#grid .cell[data-row]"),
        ("sweep", "g/5", "#grid .cell[data-row]"),
        ("queue", "queue", "#task[data-row]"),
        ("compare", "compare/1/2", "#between .cell"),
        ("split", "split/2", ".part"),
        ("map", "map", "#in-view .cell"),
        ("accept", "accept", "#by-group tbody tr"),
        ("audit", "audit", "#draw, #task[data-place]"),
        ("history", "history", "#history li"),
        ("export", "export", "#export"),
        ("keys", "", ".review"),
        ("error", "g/999", "h1"),
    ]


def act(page: Any, name: str) -> None:
    """What is to be seen open."""
    if name == "sweep":
        page.keyboard.press("f")
        page.wait_for_selector("#sweep-text")
    if name == "keys":
        page.keyboard.press("?")
    if name == "group":
        page.keyboard.press("Shift+ArrowRight")


if __name__ == "__main__":
    main()
