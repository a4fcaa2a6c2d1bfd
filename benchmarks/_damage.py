"""How the tries of `_attack_*.py` damage files, trees and texts; all is drawn from one `random.Random`."""

from __future__ import annotations

import contextlib
import copy
import os
import random
import shutil
from pathlib import Path
from typing import Any

HOSTILE: list[Any] = [
    *(None, True, False, -1, 0, 1, 2, 3, 10**9, -(10**9), 10**30, 0.5, -0.5, 1e-30, 1e30, 1e308),
    *(float("nan"), float("inf"), -float("inf"), "", " ", "x", "auto", "-1", "nan", "1e400", "../../x", "/etc/passwd"),
    *("ü\u2028", "<script>alert(1)</script>", "{{ 7 * 7 }}", "a\nb", "x" * 300, "x" * 70_000),
    *([], [1], ["a", None], {}, {"a": 1}, [[[[1]]]], {"a": {"b": {"c": {}}}}),
]


def damaged(rng: random.Random, data: bytes) -> bytes:
    """The bytes of a file after something happened to them."""
    found, n = bytearray(data), max(len(data), 1)
    how = rng.randrange(9)
    if how == 0:
        for _ in range(rng.choice((1, 1, 3, 30))):
            place = rng.randrange(n)
            found[place : place + 1] = bytes([(found[place] if place < len(found) else 0) ^ (1 << rng.randrange(8))])
    elif how == 1:
        del found[rng.randrange(n) :]
    elif how == 2:
        start = rng.randrange(n)
        found[start : start + rng.choice((1, 16, 512))] = bytes(rng.choice((1, 16, 512)))
    elif how == 3:
        start, to = rng.randrange(n), rng.randrange(n)
        found[to:to] = found[start : start + rng.choice((4, 64, 4096))]
    elif how == 4:
        start = rng.randrange(n)
        found[start:start] = rng.randbytes(rng.choice((1, 8, 100)))
    elif how == 5:
        start = rng.randrange(n)
        del found[start : start + rng.choice((1, 8, 100))]
    elif how == 6:
        found = bytearray(rng.randbytes(rng.choice((0, 1, 50, 5000))))
    elif how == 7:
        start = rng.randrange(n)
        found[start : start + 4] = rng.choice((b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x00\x00\x00\x80"))
    else:
        found += rng.choice((b"\x00" * 9, b"\n", b"junk", bytes(data[: n // 2])))
    return bytes(found)


def edited(rng: random.Random, tree: Any) -> Any:
    """A tree of plain values with one to three entries exchanged, deleted, added or renamed."""
    tree = copy.deepcopy(tree)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        places: list[tuple[Any, Any]] = []
        waiting = [tree]
        while waiting:
            value = waiting.pop()
            inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
            for key, entry in inner:
                places.append((value, key))
                waiting.append(entry)
        if not places:
            return rng.choice(HOSTILE)
        above, key = rng.choice(places)
        how = rng.randrange(8)
        if how == 0:
            del above[key]
        elif how == 1 and isinstance(above, dict):
            above[rng.choice(["x", "", "a.b", "../x", 1, None])] = above.pop(key)
        elif how == 2 and isinstance(above[key], int | float) and not isinstance(above[key], bool):
            above[key] = rng.choice((-above[key], above[key] + 1, above[key] * 1e6, str(above[key]), [above[key]]))
        elif how == 3 and isinstance(above[key], list):
            above[key] = above[key] * rng.choice((2, 50)) + [rng.choice(HOSTILE)]
        else:
            above[key] = rng.choice(HOSTILE)
    return tree


def nested(rng: random.Random) -> str:
    """YAML (most of it JSON, too) that is deep, large when written out, tagged, or not quite YAML."""
    deep = rng.choice((30, 60, 2000, 20_000))
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 8)}]\n" for i in range(1, rng.choice((3, 9, 30)))
    )
    return rng.choice(
        (
            "[" * deep + "]" * deep,
            '{"a": ' * deep + "1" + "}" * deep,
            bomb,
            "a: &a [*a]",
            "a: !!python/object/apply:os.system ['echo']",
            "a: !!timestamp x",
            "? [1]\n: 2",
            "a: 1" + "0" * 5000,
            "\ta: 1",
            "a: b: c",
            "%YAML 9.9\n---\na: 1\n...\n---\nb: 2",
            "a: *b",
            "<<: {a: 1}",
            "",
            "\ufeffn_clusters: 3",
            "# nothing",
        )
    )


def put_special(rng: random.Random, path: Path) -> None:
    """Something else in the place of a file."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    how = rng.randrange(6)
    if how == 0:
        os.mkfifo(path)
    elif how == 1:
        path.mkdir()
    elif how == 2:
        path.symlink_to(path.name)
    elif how == 3:
        path.symlink_to("/dev/zero")
    elif how == 4:
        path.symlink_to("nowhere")
    else:
        path.write_bytes(b"")
