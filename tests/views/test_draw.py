"""Random numbers of several batches at once."""

from __future__ import annotations

import pytest
import torch

from coterie.views import Draw, ViewSettings, make_views
from coterie.views.draw import JoinedDraw
from coterie.views.recipes import RECIPES

SIZES = (7, 5, 7)


def draws(rows: list[torch.Tensor | None]) -> list[Draw]:
    numbered = enumerate(zip(SIZES, rows, strict=True))
    return [Draw(torch.Generator().manual_seed(i), n, own) for i, (n, own) in numbered]


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("family", ["photo", "glyph"])
def test_batches_made_together_have_the_views_that_each_has_alone(family: str, name: str, shared: bool) -> None:
    rows = [torch.arange(1, n, 2) if shared else None for n in SIZES]
    held = [n if own is None else len(own) for n, own in zip(SIZES, rows, strict=True)]
    pixels = torch.Generator().manual_seed(9)
    raws = [torch.randint(0, 256, (n, 3, 16, 12), generator=pixels, dtype=torch.uint8) for n in held]
    settings, mean, std = ViewSettings(), torch.full((3,), 0.4), torch.full((3,), 0.2)
    alone = [
        make_views(raw, [name, name], draw, settings, family, mean, std)
        for raw, draw in zip(raws, draws(rows), strict=True)
    ]
    together = make_views(torch.cat(raws), [name, name], JoinedDraw(draws(rows)), settings, family, mean, std)
    for made, separate in zip(together, zip(*alone, strict=True), strict=True):
        torch.testing.assert_close(made, torch.cat(separate), rtol=1e-4, atol=1e-5)
