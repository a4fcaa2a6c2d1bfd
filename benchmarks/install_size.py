"""Megabytes that an installation takes, by extra, of what is installed beside this script.

    python benchmarks/install_size.py

Of coterie's own requirements, and of each extra what it adds to them, every distribution is counted with all that it
requires. Whether torch came with CUDA's libraries decides most of it: each build has a record of its own.
"""

from __future__ import annotations

import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import torch
from _measure import write_results
from packaging.requirements import Requirement

LARGEST = 5  # distributions of an extra that are named
LEFT_OUT = {"dev"}  # for those who change coterie


def needed(requirements: list[str]) -> set[str]:
    """The distributions that these requirements bring, themselves included. Raises PackageNotFoundError."""
    found: set[str] = set()
    waiting: list[tuple[Requirement, set[str]]] = [(Requirement(text), set()) for text in requirements]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        requirement, of = waiting.pop()
        if requirement.marker and not any(requirement.marker.evaluate({"extra": extra}) for extra in {"", *of}):
            continue
        key = (requirement.name.lower(), frozenset(requirement.extras))
        if key in seen:
            continue
        seen.add(key)
        found.add(key[0].replace("_", "-"))
        waiting += [(Requirement(text), requirement.extras) for text in distribution(key[0]).requires or []]
    return found


def megabytes(name: str) -> float:
    """What the files of a distribution take, without compiled Python."""
    files = [file for file in distribution(name).files or [] if file.suffix != ".pyc"]
    return sum(file.locate().stat().st_size for file in files if file.locate().exists()) / 1e6


def main() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    base = needed(project["dependencies"])
    sizes = {"": base}
    for extra in sorted(set(project["optional-dependencies"]) - LEFT_OUT):
        try:
            sizes[extra] = needed(project["optional-dependencies"][extra]) - base
        except PackageNotFoundError as missing:
            raise SystemExit(f"The extra {extra} is not installed here ({missing}); install it first.") from missing
    results = {}
    for extra, names in sizes.items():
        taken = {name: round(megabytes(name), 1) for name in names}
        largest = dict(sorted(taken.items(), key=lambda pair: -pair[1])[:LARGEST])
        results[extra] = {"megabytes": round(sum(taken.values()), 1), "distributions": len(taken), "largest": largest}
        print(f"{extra or 'coterie itself':<15} {results[extra]}")
    build = {"version": str(torch.__version__), "cuda": torch.version.cuda}
    name = "install_size" if torch.version.cuda else "install_size_cpu"
    print(write_results(name, "python benchmarks/install_size.py", torch=build, extras=results))


if __name__ == "__main__":
    main()
