"""Odd, damaged and hostile input for `fuzz.py`: each function makes the files of one try and says what to call.

Everything is drawn from one `random.Random`, so a try can be repeated. What a try changes is a copy.
"""

from __future__ import annotations

import io
import json
import os
import random
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from _damage import HOSTILE, damaged, edited, nested, put_special
from PIL import Image

from coterie.catalogue import method_class

Call = list[str]
"""Arguments of `coterie`; "load" as the first one stands for `coterie.load` in Python."""

Settings = Mapping[str, Mapping[str, str]]
"""Of each part of a run its settings, with their defaults as YAML."""

PLAIN = [
    "1",
    "0",
    "-1",
    "2.5",
    "nan",
    ".inf",
    "-.inf",
    "true",
    "false",
    "null",
    "x",
    "[]",
    "[1, 2]",
    "{a: 1}",
    "1e9",
    "",
]
NUMBERS = ["-1", "0", "1", "0.5", "3", ".nan", ".inf", "-.inf", "1e-30", "1e30", "false", "true", "x", "null", "[1]"]

SHAPES: list[tuple[int, ...]] = [
    *((40, 8), (40, 8), (40, 1), (40,), (0, 8), (40, 0), (1, 8), (12, 8, 8), (12, 1, 8, 8), (12, 8, 8, 3)),
    *((12, 3, 8, 8), (12, 8, 8, 4), (12, 2, 2, 2, 2), (), (8, 8), (2, 100_000), (12, 5, 9, 7)),
]


class Place:
    """The folder of one try: `sources` and finished runs to copy from, `here` to work in."""

    def __init__(self, base: Path, here: Path, rng: random.Random, settings: Settings) -> None:
        self.base, self.here, self.rng, self.settings = base, here, rng, settings

    def run(self, name: str = "") -> Path:
        """A copy of a finished run: "vectors" or "pixels"."""
        name = name or self.rng.choice(("vectors", "vectors", "pixels"))
        shutil.copytree(self.base / "runs" / name, self.here / "run")
        return self.here / "run"

    def source(self, kind: str = "") -> str:
        """A copy of good data."""
        names = {"vectors": ["vectors.npy", "vectors.parquet"], "pixels": ["pixels.npz", "photos"]}
        name = self.rng.choice(names[kind or self.rng.choice(("vectors", "pixels"))])
        (self.here / "in").mkdir(exist_ok=True)
        place = self.here / "in" / name
        if (self.base / name).is_dir():
            shutil.copytree(self.base / name, place, dirs_exist_ok=True)
        else:
            shutil.copy(self.base / name, place)
        return f"in/{name}"

    def file(self, name: str, content: bytes) -> str:
        (self.here / "in").mkdir(exist_ok=True)
        (self.here / "in" / name).write_bytes(content)
        return f"in/{name}"

    def use(self, source: str, kind: str = "vectors") -> list[Call]:
        """A command or two that read this source."""
        rng, json_too = self.rng, self.rng.choice(([], ["--json"]))
        if rng.random() < 0.35:
            self.run(kind)
            return [["predict", "run", source, "-o", "new.parquet", *json_too]]
        return [["fit", source, "-k", rng.choice(("2", "3")), "--dry-run", *json_too]]

    def after(self, kind: str) -> list[Call]:
        """A command that reads the run folder `run`."""
        rng = self.rng
        source = "in/vectors.npy" if kind == "vectors" else "in/pixels.npz"
        (self.here / "in").mkdir(exist_ok=True)
        shutil.copy(self.base / Path(source).name, self.here / source)
        shutil.copytree(self.base / "runs" / kind, self.here / "other", dirs_exist_ok=True)
        labels = self.base / f"{kind}.csv"
        shutil.copy(labels, self.here / "in" / "labels.csv")
        resume = ["fit", source, "-o", "run", "--resume", *(self.base / f"{kind}.args").read_text().split()]
        calls = [
            ["report", "run"],
            ["evaluate", "run", "--labels", "in/labels.csv", "--json"],
            ["evaluate", "run"],
            ["accept", "run", "--json"],
            ["accept", "run", "--draw", "3", "-o", "draw.csv"],
            ["compare", "run", "other", "--json", "-o", "compare.html"],
            ["compare", "other", "run"],
            ["predict", "run", source, "-o", "new.parquet", "--embedding", "--json"],
            ["evaluate", "run", "--ood", source, "--json"],
            ["fit", source, "-k", "3", "--init", "run", "--dry-run"],
            ["load", "run"],
            resume,
        ]
        return rng.sample(calls, rng.choice((1, 2, 3)))


# One function for each kind


def command_lines(place: Place) -> list[Call]:
    rng = place.rng
    place.run("vectors")
    source = place.source()
    odd = [
        *("", ".", "-", "--", "~nouser", "in", "in/nothing", "/dev/null", "/proc/self/mem", "\udcff", "ü" * 200),
        *("x" * 300, "in/" + "a/" * 300, "-5", "1e9", "nan", "0", "10000000000000000000000", "digits", "digit", "run"),
    ]
    words = [*[source] * 20, *["run"] * 6, *odd]
    options = [
        *(
            "-k",
            "--method",
            "-o",
            "--seed",
            "--epochs",
            "--preset",
            "--init",
            "--backbone",
            "--weights",
            "--image-size",
        ),
        *("--device", "--precision", "--config", "--set", "--labels", "--max-error", "--confidence-level", "--judged"),
        *("--draw", "--ood", "--ood-score", "--unknown"),
    ]
    values = {
        "-k": ["3", "auto", "1", "0", "-3", "999", "three", "3.0", ""],
        "--method": ["cdc", "moco", "finch", "rdc", "dec", "cdd", ""],
        "-o": ["out", "out.parquet", "out.csv", "out.html", "run", source, "in/a/b/c", "x" * 300, "\udcff\udcfe"],
        "--preset": ["paper", "paper:cifar10", "practical", "paper:", "x"],
        "--backbone": ["small-4", "mlp", "small-0", "small-99999999", "resnet18", "sobel+mlp", "identity", "ae", ""],
        "--device": ["cpu", "cuda", "cuda:99", "mps", "tpu", ""],
        "--precision": ["fp32", "bf16", "fp8"],
        "--set": ["cdc.epochs=1", "epochs", "=", "a.b.c=1", "cdc.epochs=[", "views.flip=2", "cdc.=1", ".=1"],
        "--ood-score": ["knn", "msp", "energy", "none", "x"],
        "--seed": ["0", "7"],
        "--epochs": ["0", "1", "5"],
        "--init": ["run"],
        "--image-size": ["8", "16", "2"],
        "--labels": ["folders"],
        "--max-error": ["0.1", "0", "1"],
        "--confidence-level": ["0.9", "1"],
        "--draw": ["5", "0"],
        "--ood": [source],
    }
    flags = ["--json", "--dry-run", "--resume", "--calibrate", "--pretrained", "--embedding", "--help", "--version"]
    command = rng.choice(["fit"] * 5 + ["predict", "evaluate", "accept", "report", "compare", "methods", "", "ft"])
    first = ["run"] if command in ("predict", "evaluate", "accept", "report", "compare") and rng.random() < 0.7 else []
    call = [command, *first, *rng.choices(words, k=rng.choice((0, 1, 1, 1, 1, 2)))]
    if command == "fit" and rng.random() < 0.8:
        call += ["-k", "3"]
    for _ in range(rng.choice((0, 1, 1, 2, 4))):
        option = rng.choice(options)
        good = values.get(option, [])
        call += [option, rng.choice(good) if good and rng.random() < 0.7 else rng.choice(odd)]
    call += rng.sample(flags, rng.choice((0, 1, 2)))
    if command == "fit" and "--dry-run" not in call:
        call.append("--dry-run")  # a million epochs are no fault
    if command == "methods" and rng.random() < 0.5:
        call = ["methods", rng.choice(["cdc", "x", ""])]
    return [call]


def settings(place: Place) -> list[Call]:
    rng, known = place.rng, place.settings
    method = rng.choice([name for name in sorted(known) if name not in ("views", "run")])
    pool = {f"{part}.{name}": default for part in (method, "views") for name, default in known[part].items()}
    trained = rng.random() < 0.12
    if trained:  # only what cannot make a run long
        slow = (
            "epoch",
            "every",
            "restart",
            "step",
            "batch",
            "queue",
            "cells",
            "hidden",
            "patience",
            "level",
            "neighbo",
        )
        pool = {name: default for name, default in pool.items() if not any(word in name for word in slow)}
    call = ["fit", place.source(), "-k", "3", "--method", method]
    for name in rng.sample(sorted(pool), min(len(pool), rng.choice((1, 1, 2)))):
        value = near(rng, pool[name]) if rng.random() < 0.5 else rng.choice(NUMBERS if trained else NUMBERS + PLAIN)
        call += ["--set", f"{name}={value}"]
    if rng.random() < 0.15:
        name = rng.choice(sorted(known["run"]))
        place.file("c.yaml", yaml.safe_dump({name: rng.choice(HOSTILE)}, allow_unicode=True).encode())
        call += ["--config", "in/c.yaml"]
        trained = False
    if not trained:
        return [[*call, "--dry-run", *rng.choice(([], ["--json"]))]]
    images = "pixels" in call[1] or "photos" in call[1]
    card = method_class(method).card
    if card.starts_from and ("images" if images else "embeddings") in card.starts_on:
        call += ["--set", f"{card.starts_from}.epochs=1"]
    if images:
        call += ["--backbone", "small-4"]
    return [[*call, "--epochs", "1", "--no-calibrate", "-o", "out", "--json"]]


def near(rng: random.Random, default: str) -> str:
    """The default of a setting, or another number of its kind."""
    value = json.loads(default)
    if isinstance(value, bool):
        return json.dumps(not value)
    if isinstance(value, int):
        return str(max(0, value + rng.choice((-1, 0, 1))))
    return str(value * rng.choice((0.5, 0.9, 1, 1.5))) if isinstance(value, float) else default


def yaml_files(place: Place) -> list[Call]:
    rng = place.rng
    if rng.random() < 0.4:
        good = {"n_clusters": 3, "method": "cdc", "seed": 1, "cdc": {"epochs": 2, "cells": 4}, "views": {"flip": 0.5}}
        text = yaml.safe_dump(edited(rng, good), allow_unicode=True) if rng.random() < 0.6 else nested(rng)
        content = text.encode("utf-8", "surrogateescape")
        content = damaged(rng, content) if rng.random() < 0.3 else content
        path = place.file("config.yaml", content)
        if rng.random() < 0.05:
            put_special(rng, place.here / path)
        return [["fit", place.source(), "--config", path, "--dry-run"]]
    kind = rng.choice(("vectors", "pixels"))
    path = place.run(kind) / "run.yaml"
    how = rng.random()
    if how < 0.6:
        path.write_text(yaml.safe_dump(edited(rng, yaml.safe_load(path.read_text())), allow_unicode=True))
    elif how < 0.75:
        path.write_bytes(damaged(rng, path.read_bytes()))
    elif how < 0.9:
        path.write_text(rng.choice(("", path.read_text())) + nested(rng), encoding="utf-8")
    elif how < 0.95:
        path.write_text(path.read_text().replace("vectors", "Größe").replace("pixels", "Größe"), encoding="latin-1")
    else:
        put_special(rng, path)
    return place.after(kind)


def an_array(rng: random.Random) -> np.ndarray:
    """An array of any dtype and shape."""
    shape = rng.choice(SHAPES)
    generator = np.random.default_rng(rng.randrange(2**32))
    if rng.random() < 0.3:
        return generator.normal(size=rng.choice(((40, 8), (12, 8, 8)))).astype(rng.choice(("f4", "f8", ">f4", "f2")))
    kind = rng.choice(("f4", "f8", "f2", "u1", "i1", "u2", "i2", "i4", "i8", "u8", "?", ">f4", ">i2", "c8", "O", "U5"))
    values = generator.normal(size=shape) * rng.choice((1, 1, 100, 1e6, 1e-6, 1e30)) + rng.choice((0, 0, 1e9))
    if values.size and rng.random() < 0.4:
        flat = values.reshape(-1)
        flat[generator.integers(0, flat.size, rng.choice((1, 3, flat.size)))] = rng.choice(
            (np.nan, np.inf, -np.inf, 1e38, 0.0, 1e300)
        )
    with np.errstate(all="ignore"):
        if kind.endswith(("u1", "u2", "u8", "i1", "i2", "i4", "i8")):
            return np.nan_to_num(values * 50).astype(np.int64).astype(kind)
        return values.astype(kind)


def arrays(place: Place) -> list[Call]:
    rng = place.rng
    buffer = io.BytesIO()
    name = rng.choice(("a.npy", "a.npy", "a.npz", "a.npy.npz", "a.NPY"))
    array = an_array(rng)
    if rng.random() < 0.1:
        array = np.array([(1, 2.0)] * 5, dtype=[("a", "i4"), ("b", "f4")])
    zipped = name.endswith("z") != (rng.random() < 0.1)
    if zipped:
        names = rng.sample(["images", "x", "data", "labels", "y", "embeddings", "arr_0", ""], rng.choice((1, 1, 2)))
        np.savez(buffer, **{n or "a": rng.choice((array, an_array(rng))) for n in names})
    else:
        np.save(buffer, np.asfortranarray(array) if rng.random() < 0.2 else array)
    content = buffer.getvalue()
    if rng.random() < 0.35:
        content = damaged(rng, content[:200]) + content[200:] if rng.random() < 0.5 else damaged(rng, content)
    return place.use(place.file(name, content), rng.choice(("vectors", "pixels")))


def a_column(rng: random.Random, n: int) -> pa.Array:
    """A column of any type."""
    numbers = [rng.gauss(0, 1) for _ in range(n)]
    makers: list[Callable[[], pa.Array]] = [
        lambda: pa.array(numbers, pa.float32()),
        lambda: pa.array(numbers),
        lambda: pa.array([None if i % 3 == 0 else x for i, x in enumerate(numbers)]),
        lambda: pa.array(range(n)),
        lambda: pa.array([f"item {i}" for i in range(n)]),
        lambda: pa.array([i % 2 == 0 for i in range(n)]),
        lambda: pa.array([[x, 1.0, -x] for x in numbers]),
        lambda: pa.array([[x] * (i % 3) for i, x in enumerate(numbers)]),
        lambda: pa.FixedSizeListArray.from_arrays(pa.array(numbers * 3, pa.float32()), 3),
        lambda: pa.array([{"bytes": b"\x89PNG\r\n", "path": "a"} for _ in range(n)]),
        lambda: pa.array([rng.randbytes(5) for _ in range(n)]),
        lambda: pa.nulls(n),
        lambda: pa.array(["a", "b"] * (n // 2) + ["c"] * (n % 2)).dictionary_encode(),
        lambda: pa.array(range(n)).cast(pa.timestamp("s")),
        lambda: pa.array(range(n)).cast(pa.decimal128(30, 2)),
        lambda: pa.array([[["x"]]] * n),
        lambda: pa.array(numbers).cast(pa.float16(), safe=False),
    ]
    return rng.choice(makers)()


def tables(place: Place) -> list[Call]:
    rng = place.rng
    pool = ["id", "x", "y", "label", "embedding", "vector", "image", "file_name", "path", "", "0", "1", "Unnamed: 0"]
    n = rng.choice((0, 1, 2, 40, 40))
    names = rng.choices(pool, k=rng.choice((0, 1, 2, 3, 6)))
    buffer = io.BytesIO()
    if rng.random() < 0.4:
        content = (place.base / "vectors.parquet").read_bytes()
    else:
        columns = [a_column(rng, n) for _ in names]
        made = pa.Table.from_arrays(columns, names=names)
        if rng.random() < 0.2:
            made = made.replace_schema_metadata({rng.choice(("pandas", "huggingface")): nested(rng)})
        pq.write_table(made, buffer, row_group_size=rng.choice((None, 7)))
        content = buffer.getvalue()
    if rng.random() < 0.5:
        content = damaged(rng, content)
    return place.use(place.file(rng.choice(("t.parquet", "t.parquet", "t.pq", "t.csv")), content), "vectors")


def pictures(place: Place) -> list[Call]:
    rng = place.rng
    folder = place.here / "in" / "photos"
    folder.mkdir(parents=True)
    generator = np.random.default_rng(rng.randrange(2**32))
    harm = rng.choice((0, 0, 0.1, 0.5))
    for number in range(rng.choice((0, 1, 3, 8, 8, 8))):
        side = rng.choice(((8, 8), (8, 8), (1, 1), (64, 3), (9, 8)))
        mode = rng.choice(("RGB", "RGB", "L", "RGBA", "P", "1", "LA", "CMYK", "I;16", "F", "I"))
        values = generator.integers(0, 256, (*side, 3), dtype=np.uint8)
        if mode in ("F", "I", "I;16"):
            dtype = {"F": np.float32, "I": np.int32, "I;16": np.uint16}[mode]
            image = Image.fromarray(values[..., 0].astype(dtype) * (1 if mode == "F" else 100))
        else:
            image = Image.fromarray(values).convert(mode)
        form = rng.choice(("PNG", "PNG", "JPEG", "TIFF", "GIF", "BMP", "WEBP", "PPM"))
        buffer = io.BytesIO()
        try:
            image.save(buffer, form)
        except (OSError, ValueError, KeyError):
            image.convert("RGB").save(buffer, form)
        content = damaged(rng, buffer.getvalue()) if rng.random() < harm else buffer.getvalue()
        ending = form.lower() if rng.random() < 0.8 else rng.choice(("jpg", "png", "PNG", "", "txt", "heic"))
        stem = rng.choice((f"{number}", f"ü{number}", f"a\n{number}", f"<b>{number}", f"{'x' * 240}{number}"))
        name = os.fsencode(f"{stem}.{ending}") if rng.random() < 0.95 else b"\xff\xfe%d.png" % number
        inside = folder / rng.choice(("", "a", "a/b", ".hidden"))
        inside.mkdir(parents=True, exist_ok=True)
        with open(os.path.join(os.fsencode(inside), name), "wb") as file:
            file.write(content)
    if rng.random() < 0.15:
        put_special(rng, folder / rng.choice(("z.png", "a", "z.jpg")))
    if rng.random() < 0.1:
        (folder / "loop").symlink_to("..")
    source = "in/photos"
    if rng.random() < 0.1:
        files = [path for path in folder.rglob("*") if path.is_file()]
        source = str(files[0].relative_to(place.here)) if files else source
    return place.use(source, "pixels")


def labels(place: Place) -> list[Call]:
    rng = place.rng
    kind = rng.choice(("vectors", "pixels"))
    place.run(kind)
    rows = [line.split(",") for line in (place.base / f"{kind}.csv").read_text().split()]
    ids = [row[0] for row in rows[1:]]
    values: list[Any] = [rng.choice(("a", "b", "c", "0", "", "NaN", None, "1.0", "ü")) for _ in ids]
    judged = rng.random() < 0.4
    head = [
        rng.choice(("id", "id", "filename", "image", "", "Index")),
        rng.choice(("label", "label", "class", "right")),
    ]
    if judged:
        values = [rng.choice(("true", "false", "", "1", "0", "-1", "2", "99", "a")) for _ in ids]
    if rng.random() < 0.3:
        rng.shuffle(ids)
    if rng.random() < 0.3:
        ids, values = ids[: rng.randrange(len(ids))], values[: rng.randrange(len(ids))]
    if rng.random() < 0.1 and ids:
        ids[0] = ids[-1]
    form = rng.choice(("csv", "csv", "csv", "json", "npy", "parquet", "txt", "tsv"))
    if form == "json":
        content = json.dumps(rng.choice((dict(zip(ids, values, strict=False)), values, {"a": [1]}, [[1]], 5))).encode()
        content = nested(rng).encode() if rng.random() < 0.15 else content
    elif form == "npy":
        buffer = io.BytesIO()
        np.save(buffer, rng.choice((an_array(rng), np.arange(len(ids)), np.array([str(v) for v in values]))))
        content = buffer.getvalue()
    elif form == "parquet":
        buffer = io.BytesIO()
        n = min(len(ids), len(values))
        pq.write_table(
            pa.table({head[0]: ids[:n], head[1]: [None if v is None else str(v) for v in values[:n]]}), buffer
        )
        content = buffer.getvalue()
    else:
        comma = rng.choice((",", ",", ";", "\t", " "))
        lines = [comma.join(head)] if rng.random() < 0.8 else []
        lines += [f"{i}{comma}{'' if v is None else v}" for i, v in zip(ids, values, strict=False)]
        text = rng.choice(("\n", "\n", "\r\n", "\r")).join(lines)
        text = text.replace(ids[0], f'"{ids[0]}', 1) if ids and rng.random() < 0.1 else text
        content = text.encode(rng.choice(("utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1")), "replace")
    if rng.random() < 0.3:
        content = damaged(rng, content)
    path = place.file(f"labels.{form}", content)
    if rng.random() < 0.05:
        put_special(rng, place.here / path)
    if judged:
        return [["accept", "run", "--judged", path, "--max-error", rng.choice(("0.05", "0.5", "1", "-1", "nan"))]]
    return [["evaluate", "run", "--labels", path, *rng.choice(([], ["--json"]))]]


def model_folders(place: Place) -> list[Call]:
    rng = place.rng
    kind = rng.choice(("vectors", "vectors", "pixels"))
    run = place.run(kind)
    manifest = run / "model" / "manifest.json"
    how = rng.random()
    if how < 0.55:
        text = json.dumps(edited(rng, json.loads(manifest.read_text())), default=str)
        manifest.write_text(text)
    elif how < 0.62:
        manifest.write_text(nested(rng), encoding="utf-8")
    elif how < 0.92:
        path = rng.choice(sorted(path for path in (run / "model").iterdir()))
        content = path.read_bytes()
        edge = min(len(content), rng.choice((8, 300, 5000)))
        path.write_bytes(damaged(rng, content[:edge]) + content[edge:] if rng.random() < 0.6 else damaged(rng, content))
    else:
        put_special(rng, rng.choice([*(run / "model").iterdir(), run / "model"]))
    return place.after(kind)


def run_folders(place: Place) -> list[Call]:
    rng = place.rng
    kind = rng.choice(("vectors", "pixels"))
    run = place.run(kind)
    files = sorted(path for path in run.rglob("*") if path.is_file() and path.name != "run.yaml")
    for path in rng.sample(files, rng.choice((1, 1, 2))):
        how = rng.random()
        if path.suffix == ".json" and how < 0.6:
            path.write_text(json.dumps(edited(rng, json.loads(path.read_text())), default=str))
        elif path.suffix == ".jsonl" and how < 0.6:
            lines = path.read_text().splitlines()
            place_of = rng.randrange(len(lines))
            lines[place_of] = json.dumps(edited(rng, json.loads(lines[place_of])), default=str)
            path.write_text("\n".join(lines) + rng.choice(("", "\n", '\n{"sta')))
        elif path.suffix == ".npz" and how < 0.5:
            with np.load(path) as stored:
                kept = dict(stored)
            name = rng.choice(sorted(kept))
            kept[name] = kept[name][:1] if rng.random() < 0.5 else np.flip(kept[name])[:, None]
            np.savez(path, **kept)
        elif path.suffix == ".parquet" and how < 0.5:
            found = pq.read_table(path)
            column = rng.randrange(found.num_columns)
            changed = a_column(rng, len(found))
            found = rng.choice(
                (
                    found.remove_column(column),
                    found.slice(0, len(found) // 2),
                    found.set_column(column, found.column_names[column], changed),
                    found.append_column(found.column_names[column], changed),
                    found.replace_schema_metadata({"coterie.k": rng.choice(("x", "1", "999999999"))}),
                )
            )
            pq.write_table(found, path)
        elif how < 0.9:
            path.write_bytes(damaged(rng, path.read_bytes()))
        else:
            put_special(rng, path)
    return place.after(kind)


KINDS: dict[str, Callable[[Place], list[Call]]] = {
    "command lines": command_lines,
    "settings": settings,
    "YAML": yaml_files,
    "arrays": arrays,
    "tables": tables,
    "pictures": pictures,
    "labels": labels,
    "model folders": model_folders,
    "run folders": run_folders,
}
