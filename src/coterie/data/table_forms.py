"""What kind of column each of a Parquet table is, by its type and, where that says too little, its first cells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from coterie.data.column_words import Form
from coterie.data.feature_columns import Table
from coterie.data.parquet import pandas_index
from coterie.data.reading import reading

# How the files begin that Pillow may read: PNG, JPEG, GIF, BMP, WebP, TIFF.
_PICTURES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"RIFF", b"II*\0", b"MM\0*")


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
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        inner = kind.value_type
        numeric = (
            types.is_floating(inner) or types.is_integer(inner) or types.is_decimal(inner) or types.is_boolean(inner)
        )
        return "list" if numeric else "other"
    return "picture" if bytes_of(kind) is not None and _holds_pictures(file, field, path) else "other"


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
    return "" if types.is_binary(kind) or types.is_large_binary(kind) else None


def _holds_pictures(file: Any, field: Any, path: Path) -> bool:
    """Whether a column holds encoded pictures: it is called `image`, or its first cell begins like a picture."""
    if field.name == "image":
        return True
    inner = bytes_of(field.type)
    with reading(f"Column {field.name} of {path} cannot be read"):
        for batch in file.iter_batches(batch_size=16, columns=[field.name]):
            for cell in batch.column(field.name).to_pylist():
                content = cell.get("bytes") if inner and cell is not None else cell
                if content:
                    return bytes(content[:4]).startswith(_PICTURES)
    return False
