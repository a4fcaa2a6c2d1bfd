"""Net: everything a run has learned, in one module, so that a checkpoint cannot miss a part of it."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from coterie.networks.strided import avoid_overrun
from coterie.types import ItemSpec
from coterie.views.normalise import RowNorm


def run_in(compute: Callable[[Tensor], Tensor], inputs: Tensor, *, half: bool) -> Tensor:
    """`compute(inputs)` in float32, or under bfloat16 autocast with the answer brought back to float32."""
    if inputs.ndim == 4:
        inputs = inputs.contiguous(memory_format=torch.channels_last)
    with torch.autocast(inputs.device.type, dtype=torch.bfloat16, enabled=half):
        answer = compute(inputs)
    return answer.float()


class HalfPrecision(nn.Module):
    """Runs a trunk under bfloat16 autocast and hands out float32.

    Only backbones run in half precision, so heads, losses and K-means need no code to stay in float32.
    """

    def __init__(self, trunk: nn.Module, *, enabled: bool) -> None:
        super().__init__()
        self.trunk, self.enabled = trunk, enabled

    def forward(self, views: Tensor) -> Float[Tensor, "b *d"]:  # noqa: F821, UP037
        # Evaluation is float32 always: what a model predicts must not depend on where it was trained.
        return run_in(self.trunk, views, half=self.enabled and self.training)

    def as_trained(self, views: Tensor) -> Float[Tensor, "b *d"]:  # noqa: F821, UP037
        """The features in the precision of training, whatever the mode: for computations that only steer a training."""
        return run_in(self.trunk, views, half=self.enabled)


class Net(nn.Module):
    """A backbone, the method's heads by name, and the normalisation of the data.

    `net.backbone(view)` -> float32 features of length `net.width`; `net.<head>` is the head of that name.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        trunk: nn.Module,
        spec: ItemSpec,
        mean: Tensor,
        std: Tensor,
        *,
        half: bool,
        row_norm: RowNorm = "none",
        limit: float | None = None,
        enlarge: float = 1.0,
    ) -> None:
        super().__init__()
        self.enlarge = enlarge  # in evaluation: images are made so many times larger, and their middle is looked at
        self.row_norm: RowNorm = row_norm
        self.limit = limit  # deviations, beyond which embeddings are cut off: of a source with rows far outside
        self.spec, self.width = spec, int(cast(int, trunk.num_features))
        if spec.kind == "images":
            trunk = trunk.to(memory_format=torch.channels_last)
        avoid_overrun(trunk)
        self.backbone = HalfPrecision(trunk, enabled=half)
        self.register_buffer("mean", mean.clone())
        self.register_buffer("std", std.clone())
        self.head_names: list[str] = []

    def add(self, heads: Mapping[str, nn.Module]) -> None:
        """Attach a method's heads (and teachers, queues: anything it learns or remembers) under their names."""
        for name, head in heads.items():
            if hasattr(self, name):
                raise ValueError(f"the net already has a part called {name!r}")
            avoid_overrun(head)
            self.add_module(name, head)
            self.head_names.append(name)

    def __getattr__(self, name: str) -> Any:
        """As nn.Module's; written out so that heads, which are found by name, type-check."""
        return super().__getattr__(name)


def hold_statistics(part: nn.Module) -> None:
    """Let batch normalisation use the statistics that it has, and leave them as they are, also while training."""
    for module in part.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


@contextlib.contextmanager
def in_evaluation(*parts: nn.Module) -> Iterator[None]:
    """Within it these parts compute as in prediction: batch normalisation takes its statistics and keeps them."""
    before = [(module, module.training) for part in parts for module in part.modules()]
    for module, _ in before:
        module.training = False
    try:
        yield
    finally:
        for module, training in before:
            module.training = training


def trainable(*parts: nn.Module) -> list[nn.Parameter]:
    """The parameters of these parts that gradients may move, in order; teachers and other fixed ones are left out."""
    return [p for part in parts for p in part.parameters() if p.requires_grad]


def weights_digest(part: nn.Module) -> str:
    """The SHA-256 of all weights and buffers with their names, of a part on the CPU."""
    digest = hashlib.sha256()
    for name, tensor in part.state_dict().items():
        digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()
