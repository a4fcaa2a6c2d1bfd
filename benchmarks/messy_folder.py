"""A folder of 3,000 real PNGs mixed with broken and odd ones through `coterie fit`, `predict` and `report`.

The images are Fashion-MNIST's, or digits where that is not here. They are written into a temporary folder, nested by
class, some as RGBA, palette or 16 bit, beside one image of 20 megapixels, truncated files, zero-byte files and text
files called .jpg. The commands run as a user runs them. Exit code 1 if one fails or a bad file is not listed.

    python benchmarks/messy_folder.py
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _measure import write_results
from PIL import Image

from coterie.data import labels_of, open_source
from coterie.types import InputError

ODD = {"RGBA": 100, "palette": 100, "16 bit": 100}  # of the good ones
TRUNCATED, EMPTY, TEXT = 40, 20, 5
COMMAND = [sys.executable, "-c", "import sys; from coterie.cli import main; sys.exit(main())"]


def real_images(count: int) -> tuple[str, np.ndarray, np.ndarray]:
    """Name, pixels (n, h, w) and classes of the first `count` images of the set that is here."""
    try:
        source = open_source("fashion-mnist")
    except InputError:
        source = open_source("digits")
    labels = labels_of(source.name, source.ids)
    assert labels is not None
    rows = torch.arange(count) % len(source.items)
    return source.name, source.items.take(rows)[:, 0].numpy(), labels.codes[rows.numpy()]


def write_folder(root: Path, count: int) -> tuple[str, dict[str, str]]:
    """Fill `root`; return the images' name and every bad file with its kind."""
    name, pixels, classes = real_images(count)
    kinds = [kind for kind, number in ODD.items() for _ in range(number)]
    for row, image in enumerate(pixels):
        folder = root / f"class {classes[row]}"
        folder.mkdir(exist_ok=True)
        as_kind(image, kinds[row] if row < len(kinds) else "").save(folder / f"{row:05d}.png")
    large = np.tile(pixels[0], (4000 // pixels.shape[1] + 1, 5000 // pixels.shape[2] + 1))[:4000, :5000]
    Image.fromarray(large).save(root / "20 megapixels.png")
    (root / "bad" / "deep").mkdir(parents=True)
    bad: dict[str, str] = {}
    for number in range(TRUNCATED):
        buffer = io.BytesIO()
        Image.fromarray(pixels[number]).save(buffer, "PNG")
        bad[f"bad/deep/truncated{number}.png"] = "truncated"
        (root / "bad" / "deep" / f"truncated{number}.png").write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    for number in range(EMPTY):
        bad[f"bad/empty{number}.png"] = "zero bytes"
        (root / "bad" / f"empty{number}.png").write_bytes(b"")
    for number in range(TEXT):
        bad[f"bad/text{number}.jpg"] = "text"
        (root / "bad" / f"text{number}.jpg").write_text("I am no image.\n")
    return name, bad


def as_kind(image: np.ndarray, kind: str) -> Image.Image:
    if kind == "RGBA":
        return Image.fromarray(np.dstack([image] * 3 + [255 - image]))
    if kind == "palette":
        return Image.fromarray(image).convert("P")
    return Image.fromarray(image.astype(np.uint16) * 257 if kind == "16 bit" else image)


def run(command: list[str], inside: Path) -> dict[str, Any]:
    """Run one command in the folder `inside`; its exit code, seconds from start to end, and what its object says."""
    begun = time.perf_counter()
    done = subprocess.run([*COMMAND, *command, "--json"], cwd=inside, capture_output=True, text=True, check=False)
    seconds = round(time.perf_counter() - begun, 1)
    print(f"coterie {' '.join(command)}: exit code {done.returncode}, {seconds} s", flush=True)
    if done.returncode:
        print(done.stderr, file=sys.stderr)
    found = json.loads(done.stdout) if done.returncode == 0 else {}
    return {"command": "coterie " + " ".join(command), "exit_code": done.returncode, "wall_seconds": seconds, **found}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=3000, help="how many good ones")
    count = parser.parse_args().images
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        (root / "photos").mkdir()
        name, bad = write_folder(root / "photos", count)
        written = {path: os.stat(path).st_mtime_ns for path in (root / "photos").rglob("*")}
        few = ["--backbone", "small-8", "--image-size", "28", "--set", "moco.epochs=1", "--set", "cdc.epochs=2"]
        commands = [
            ["fit", "photos", "-k", "10", "-o", "run", "--labels", "folders", *few],
            ["predict", "run", "photos", "-o", "new.parquet"],
            ["report", "run"],
        ]
        runs = [run(command, root) for command in commands]
        page = (
            (root / "run" / "report.html").read_text(encoding="utf-8")
            if (root / "run" / "report.html").exists()
            else ""
        )
        untouched = {path: os.stat(path).st_mtime_ns for path in (root / "photos").rglob("*")} == written
    listed = [{item["id"] for item in found.pop("skipped_items", [])} == bad.keys() for found in runs[:2]]
    checks = {
        "exit_codes_are_0": all(found["exit_code"] == 0 for found in runs),
        "fit_lists_the_bad_files_and_no_others": listed[0],
        "predict_lists_the_bad_files_and_no_others": listed[1],
        "report_names_every_bad_file": all(file in page for file in bad),
        "every_good_file_has_a_group": all(found.get("n") == count + 1 for found in runs[:2]),
        "the_folder_is_as_it_was": untouched,
    }
    made = {"good": count + 1, **ODD, "20 megapixels": 1, "truncated": TRUNCATED, "zero bytes": EMPTY, "text": TEXT}
    print(checks)
    print(
        write_results(
            "messy_folder", "python benchmarks/messy_folder.py", data=name, made=made, checks=checks, runs=runs
        )
    )
    return 0 if all(checks.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
