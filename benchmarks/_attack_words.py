"""Odd and hostile words: command lines, settings, configurations and records in YAML."""

from __future__ import annotations

import json
import random

import yaml
from _attack_place import Call, Place
from _damage import HOSTILE, damaged, edited, nested, put_special

from coterie.catalogue import method_class

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
