"""An encoder as the backbone of a net that is trained on."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from coterie.encoders.loading import whole_net
from coterie.encoders.opening import wanted_by
from coterie.encoders.resolving import CPU
from coterie.networks.backbones import BackboneChoice, Start, build_backbone
from coterie.types import Encoding, InputError, ItemSpec

CLOSE = 1e-3  # cosine distance of the backbone's features from the encoder's embeddings


def start_of_encoder(encoding: Encoding, spec: ItemSpec, device: str) -> Start:
    """The backbone with the weights of the encoder that made such embeddings; `spec` are pictures as it sees them.

    Raises InputError where the encoder is not to be had, has other weights by now, or is no plain net of timm's, whose
    embedding is what it gives without its classifier.
    """
    asked = wanted_by(encoding, device)
    if encoding.pooling != "own":
        raise InputError(
            f"The embeddings were pooled by {encoding.pooling}, and only an encoder with its own pooling can be "
            "trained on: embed without --pooling first."
        )
    net, found = whole_net(replace(asked, pooling="own", device=CPU))
    if found.weights != encoding.weights:
        raise InputError(
            f"The encoder {encoding.encoder} has other weights by now than those that the run was fitted with: fit it "
            "again."
        )
    choice = BackboneChoice(encoding.model, f"the encoder {encoding.encoder}")
    refused = InputError(f"The encoder {encoding.encoder} cannot be trained on: it is no plain net of timm's.")
    try:
        trunk = build_backbone(choice.name, spec)
        trunk.load_state_dict(net.state_dict())
    except (InputError, RuntimeError, TypeError) as error:
        raise refused from error
    if _distance(trunk, net, spec) > CLOSE:
        raise refused
    return Start(choice, {name: value.clone() for name, value in trunk.state_dict().items()}, [])


@torch.inference_mode()
def _distance(trunk: torch.nn.Module, net: torch.nn.Module, spec: ItemSpec) -> float:
    """The largest difference of two nets' embeddings of two synthetic pictures."""
    probe = torch.linspace(-1, 1, 3 * spec.height * spec.width).reshape(1, 3, spec.height, spec.width)
    probe = torch.cat([probe, probe.flip(2).roll(1, 1)])
    answers: list[Tensor] = [part.eval()(probe) for part in (trunk, net)]
    if answers[0].shape != answers[1].shape or answers[0].ndim != 2:
        return 2.0
    return float((1 - torch.cosine_similarity(answers[0].double(), answers[1].double())).max())
