"""What a shell completes after `--method` and `--encoder`. Imports nothing heavy: it runs at every press of Tab."""

from __future__ import annotations

from pathlib import Path


def method_files(incomplete: str) -> list[str]:
    """The methods of the package, by their files; those of other packages would have to be imported."""
    folder = Path(__file__).parents[1] / "methods"
    names = sorted(file.stem for file in folder.glob("*.py") if not file.stem.startswith("_"))
    return [name for name in ["auto", *names] if name.startswith(incomplete)]


def encoder_names(incomplete: str) -> list[str]:
    """The encoders that coterie knows by a short name."""
    from coterie.encoders.catalogue import AUTO, ENTRIES, NONE

    return [name for name in [AUTO, NONE, *(entry.name for entry in ENTRIES)] if name.startswith(incomplete)]
