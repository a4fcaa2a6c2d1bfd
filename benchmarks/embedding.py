"""Embedding pictures: seconds and memory, large pictures, kills, and batches of one against batches of many.

    python benchmarks/embedding.py SOURCE [--pictures 3000] [--kills 10] [--large 200] [--encoder efficientnet-lite0]

SOURCE is a table or folder of pictures; `--pictures` of them, evenly spread, are embedded (0: all) by the command in a
process of its own. Then a run over the same pictures is killed (SIGKILL) at random moments and gone on with, and its
files are compared; `--large` pictures of 12 megapixels are made and embedded; and twenty pictures are seen alone and
together. The result, benchmarks/results/embedding.json, says how busy the machine was.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import signal
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

from coterie.data import open_source
from coterie.data.pictures import Pictures
from coterie.encoders import open_items
from coterie.encoders.loading import load_encoder
from coterie.encoders.opening import Encode
from coterie.encoders.resolving import Wanted

WIDTH, HEIGHT = 4000, 3000  # pixels of a picture of 12 megapixels
CONTENTS = 100


def command_of(source: Path, encoder: str, out: Path) -> list[str]:
    return [sys.executable, "-m", "coterie", "embed", str(source), "--encoder", encoder, "-o", str(out), "-q"]


def measured(source: Path, encoder: str, out: Path) -> dict[str, float]:
    """Seconds on the clock and of processor time, and the peak of memory in MB, of one command."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun = time.monotonic()
    process = subprocess.Popen(command_of(source, encoder, out), stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    assert status == 0, f"embed ended with {status}"
    assert before is not None
    return {
        "seconds": round(time.monotonic() - begun, 1),
        "processor_seconds": round(used.ru_utime + used.ru_stime, 1),
        "peak_mb": round(used.ru_maxrss / 1024),
    }


def pictures_of(source: Path) -> Pictures:
    """The pictures of a source, not decoded."""
    found: list[Pictures] = []

    def take(pictures: Pictures, survey: object, options: object) -> None:
        found.append(pictures)
        raise _Taken

    try:
        open_source(str(source), encode=take)
    except _Taken:
        return found[0]
    raise SystemExit(f"{source} holds no pictures")


class _Taken(Exception):
    """The pictures were seen, and need not be decoded."""


def spread(source: Path, count: int, folder: Path) -> Path:
    """A folder of so many pictures of the source, evenly spread, as the files that they are."""
    pictures = pictures_of(source)
    folder.mkdir()
    for row in np.unique(np.linspace(0, len(pictures.ids) - 1, count).astype(int)).tolist():
        with pictures.load(row) as image:
            image.save(folder / f"{row:06d}.png")
    return folder


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def killed(source: Path, encoder: str, whole: Path, out: Path, kills: int, seconds: float) -> dict[str, Any]:
    """Kill the command at random moments, go on with it each time, and compare the files in the end.

    A moment lies between a fifth and two thirds of the time of an undisturbed run. What ended before begins anew, so
    that the last of several runs are compared; `parts` says how many were there when it was killed.
    """
    moments, hit, parts = random.Random(0), list[float](), list[int]()
    while len(hit) < kills:
        process = subprocess.Popen(command_of(source, encoder, out), stdout=subprocess.DEVNULL)
        wait = moments.uniform(0.2, 0.66) * seconds
        try:
            process.wait(wait)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            hit.append(round(wait, 1))
            parts.append(len(list(out.glob("parts/*.npz"))))
            continue
        for path in sorted(out.rglob("*"), reverse=True):  # it ended: begin anew
            path.unlink() if path.is_file() else path.rmdir()
    subprocess.run(command_of(source, encoder, out), check=True, stdout=subprocess.DEVNULL)
    return {"killed_after_seconds": hit, "parts": parts, "same_files": files_of(out) == files_of(whole)}


def large_pictures(folder: Path, count: int) -> Path:
    """Smooth noise as JPEGs of 12 megapixels, about 3 MB each; of a hundred contents, told apart by a comment."""
    folder.mkdir()
    for row in range(count):
        path = folder / f"{row:05d}.jpg"
        if row < CONTENTS:
            rough = np.random.default_rng(row).integers(0, 256, (HEIGHT // 25, WIDTH // 25, 3), np.uint8)
            Image.fromarray(rough).resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR).save(path, quality=95)
            continue
        said = f"{row:08d}".encode()
        begin, rest = b"\xff\xd8", (folder / f"{row % CONTENTS:05d}.jpg").read_bytes()[2:]
        path.write_bytes(begin + b"\xff\xfe" + (2 + len(said)).to_bytes(2, "big") + said + rest)
    return folder


def alone_and_together(source: Path, encoder: str) -> float:
    """The largest cosine distance of a picture seen alone from the same seen in a batch of 32."""
    seer = load_encoder(Wanted(encoder))
    opened = open_source(str(source), image_size=seer.encoding.size, channels=3)
    pixels = opened.items.take(torch.arange(32))
    together, alone = seer(pixels), torch.cat([seer(pixels[row : row + 1]) for row in range(32)])
    return float((1 - torch.cosine_similarity(together.double(), alone.double())).abs().max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("--pictures", type=int, default=3000, help="0: all, as they are")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--large", type=int, default=200)
    parser.add_argument("--encoder", default="efficientnet-lite0")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work, content = Path(temporary), dict[str, Any]()
        source = asked.source if not asked.pictures else spread(asked.source, asked.pictures, work / "pictures")
        content["encoder"] = asked.encoder
        content["load_before"] = [round(value, 1) for value in os.getloadavg()]
        whole = measured(source, asked.encoder, work / "whole")
        found = open_items(work / "whole", encode=Encode(Wanted(asked.encoder)))
        content["pictures"] = {"n": len(found.items), **whole}
        if asked.kills:
            seconds = whole["seconds"]
            content["kills"] = killed(source, asked.encoder, work / "whole", work / "cut", asked.kills, seconds)
        if asked.large:
            large = large_pictures(work / "large", asked.large)
            size = sum(path.stat().st_size for path in large.iterdir()) / asked.large
            times = measured(large, asked.encoder, work / "of-large")
            content["large"] = {"n": asked.large, "megapixels": 12, "mb_each": round(size / 1e6, 1), **times}
        content["largest_cosine_distance_alone_to_32"] = alone_and_together(source, asked.encoder)
        content["load_after"] = [round(value, 1) for value in os.getloadavg()]
    path = write_results(
        "embedding", " ".join(["python", "benchmarks/embedding.py", asked.source.name, *rest()]), **content
    )
    print(path.read_text())


def rest() -> list[str]:
    """The options as they were given, without the source, whose place is nobody's business."""
    return [word for word in sys.argv[1:] if not Path(word).exists()]


if __name__ == "__main__":
    main()
