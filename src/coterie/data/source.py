"""Whatever the user gives -> a Source."""

from __future__ import annotations

import difflib
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from coterie.common.arguments import are_several
from coterie.common.isolation import in_own_state
from coterie.common.outputs import printable
from coterie.data.addresses import copied, is_address
from coterie.data.array_files import open_array_file
from coterie.data.arrays import open_array
from coterie.data.datasets import open_dataset
from coterie.data.extensions import is_picture, left_out
from coterie.data.family import with_family
from coterie.data.feature_folders import open_features
from coterie.data.files import escaped, path_of, regular_file
from coterie.data.folders import file_picture, folder_pictures, is_table_folder, listed_pictures
from coterie.data.frames import is_frame, take_features
from coterie.data.given import Numbered, Paths, understand
from coterie.data.named import open_named
from coterie.data.named_files import names
from coterie.data.picture_form import Encode, Options
from coterie.data.pictures import Pictures, open_pictures
from coterie.data.reading import ReadingProgress
from coterie.data.spaces import Spaces, open_spaces
from coterie.data.tables import open_table
from coterie.data.vectors import open_vectors, said_of_codes
from coterie.records.features import holds_features
from coterie.types import Encoding, InputError, ItemSpec, Source

SourceKind = Literal["named", "features", "folder", "picture", "array", "table"]
# Tables, and what of pandas reads them.
TABLES = {".csv": "read_csv", ".tsv": "read_table", ".txt": "read_table", ".xlsx": "read_excel", ".ods": "read_excel"}
TABLES |= {".feather": "read_feather", ".arrow": "read_feather", ".orc": "read_orc", ".jsonl": "read_json"}


@in_own_state
def open_source(
    source: Any,
    *,
    like: ItemSpec | None = None,
    image_size: int | None = None,
    channels: int | None = None,
    cache: Path | None = None,
    memory_limit: int = 2 << 30,
    max_skipped: float = 0.2,
    workers: int | None = None,
    progress: ReadingProgress | None = None,
    family: Literal["auto", "photo", "glyph"] | None = None,
    columns: str | Sequence[str] | None = None,
    encode: Encode | None = None,
    shown: Encoding | None = None,
    alone: bool = False,
) -> Source:
    """Open a folder of images, a .npy, .npz or .parquet file, a folder of .parquet files, a named set, an array, a
    tensor, a DataFrame, a list of pictures or of their paths, or a torch Dataset (`given.py` says what else).

    A table (.parquet, or a DataFrame of pandas or polars): see `feature_columns`; `columns` chooses its features.
    Two-dimensional arrays are embeddings; images are (n, h, w), (n, h, w, c) or (n, c, h, w) with 1, 3 or 4 channels.
    If both axes could be the channels, a NumPy array has them last and a torch tensor first.

    Form: `like` (what a fitted model asks for), else grey if all images are, RGB otherwise (or `channels`), and one
    size: `image_size` squared; else their own if all have the same of at most 96 pixels a side; else 64 squared if
    the median of the shorter sides is under 128 pixels, and 128 squared from there on. Other sizes are scaled to
    cover it and centre-cropped. Transparency becomes white, EXIF rotation is applied, the first frame stands for an
    animation. Values of more than 8 bits (integers, floats, 16- and 32-bit files) are brought to 0 to 255 by one scale
    for the whole source, which a note names: see `data.pixel_values`. `progress` hears how far the reading of pictures
    is. `family`: which distortions keep a picture's meaning in training; "auto" guesses it for small grey ones, as None
    does without `like`. `encode` makes embeddings of pictures, see `coterie.encoders`; `shown` decodes
    them as an encoder sees them.

    Room: images that take more than `memory_limit` bytes decoded lie in a memory map below `cache`, or, without a
    cache or the disk space, are decoded by `workers` threads whenever they are used. A second run with the same files
    (paths, sizes, times of change) takes the map as it is.

    Images that cannot be read are listed in `Source.skipped`; more than the share `max_skipped` of them, less than two
    images (one with `like`, or `alone`, where nothing is clustered), and all other bad input raises InputError. Nothing
    is ever written next to the data.
    """
    asked = columns if columns is None or isinstance(columns, str) else _texts(columns)
    how = (like, image_size, channels, cache, memory_limit, max_skipped, workers)
    options = Options(*how, columns=asked, encode=encode, shown=shown, alone=alone)
    if progress is not None:
        options = replace(options, progress=progress)
    opened = open_as_asked(source, options)
    return with_family(opened, family or "auto") if family or like is None else opened


def _texts(columns: Any) -> tuple[str, ...]:
    """Names of columns, one by one. Raises InputError."""
    if are_several(columns):
        named = tuple(columns)
        if all(isinstance(name, str) for name in named):
            return named
    raise InputError(f"columns is {repr(columns)[:80]}: it takes a text, or a list of texts.")


def open_as_asked(source: Any, options: Options) -> Source:
    """As `open_source`, with the options in one object; pictures of unknown family count as photographs.

    Raises InputError.
    """
    if is_address(source):
        copy = copied(source, options.progress)
        opened = open_as_asked(os.fspath(copy.path), options)
        opened.origin = printable(source.partition("?")[0])
        opened.notes.insert(0, copy.said)
        return opened
    if isinstance(source, Spaces):
        alone = replace(options, encode=None)
        return _legible(
            open_spaces(source, options.like, lambda part, like: open_as_asked(part, replace(alone, like=like)))
        )
    if options.like is not None and options.like.spaces:
        raise InputError(
            f"The run was fitted on {len(options.like.spaces)} spaces of features, and one was given: give as many, in "
            "the same order (--features A --features B; coterie.Spaces in Python)."
        )
    features = None
    if is_frame(source):
        source, features = take_features(source, options)
    given = understand(source)
    table = isinstance(given, str) and (Path(given).suffix.lower() == ".parquet" or is_table_folder(Path(given)))
    if options.columns is not None and features is None and not table:
        raise InputError("columns choose the features of a table (.parquet or a DataFrame), and this source is none.")
    if isinstance(given, str):
        return _legible(_open_path(given, options))
    if isinstance(given, Paths):
        return _legible(open_pictures(listed_pictures(given.paths), options))
    if isinstance(given, Numbered):
        return open_dataset(given, options)
    origin = f"{given.name} of shape {given.array.shape} and dtype {given.array.dtype}"
    if features is None or given.array.ndim != 2:
        return open_array(given.array, options, name=given.name, origin=origin, channels_first=given.channels_first)
    names = tuple(features.names)
    opened = open_vectors(given.array, options, name=given.name, origin=origin, columns=names, chosen=features.chosen)
    opened.notes[:0] = features.notes
    if options.like is None and not features.chosen:
        values = np.asarray(given.array, np.float64) if given.array.dtype.kind == "O" else given.array
        opened.warnings += said_of_codes(values, names, given.name)
    return opened


def _legible(source: Source) -> Source:
    """The source with a name and an origin that can be written as UTF-8."""
    source.name, source.origin = printable(source.name), printable(source.origin)
    return source


def _open_path(text: str, options: Options) -> Source:
    kind, path = place_of(text, one=options.like is not None)
    if kind == "named":
        source = open_named(text, options)
        if path.exists():
            source.notes.append(f"{text} is the named data set; write ./{text} for the file or folder of that name.")
        return source
    if kind == "features":
        return open_features(path, options, origin=text)
    if kind in ("folder", "picture"):
        return open_pictures(pictures_at(kind, path, text), options)
    return open_table(path, options) if kind == "table" else open_array_file(path, options)


def pictures_at(kind: SourceKind, path: Path, text: str) -> Pictures:
    """The pictures of a folder, or the one of a file, that the user calls `text`."""
    return folder_pictures(path, origin=text) if kind == "folder" else file_picture(path, origin=text)


def looked_up(text: str) -> Path:
    """The path that a text means. Raises InputError where nothing is there, unless it names a data set."""
    path, shown = path_of(text), escaped(text)[:200]
    try:
        exists = path.exists()
    except (OSError, ValueError) as error:  # no rights on the way there, a name too long
        why = getattr(error, "strerror", None) or str(error)[:200]
        raise InputError(f"{shown!r} cannot be looked up ({why}); check the path and its rights.") from error
    if not exists and text not in names():
        near = [] if os.path.dirname(text) else difflib.get_close_matches(text.lower(), names(), 1, 0.5)
        hint = f"; did you mean {near[0]}?" if near else ": check the path."
        raise InputError(f"{shown} is no file, no folder and no named data set{hint}")
    return path


def place_of(text: str, *, one: bool) -> tuple[SourceKind, Path]:
    """What a text names: a data set, a folder, a file. `one`: a single picture is allowed. Raises InputError."""
    path, shown = looked_up(text), escaped(text)
    if text in names():
        return "named", path
    if path.is_dir():
        if holds_features(path):
            return "features", path
        return "table" if is_table_folder(path) else "folder", path
    regular_file(path, "The source")
    suffix = path.suffix.lower()
    if is_picture(path.name):
        if not one:
            raise InputError(f"{shown} is a single picture, which cannot be grouped: give the folder that it lies in.")
        return "picture", path
    kinds: dict[str, SourceKind] = {".npy": "array", ".npz": "array", ".parquet": "table"}
    if suffix in TABLES:
        read = f"pandas.{TABLES[suffix]}({path.name!r}{', lines=True' * (suffix == '.jsonl')})"
        if suffix == ".arrow" and not _is_arrow_file(path):
            read = f"datasets.Dataset.from_file({path.name!r})"
        bare = f"; of numbers without a line of column names: numpy.save({path.with_suffix('.npy').name!r}, "
        bare += f"numpy.loadtxt({path.name!r}, delimiter=','))"
        raise InputError(
            f"{text} is no source, for tables are read from .parquet files: make one of it, for example by "
            f"{read}.to_parquet({path.with_suffix('.parquet').name!r})"
            f"{bare if suffix == '.csv' else ''}."
        )
    if suffix not in kinds:
        advice = left_out(Counter([suffix])) if suffix else ""
        why = f" ({advice.removeprefix('1 ')})" if "(" in advice else ""
        raise InputError(
            f"{shown} is no source{why}; give a folder of images or a file that ends in {', '.join(kinds)}."
        )
    return kinds[suffix], path


def _is_arrow_file(path: Path) -> bool:
    """Whether a .arrow file is one that pandas reads: Hugging Face's datasets write the same without an index."""
    try:
        with path.open("rb") as file:
            return file.read(6) == b"ARROW1"
    except OSError:
        return True
