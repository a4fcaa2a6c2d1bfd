"""Stage 0: what one stage hands to the next. Imports nothing of coterie; every folder may import it.

May not live here: anything that computes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

Kind = Literal["images", "embeddings"]
Family = Literal["photo", "glyph", "vector"]


class CoterieError(Exception):
    """Base of all errors that coterie raises on purpose; the message is one sentence for the user."""


class InputError(CoterieError, ValueError):
    """The user's input is wrong (a file, a row, a setting). The command line exits with 2."""


class RunFailed(CoterieError, RuntimeError):
    """A run went wrong (NaN loss, collapse, nothing selected). The command line exits with 1.

    `reason` says what happened and `advice` the next thing to try; both are written to `run.yaml`.
    """

    def __init__(self, reason: str, advice: str) -> None:
        super().__init__(f"{reason} {advice}")
        self.reason, self.advice = reason, advice


@dataclass(frozen=True)
class Encoding:
    """How pictures became embeddings: the encoder, its weights, and what it was shown of a picture.

    New pictures must come through the same one. Pixels from 0 to 1 have `mean` subtracted and are divided by `std`.
    """

    encoder: str = field(compare=False)  # the name that the user gives, or a folder, which is known by its weights
    model: str  # the architecture, by timm's name
    weights: str  # SHA-256 of the weight file
    licence: str  # of the weights
    taught: str  # by what: "ImageNet's labels", "pictures alone"
    size: int  # pixels of the square that the encoder sees
    crop: float = 1.0  # share of the picture's shorter side that this square is of
    squash: bool = False  # the whole picture is pressed into the square; else its middle is taken
    interpolation: str = "bicubic"
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    pooling: str = "own"  # own: the encoder's; cls, mean, cls+mean: of a vision transformer's tokens
    precision: str = "fp32"  # or bf16, in which numbers differ by a percent
    origin: str = field(default="", compare=False)  # the user's own weight file or folder


@dataclass(frozen=True)
class ItemSpec:
    """The form of one item of a source; a fitted model asks new data to come in the same form.

    images: `channels`, `height`, `width` in pixels, and `low`, `high`: the values of the user's pixels that were mapped
    to 0 and 255, fixed by the whole fitted source; equal where pixels were bytes as they are. embeddings: `dim`,
    `offset`: what is subtracted from every feature before it becomes a float32, empty where nothing is; and, of a
    table, `columns`: the name of every feature or of the one list column, `chosen` by the user or not: if so, a table
    may hold others. Of embeddings that coterie made of pictures, `encoding` says how, and `low` and `high` are those of
    the pictures; of images, `encoding` is of the encoder that the run trained on, which sees them so.
    Of several spaces of features, one after the other, `spaces` holds the form of each, with its `name`.
    """

    kind: Kind
    channels: int = 0
    height: int = 0
    width: int = 0
    dim: int = 0
    low: float = 0.0
    high: float = 0.0
    offset: tuple[float, ...] = ()
    columns: tuple[str, ...] = ()
    chosen: bool = False
    encoding: Encoding | None = None
    spaces: tuple[ItemSpec, ...] = ()
    name: str = ""


@runtime_checkable
class Items(Protocol):
    """The unlabelled data of a source: uint8 images (n, c, h, w) or float32 embeddings (n, d), read by index."""

    @property
    def spec(self) -> ItemSpec: ...

    def __len__(self) -> int: ...

    def take(self, index: Tensor) -> Tensor:
        """Return the rows `index` (int64, on the CPU) as a new CPU tensor: uint8 (b, c, h, w) or float32 (b, d)."""
        ...


@dataclass(frozen=True)
class Skipped:
    """An item that could not be read: its path or row, and why."""

    id: str
    reason: str


@dataclass
class Source:
    """A resolved data source. It has no labels: those are read after training, by `coterie.data.labels`."""

    name: str  # short name for tables: "digits", "photos"
    origin: str  # what the user gave, as text
    items: Items
    ids: Sequence[str]  # one per item: path relative to the folder, or the row number
    fingerprint: str  # hex digest of the content, changes when any item changes; empty where not all was read
    skipped: list[Skipped] = field(default_factory=list)
    outliers: Sequence[int] = ()  # rows that training leaves out
    warnings: list[str] = field(default_factory=list)  # what the user should look at, a sentence each
    notes: list[str] = field(default_factory=list)  # conversions the user should know of, a sentence each
    family: Family = "photo"  # which distortions keep an item's meaning
    family_known: bool = False  # not to be guessed from the pictures
    pictures: Items | None = None  # what the items look like, where they are embeddings of pictures: for the report
    extra: Callable[[], Items] | None = None  # opens items that a method may train on but nobody asks to be grouped
    embedding_seconds: float = 0.0  # how long an encoder would take, of a source that stands for what it would make
    extra_file: str = ""  # where those come from, or would if they were there; "": a source of this kind has none


Losses = Mapping[str, "Tensor"]
"""Named scalar losses of one optimiser step; the engine adds them up, steps, and logs each by its name."""


@runtime_checkable
class Features(Protocol):
    """Extracts the features (n, d) of the whole source when called: evaluation mode, clean view.

    Those of the backbone, or with `by` of another network, such as a teacher's. In float32, or, with `half`, in
    bfloat16 where the stage trains in it: faster, and as exact as the training is. `most`: where there are more items,
    of so many, drawn once and for all (`networks.features.some_rows`).
    """

    def __call__(self, *, half: bool = False, by: nn.Module | None = None, most: int | None = None) -> Tensor: ...


@dataclass
class EpochStart:
    """What a method gets before the batches of an epoch are drawn: `number` epochs were before it.

    `generator` is a CPU generator seeded for this epoch, the same in every process.
    """

    number: int
    features: Features
    generator: torch.Generator
    logged: dict[str, Tensor] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    ended: bool = False

    def log(self, **numbers: Tensor | float) -> None:
        """Record label-free health numbers of this epoch."""
        import torch

        self.logged.update({name: torch.as_tensor(number) for name, number in numbers.items()})

    def warn(self, text: str) -> None:
        """Tell the user a sentence; one that was told before is not told again."""
        self.warnings.append(text)

    def end(self) -> None:
        """Let the stage end with this epoch's first batch: the method's own, label-free stopping criterion holds."""
        self.ended = True


CONFIDENCE_BINS = 50


class Batch:
    """One shuffled batch of views, as seen by one process. It has no labels.

    `batch.index` are the items' rows in the source (global order of this process' share), and every view that the
    method's card names is an attribute: `batch.clean`, `batch.weak`, ... of shape (b, c, h, w) or (b, d), normalised,
    on the device. `progress` is the share of the stage's training that is done (0 to 1) and `generator` a CPU
    generator that is seeded for this batch, the same in every process. `pass_name` is that of the pass that is on, for
    a method that has several in an epoch, and `partners` holds the rows of each kind of partner that it brings.
    `number` batches of the stage came before, `per_epoch` make an epoch, and `all_features()` are those of all items by
    the net as it is now, for what a method renews every so many batches.
    """

    def __init__(
        self,
        index: Tensor,
        views: Mapping[str, Tensor],
        *,
        part_size: int,
        progress: float,
        generator: torch.Generator,
        share: Share,
        pass_name: str = "",
        partners: Mapping[str, Tensor] | None = None,
        number: int = 0,
        per_epoch: int = 1,
        features: Features | None = None,
    ) -> None:
        self.index, self.views, self.part_size, self.share = index, dict(views), part_size, share
        self.progress, self.generator, self.pass_name = progress, generator, pass_name
        self.partners = dict(partners or {})
        self.number, self.per_epoch, self._features = number, per_epoch, features
        self.ended = False
        self.logged: dict[str, Tensor] = {}
        self.counts: Tensor | None = None
        self.histogram: Tensor | None = None

    def __getattr__(self, name: str) -> Tensor:
        try:
            return self.__dict__["views"][name]
        except KeyError:
            raise AttributeError(f"this batch has no view {name!r}") from None

    def parts(self) -> list[slice]:
        """Slices of this process' rows, one for each sub-batch (the scope of one optimiser step)."""
        local, step = len(self.index), max(1, self.part_size // self.share.processes)
        edges = [*range(0, local, step), local]
        # A tail of one row would break batch normalisation, so it joins the sub-batch before it.
        if len(edges) > 2 and edges[-1] - edges[-2] < 2:
            del edges[-2]
        return [slice(a, b) for a, b in pairwise(edges)]

    def log(self, **numbers: Tensor | float) -> None:
        """Record label-free health numbers of this batch; the history shows their mean over the epoch."""
        import torch

        self.logged.update({name: torch.as_tensor(number) for name, number in numbers.items()})

    def count(self, labels: Tensor, k: int) -> None:
        """Record how many items each group gets in this batch; the collapse check adds them up over the epoch."""
        self.counts = labels.bincount(minlength=k)

    def count_confidences(self, confidence: Tensor) -> None:
        """Record top-1 confidences (b,); the history shows how many of an epoch lie in each of 50 bins from 0 to 1."""
        bins = (confidence.float() * CONFIDENCE_BINS).long().clamp(0, CONFIDENCE_BINS - 1)
        self.histogram = bins.bincount(minlength=CONFIDENCE_BINS)

    def record_answers(self, p: Tensor) -> Tensor:
        """Record the probabilities (b, k) of the method's answer: log `confidence`, count groups and confidences.

        Returns the labels (b,), the likeliest group of each item.
        """
        confidence, label = p.detach().max(1)
        self.log(confidence=confidence.mean())
        self.count(label, p.shape[1])
        self.count_confidences(confidence)
        return label

    def all_features(self, *, half: bool = False) -> Tensor:
        """(n, d), evaluation mode, clean views; one pass over the source. `half` as for `Features`."""
        assert self._features is not None, "this batch comes from no training loop"
        return self._features(half=half)

    def normal(self, like: Tensor) -> Tensor:
        """Standard normal numbers of the form of `like` (b, ...), drawn for the global batch: none twice in it."""
        import torch

        # From torch's own generator, which is seeded for this batch alike everywhere: one process keeps its numbers.
        everyone = torch.randn(len(self.index) * self.share.processes, *like.shape[1:])
        return self.mine(everyone).to(like)

    def uniform(self, like: Tensor) -> Tensor:
        """Numbers from -1 to 1 of the form of `like` (b, ...), drawn for the global batch: none twice in it."""
        import torch

        rows = len(self.index) * self.share.processes
        everyone = 2 * torch.rand(rows, *like.shape[1:], generator=self.generator) - 1
        return self.mine(everyone).to(like)

    def end(self) -> None:
        """Let the stage end with this batch: the method's own, label-free stopping criterion holds."""
        self.ended = True

    def end_below(self, tolerance: float, **changed: float | None) -> None:
        """Log a share of the items (None: there is none yet); the stage ends with this batch where it is too small."""
        import torch

        for name, share in changed.items():
            if share is not None:
                self.log(**{name: torch.tensor(share)})
                if share < tolerance:
                    self.end()

    def gather(self, local: Tensor) -> Tensor:
        """All processes' rows, with gradient, so that a loss over the global batch reads as on one machine."""
        return self.share.gather(local)

    def mine(self, everyone: Tensor) -> Tensor:
        """This process' rows of a tensor that `gather` returned."""
        return self.share.mine(everyone)


@runtime_checkable
class Share(Protocol):
    """How a batch is shared among processes (`training.distributed` has the real ones)."""

    processes: int

    def gather(self, local: Tensor) -> Tensor: ...

    def mine(self, everyone: Tensor) -> Tensor: ...


class OneProcess:
    """The share of a run in a single process: everything is mine."""

    processes = 1

    def gather(self, local: Tensor) -> Tensor:
        return local

    def mine(self, everyone: Tensor) -> Tensor:
        return everyone


@dataclass
class Assignments:
    """What prediction hands on: one row per item, in the order of the source."""

    ids: Sequence[str]
    probabilities: torch.Tensor  # float32 (n, k), rows sum to 1
    heads: dict[str, torch.Tensor] = field(default_factory=dict)  # further heads' probabilities, e.g. "clu"
    embedding: torch.Tensor | None = None  # float32 (n, d)
    ood_scores: dict[str, torch.Tensor] = field(default_factory=dict)  # (n,) by name; larger = more in-distribution
