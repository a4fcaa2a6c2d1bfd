"""The distortions of DAC and DCCM: those of Keras' `ImageDataGenerator` that their code draws."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from coterie.views.draw import Draw
from coterie.views.settings import ViewSettings
from coterie.views.warps import horizontal_flip, turn_and_shift


@dataclass(frozen=True)
class Drift:
    """Turn, shift, zoom, mirror and change the level of photographs, the border's pixels repeated: a recipe of views.

    The amounts of turns, shifts and mirror images are those of `views.turn`, `views.shift` and `views.flip`. `level` is
    added to all pixels, either way, within the image's own range; in the end all are multiplied by `factor`. Keras
    zooms height and width apart, here both alike.
    """

    zoom: float = 0.15  # either way, as a share
    level: float = 0.1  # either way
    factor: float = 0.95

    def __call__(
        self, images: Float[Tensor, "b c h w"], draw: Draw, settings: ViewSettings
    ) -> Float[Tensor, "b c h w"]:
        moved = turn_and_shift(images, draw, settings, self.zoom)
        lowest, highest = images.amin((1, 2, 3), keepdim=True), images.amax((1, 2, 3), keepdim=True)
        moved = moved + draw.uniform(-self.level, self.level)[:, None, None, None]
        moved = torch.minimum(torch.maximum(moved, lowest), highest)
        return horizontal_flip(moved, draw.chance(settings.flip)) * self.factor
