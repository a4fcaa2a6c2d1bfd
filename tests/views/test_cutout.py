"""Cutout against the plain loop."""

from __future__ import annotations

import torch

from coterie.views.cutout import cutout, random_cutout
from coterie.views.draw import Draw


def test_cutout_is_the_plain_loop():
    torch.manual_seed(0)
    b, h, w = 40, 9, 14
    images = torch.rand(b, 3, h, w) + 0.5
    row, column, length = torch.randint(0, h, (b,)), torch.randint(0, w, (b,)), torch.randint(1, 10, (b,))
    got = cutout(images, row, column, length)
    for i in range(b):
        want, half = images[i].clone(), int(length[i]) // 2
        for y in range(max(0, int(row[i]) - half), min(h, int(row[i]) + half)):
            for x in range(max(0, int(column[i]) - half), min(w, int(column[i]) + half)):
                want[:, y, x] = 0
        assert torch.equal(got[i], want)


def test_random_hole_spans_at_most_half_of_the_side():
    images = torch.ones(500, 1, 10, 12)
    holes = random_cutout(images, Draw(torch.Generator().manual_seed(0), 500), longest=16)[:, 0] == 0
    assert int(holes.any(2).sum(1).max()) == 4  # lengths are 1..5, and 5 spans twice floor(5 / 2)
    assert int(holes.any(1).sum(1).max()) == 4
