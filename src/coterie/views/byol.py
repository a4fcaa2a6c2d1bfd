"""BYOL's distortions of photographs, which SeCu shares: the contrastive view, some of it solarised."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from coterie.types import Family
from coterie.views.draw import Draw
from coterie.views.recipes import GLYPH, PHOTO, VECTOR, Recipe, View
from coterie.views.settings import ViewSettings
from coterie.views.some_rows import update_rows
from coterie.views.tone import solarise as inverted

JITTER = (0.4, 0.4, 0.2, 0.1)  # brightness, contrast, saturation, hue


def byol_view(blur: float, solarise: float, **settings: Any) -> View:
    """The contrastive view with these chances of blur and of inverting the bright half of all levels.

    Inverting the bright half erases a glyph, and a vector has no levels: both keep their own recipes. `settings` are
    further settings of the recipe.
    """

    def photo(images: Tensor, draw: Draw, wanted: ViewSettings) -> Tensor:
        view = PHOTO["contrastive"](images, draw, wanted)
        middle = torch.full((len(view),), 128 / 255, device=view.device)
        update_rows(view, draw.chance(solarise), inverted, middle)
        return view

    recipes: dict[Family, Recipe] = {"photo": photo, "glyph": GLYPH["contrastive"], "vector": VECTOR["contrastive"]}
    return View(recipes, settings={"jitter": JITTER, "blur": blur, **settings})
