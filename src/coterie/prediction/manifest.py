"""`manifest.json` of a model: what stands beside the weights, so that the net can be built again without a pickle."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from coterie.calibration import Calibration
from coterie.records.files import read_json, validated
from coterie.records.run import MOST_GROUPS, Entries, Name, Spec, check_finished, check_single
from coterie.types import InputError, ItemSpec
from coterie.views.normalise import RowNorm

FORMAT = 1
LARGEST = 4 << 20  # bytes
PICKLES = {".pt", ".pth", ".pkl", ".pickle", ".bin", ".ckpt", ".joblib"}


@dataclass(frozen=True)
class Manifest:
    """What stands beside the weights: all that is needed to build the net again."""

    format: int
    method: str
    settings: dict[str, Any]
    n_clusters: int
    backbone: str
    spec: ItemSpec
    family: str
    calibration: Calibration | None = None  # of the head `post_hoc`, where the model has one
    row_norm: RowNorm = "none"
    limit: float | None = None  # of embeddings, in deviations; see `views.normalise`
    names: dict[int, str] = field(default_factory=dict)  # of groups, those that were given
    merges: list[tuple[int, int]] = field(default_factory=list)  # a group and the one it was merged into, in order
    enlarge: float = 1.0  # of images in evaluation; see `networks.net.Net`


class ManifestSpec(Spec):
    """The form of an item that a net is built for, so it has a size."""

    kind: Literal["images", "embeddings"]

    @model_validator(mode="after")
    def _has_a_size(self) -> ManifestSpec:
        names = ("channels", "height", "width") if self.kind == "images" else ("dim",)
        for name in names:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if len(self.offset) not in (0, self.dim):
            raise ValueError("offset must have one number per feature")
        if len(self.columns) not in (0, 1, self.dim) or len(set(self.columns)) < len(self.columns):
            raise ValueError(f"columns has {len(self.columns)} names for {self.dim} features, or a name twice")
        if self.spaces and sum(space.dim for space in self.spaces) != self.dim:
            raise ValueError(f"spaces do not add up to {self.dim} features")
        return self


Group = Annotated[int, Field(ge=0, lt=MOST_GROUPS)]


class ManifestEntries(Entries):
    """What `manifest.json` must say, before a net is built from it."""

    format: int
    method: Name
    settings: dict[str, Any]
    n_clusters: Annotated[int, Field(ge=2, le=MOST_GROUPS)]
    backbone: Name
    spec: ManifestSpec
    family: Literal["photo", "glyph", "vector"]
    calibration: dict[str, Any] | None = None
    row_norm: Name = "none"
    limit: Annotated[float, Field(gt=0)] | None = None
    enlarge: Annotated[float, Field(ge=1, le=8)] = 1.0
    names: dict[str, Name] = Field(default_factory=dict)
    merges: list[Annotated[list[Group], Field(min_length=2, max_length=2)]] = Field(default_factory=list)

    @model_validator(mode="after")
    def _has_the_groups(self) -> ManifestEntries:
        named = [int(group) if group.isdecimal() else -1 for group in self.names]
        merged = [group for pair in self.merges for group in pair]
        if any(not 0 <= group < self.n_clusters for group in (*named, *merged)):
            raise ValueError(f"names and merges must be of groups 0 to {self.n_clusters - 1}")
        return self


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a model folder. Raises InputError for one that is missing, damaged or of another format.

    A folder with a pickle is refused: whoever loads a pickle runs what is in it.
    """
    if not folder.is_dir():
        raise InputError(f"There is no model at {folder}: give a run folder or a folder that Clusterer.save wrote.")
    pickles = sorted(p.name for p in folder.iterdir() if p.suffix in PICKLES)
    if pickles:
        raise InputError(
            f"{folder} holds {pickles[0]}, a pickle, which could run code: coterie does not load such folders."
        )
    path = folder / "manifest.json"
    if not os.path.lexists(path):
        check_finished(folder)
        check_single(folder)
        raise InputError(f"There is no model in {folder}, for its manifest.json is missing: fit the model again.")
    try:
        content = read_json(path, LARGEST)
        stated = content.get("format") if isinstance(content, dict) else None
        other_format = isinstance(stated, int) and stated != FORMAT
        if not other_format:
            validated(ManifestEntries, content, str(path))
            return TypeAdapter(Manifest).validate_python(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        reason = f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
    except InputError as error:
        reason = str(error).removeprefix(f"{path} is damaged: ").rstrip(".")
    else:
        raise InputError(
            f"The model in {folder} has format {stated}, this version of coterie reads {FORMAT}: fit it again."
        )
    raise InputError(
        f"There is no model in {folder}, for its manifest.json is damaged ({reason}): fit the model again."
    )
