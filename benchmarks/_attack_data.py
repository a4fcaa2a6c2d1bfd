"""Odd, damaged and hostile data: arrays, tables, pictures, labels."""

from __future__ import annotations

import io
import json
import os
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from _attack_place import Call, Place
from _damage import damaged, nested, put_special
from PIL import Image

SHAPES: list[tuple[int, ...]] = [
    *((40, 8), (40, 8), (40, 1), (40,), (0, 8), (40, 0), (1, 8), (12, 8, 8), (12, 1, 8, 8), (12, 8, 8, 3)),
    *((12, 3, 8, 8), (12, 8, 8, 4), (12, 2, 2, 2, 2), (), (8, 8), (2, 100_000), (12, 5, 9, 7)),
]


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
