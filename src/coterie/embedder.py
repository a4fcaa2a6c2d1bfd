"""`embed`, and `Embed`, the same as a transformer of scikit-learn: pictures -> embeddings by a pretrained encoder."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from coterie.common.arguments import as_whole, path_from, share, text
from coterie.common.isolation import isolated
from coterie.types import InputError

if TYPE_CHECKING:
    from coterie.encoders.resolving import Wanted
    from coterie.types import Source

POOLINGS = ("own", "cls", "mean", "cls+mean")


@isolated
def embed(
    X: Any,
    encoder: str = "auto",
    *,
    weights: str | os.PathLike[str] | None = None,
    image_size: int | None = None,
    pooling: str = "own",
    squash: bool = False,
    device: str = "auto",
    precision: str = "auto",
    output: str | os.PathLike[str] | None = None,
    max_skipped: float = 0.0,
    engine: str = "local",
    workers: int | None = None,
) -> NDArray[np.float32]:
    """Turn pictures, one or more, into embeddings (n, d), float32. X: a folder, file, array, list, torch Dataset.

    encoder: a name of `coterie encoders` or of timm, a folder with config.json and weights, or "auto", the best on this
    computer; weights: a local file of it. image_size, pooling, squash, device, precision: as `coterie embed` has them,
    and what that makes of a picture is in docs/encoders.md. output: a folder to keep them in, where pictures that are
    known are not embedded again; `coterie fit` takes such a folder as a source. max_skipped: the share of pictures that
    may be unreadable and then have no row. engine: "ray" lets `workers` workers of Ray do it, into `output`; X is then
    a path. The embeddings are neither scaled nor centred. Raises InputError for pictures or weights that cannot be
    used.

    >>> import numpy as np
    >>> from coterie import embed
    >>> pictures = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    >>> embed(pictures, "efficientnet-lite0", image_size=32).shape  # the encoder of `coterie[encoder]`
    (3, 1280)
    """
    how = How(encoder, weights, image_size, pooling, squash, device, precision)
    source = embedded(X, how, output, max_skipped=max_skipped, engine=engine, workers=workers)
    return rows_of(source)


@dataclass(frozen=True)
class How:
    """How pictures are to be embedded, as the caller says it: the parameters of `embed`, unchecked."""

    encoder: str = "auto"
    weights: str | os.PathLike[str] | None = None
    image_size: int | None = None
    pooling: str = "own"
    squash: bool = False
    device: str = "auto"
    precision: str = "auto"

    def wanted(self) -> Wanted:
        """The encoder that is meant, on this computer. Raises InputError for what cannot be meant."""
        from coterie.encoders.catalogue import AUTO, NONE
        from coterie.encoders.opening import check_name
        from coterie.encoders.resolving import Wanted
        from coterie.encoders.weights import at_hand_or_refused
        from coterie.training.device import accelerator_for

        if not isinstance(self.encoder, str):
            raise InputError(f"encoder is {self.encoder!r:.80}: it takes a name of `coterie encoders`.")
        check_name(self.encoder)
        if self.encoder == NONE:
            raise InputError(
                "There is nothing to embed without an encoder: `coterie encoders` lists those that there are."
            )
        pooling: Any = text(self.pooling, "pooling")
        if pooling not in POOLINGS:
            raise InputError(f"pooling is {pooling!r}: it is one of {', '.join(POOLINGS)}.")
        precision: Any = text(self.precision, "precision")
        if precision not in ("auto", "bf16", "fp32"):
            raise InputError(f"Unknown precision {precision!r}: use auto, bf16 or fp32.")
        if not isinstance(self.squash, bool | np.bool_):
            raise InputError(f"squash is {self.squash!r:.80}: it takes True or False.")
        size = None if self.image_size is None else as_whole(self.image_size, "image_size")
        if size is not None and not 16 <= size <= 4096:
            raise InputError(f"The size is {size}: an encoder sees between 16 and 4,096 pixels a side.")
        place = accelerator_for(self.device).device
        if self.encoder == AUTO:
            at_hand_or_refused(str(place))  # which one depends on the number of pictures
        weights = None if self.weights is None else os.fspath(path_from(self.weights, "weights"))
        return Wanted(self.encoder, weights, size, bool(self.squash), pooling, place, precision)


def embedded(
    X: Any,
    how: How,
    output: str | os.PathLike[str] | None = None,
    *,
    max_skipped: float,
    progress: Callable[[str, int, int], None] | None = None,
    engine: str = "local",
    workers: int | None = None,
) -> Source:
    """The source of embeddings. Raises InputError where it is no source of pictures."""
    from coterie.encoders import open_items
    from coterie.encoders.opening import Encode
    from coterie.encoders.store import check_own
    from coterie.running.deciding import check_used, place_of
    from coterie.scaling.embedding import spread_of

    wanted = how.wanted()
    output = None if output is None else path_from(output, "output")
    if output is not None:
        check_own(output)
    spread = spread_of(X, output, text(engine, "engine"), workers)
    folder = None if output is None else Path(os.path.abspath(output) if spread else output)
    encode = Encode(wanted, folder, place_of(X), spread=spread, all_kinds=True)
    most = share(max_skipped, "max_skipped")
    source = open_items(X, encode=encode, max_skipped=most, progress=progress, alone=True)
    check_used(encode, source, "there is nothing to embed")
    return source


def rows_of(source: Source) -> NDArray[np.float32]:
    """All embeddings of a source as one array."""
    import torch

    found: NDArray[np.float32] = source.items.take(torch.arange(len(source.items), device="cpu")).numpy()
    return found


class Embed(TransformerMixin, BaseEstimator):
    """Pictures -> embeddings, as a step of a scikit-learn Pipeline before `Clusterer`; see `embed` for the parameters.

    There is nothing to learn: `fit` finds the encoder and says in `encoding_` what it is, and the pictures that come
    after it go through the same encoder. Every picture has a row, so one that cannot be read is an InputError.

    >>> import numpy as np
    >>> from coterie import Embed
    >>> pictures = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    >>> step = Embed("efficientnet-lite0", image_size=32).fit(pictures)
    >>> step.transform(pictures).shape, step.n_outputs_, step.encoding_.taught
    ((3, 1280), 1280, "ImageNet's labels")
    """

    def __init__(
        self,
        encoder: str = "auto",
        *,
        weights: str | os.PathLike[str] | None = None,
        image_size: int | None = None,
        pooling: str = "own",
        squash: bool = False,
        device: str = "auto",
        precision: str = "auto",
    ) -> None:
        self.encoder = encoder
        self.weights = weights
        self.image_size = image_size
        self.pooling = pooling
        self.squash = squash
        self.device = device
        self.precision = precision

    @isolated
    def fit(self, X: Any, y: object = None) -> Embed:
        """Embed X once, to know the encoder and the width. y is ignored."""
        self._embed(X)
        return self

    @isolated
    def transform(self, X: Any) -> NDArray[np.float32]:
        """The embeddings (n, d) of the pictures X, one or more: by the encoder and the scale of values of `fit`."""
        if (spec := getattr(self, "_spec", None)) is None:
            return rows_of(self._embed(X))
        from coterie.encoders import open_items

        return rows_of(open_items(X, like=spec, device=self.device, max_skipped=0.0))

    @isolated
    def fit_transform(self, X: Any, y: object = None) -> NDArray[np.float32]:
        """The same as `fit` and `transform`, with one pass over the pictures."""
        return rows_of(self._embed(X))

    def get_feature_names_out(self, input_features: object = None) -> NDArray[np.object_]:
        """The names of the embeddings' columns. Raises NotFittedError before `fit`."""
        check_is_fitted(self, "n_outputs_")
        return np.array([f"embed{column}" for column in range(self.n_outputs_)], dtype=object)

    def _embed(self, X: Any) -> Source:
        how = How(self.encoder, self.weights, self.image_size, self.pooling, self.squash, self.device, self.precision)
        source = embedded(X, how, max_skipped=0.0)
        spec = source.items.spec
        self._spec, self.encoding_, self.n_outputs_ = spec, spec.encoding, spec.dim
        return source

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.three_d_array = False, True
        tags.requires_fit = False
        tags.no_validation = True
        return tags
