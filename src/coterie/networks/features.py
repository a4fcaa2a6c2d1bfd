"""Stream every item of a source through a net in evaluation mode, without keeping more than one chunk of input."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from coterie.common.isolation import Threads
from coterie.networks.net import HalfPrecision, Net
from coterie.types import Features, Items, ItemSpec
from coterie.views.normalise import normalise
from coterie.views.warps import enlarged_centre

HALF_CHUNKS = 4  # chunks in one pass of half features: each pass turns all weights into bfloat16 anew


def chunk_size(spec: ItemSpec) -> int:
    """Items per forward pass in evaluation: fixed by their form, so that it cannot change a prediction."""
    return 256 if spec.kind == "embeddings" or spec.height * spec.width <= 64 * 64 else 32


def clean(raw: Tensor, net: Net) -> Tensor:
    """The input of evaluation: the `clean` view of raw items, or the middle of enlarged images."""
    items = raw.float().div_(255) if raw.ndim == 4 else raw.float()
    if net.enlarge > 1 and raw.ndim == 4:
        items = enlarged_centre(items, net.enlarge)
    return normalise(items, net.mean, net.std, net.row_norm, net.limit)


def stream(
    net: Net,
    items: Items,
    compute: Callable[[Tensor], Tensor],
    *,
    rows: Tensor | None = None,
    size: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Iterator[Tensor]:
    """Yield `compute(clean view)` chunk by chunk, on the CPU, in order.

    Every chunk has the same number of rows (the last is filled up and cut): matrix products of different shapes may
    round differently, and neither the batch size nor the neighbours may change what is predicted for an item. `size` is
    another number of rows, for what predicts nothing.
    """
    index = torch.arange(len(items)) if rows is None else rows
    size, device = size or chunk_size(net.spec), net.mean.device
    was_training = net.training
    net.eval()
    try:
        with Threads(1) as pool:  # reads the next chunk while this one is computed
            chunks = list(index.split(size))
            ahead = pool.submit(items.take, chunks[0]) if chunks else None
            for number, chunk in enumerate(chunks):
                assert ahead is not None
                raw = ahead.result()
                if number + 1 < len(chunks):
                    ahead = pool.submit(items.take, chunks[number + 1])
                missing = size - len(raw)
                if missing:
                    raw = torch.cat([raw, raw[:1].expand(missing, *raw.shape[1:])])
                with torch.inference_mode():  # not around the yield: the caller would run in it, too
                    computed = compute(clean(raw.to(device), net))[: len(chunk)].cpu()
                yield computed
                if progress is not None:
                    progress(len(chunk))
    finally:
        net.train(was_training)


def some_rows(n: int, most: int | None) -> Int[Tensor, " m"] | None:
    """`most` of n rows in order, drawn at random and always the same ones; None, for all rows, where there are no more.

    Drawn at random, since evenly spaced rows may all be of one kind.
    """
    if most is None or n <= most:
        return None
    return torch.randperm(n, generator=torch.Generator().manual_seed(0))[:most].sort().values


def extract_features(
    net: Net, items: Items, rows: Tensor | None = None, *, half: bool = False, by: nn.Module | None = None
) -> Float[Tensor, "n d"]:
    """Raw output of the backbone for all items (or `rows`), float32 on the CPU; 4·d bytes an item.

    `by` is another network of the net, with features of any length. With `half` it computes as it does in training, in
    bfloat16 where the net trains in it.
    """
    n = len(items) if rows is None else len(rows)
    network = net.backbone if by is None else by
    compute = network.as_trained if half and isinstance(network, HalfPrecision) else network
    size = HALF_CHUNKS * chunk_size(net.spec) if half else None
    features, at = torch.empty(0), 0
    for chunk in stream(net, items, compute, rows=rows, size=size):
        if at == 0:
            features = torch.empty(n, chunk.shape[1])
        features[at : at + len(chunk)] = chunk
        at += len(chunk)
    return features if at else torch.empty(0, net.width)


def features_of(net: Net, items: Items) -> Features:
    """What a method calls for the features of all `items`, by the net as it is when called and on its device."""

    def features(*, half: bool = False, by: nn.Module | None = None, most: int | None = None) -> Tensor:
        found = extract_features(net, items, some_rows(len(items), most), half=half, by=by)
        return found.to(net.mean.device)

    return features
