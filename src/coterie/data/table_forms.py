"""What kind of column each of a Parquet table is, by its type and, where that says too little, its first cells."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from coterie.data.column_words import Form
from coterie.data.feature_columns import Table
from coterie.data.parquet import pandas_index
from coterie.data.reading import reading

# How the files begin that `extensions.FORMATS` may read: PNG, JPEG, GIF, BMP, WebP, TIFF, PNM, JPEG 2000, AVIF and HEIC
# (not MP4, which begins as they do), ICO, PSD, QOI.
_PICTURE = re.compile(
    rb"\x89PNG|\xff\xd8\xff|GIF8|BM|RIFF....WEBP|II[*+]\0|MM\0[*+]|P[1-6]\s|\0\0\0\x0cjP  |\xff\x4f\xff\x51"
    rb"|....ftyp(?:avi[fs]|hei[cmsx]|hev[cmsx]|mif1|msf1)|\0\0\x01\0|8BPS|qoif",
    re.DOTALL,
)


def describe(file: Any, path: Path) -> Table:
    """What `choose` needs to know of a table. Raises InputError for a damaged one."""
    schema = file.schema_arrow
    forms = {field.name: _form(file, field, path) for field in schema}
    return Table(str(path), forms, pandas_index(schema))


def _form(file: Any, field: Any, path: Path) -> Form:
    import pyarrow.types as types

    kind = _storage(field.type)
    if types.is_floating(kind) or types.is_decimal(kind):
        return "float"
    if types.is_integer(kind):
        return "integer"
    if types.is_boolean(kind):
        return "boolean"
    if is_list(kind):
        inner = kind.value_type
        numeric = (
            types.is_floating(inner) or types.is_integer(inner) or types.is_decimal(inner) or types.is_boolean(inner)
        )
        return "list" if numeric else "other"
    return "picture" if bytes_of(kind) is not None and _holds_pictures(file, field, path) else "other"


def is_list(kind: Any) -> bool:
    """Whether the cells of this type are lists, in whichever layout."""
    import pyarrow.types as types

    plain = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    return plain or is_list_view(kind)


def is_list_view(kind: Any) -> bool:
    """Whether the cells are lists that may lie in any order, which few of pyarrow's functions take."""
    import pyarrow.types as types

    return bool(types.is_list_view(kind) or types.is_large_list_view(kind))


def _storage(kind: Any) -> Any:
    """The list type inside a tensor column of one axis; other types unchanged."""
    if getattr(kind, "extension_name", "") == "arrow.fixed_shape_tensor":
        return kind.storage_type if len(kind.shape) == 1 else kind
    return kind


def bytes_of(kind: Any) -> str | None:
    """The field that holds the encoded bytes: "bytes" in Hugging Face's {bytes, path}, "" in a binary column."""
    import pyarrow.types as types

    if types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        return "bytes"
    cells = kind.value_type if types.is_dictionary(kind) else kind
    encoded = (types.is_binary, types.is_large_binary, types.is_binary_view)
    return "" if any(is_kind(cells) for is_kind in encoded) else None


def _holds_pictures(file: Any, field: Any, path: Path) -> bool:
    """Whether a column holds encoded pictures: it is called `image`, or one of the first cells begins like one."""
    if field.name == "image":
        return True
    inner = bytes_of(field.type)
    with reading(f"Column {field.name} of {path} cannot be read"):
        for batch in file.iter_batches(batch_size=16, columns=[field.name]):
            cells = batch.column(field.name).to_pylist()
            contents = [cell.get("bytes") if inner and cell is not None else cell for cell in cells]
            if any(contents):
                return any(_PICTURE.match(content[:16]) for content in contents if content)
    return False
